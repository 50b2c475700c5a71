"""Distractors: what the world says is padded with text that does not help."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from foldgym.envs.transforms.base import Inner, Knob, Play, Transform, of_world, played
from foldgym.envs.transforms.wording import sentence
from foldgym.errors import UserError
from foldgym.types import Content, Message, Step, Task


class Distractors(Transform[Play]):
    """Every observation gets `words` more words; the question stays as it is.

    They are drawn from texts of the world itself that do not help with the task (worlds with
    `distractions()`, as the search worlds), or `generated`. `place` says where they stand.
    """

    knob = Knob("words", (0, 20, 50, 100, 200), 0, 10_000, "there is more to read")
    play_type = Play

    def __init__(
        self,
        env: Inner,
        words: int = 50,
        source: Literal["generated", "world"] = "generated",
        place: Literal["before", "after"] = "after",
    ) -> None:
        super().__init__(env, words=words, source=source, place=place)
        if source not in ("generated", "world") or place not in ("before", "after"):
            raise UserError(
                "source must be 'generated' or 'world' and place 'before' or 'after', "
                f"not {source!r} and {place!r}"
            )
        if source == "world" and not self.off and of_world(env, "distractions") is None:
            raise UserError(
                "distractors: this world has no texts of its own to distract with (no method "
                "distractions()); use source='generated'"
            )
        self.words, self.source, self.place = words, source, place

    def begin(self, now: Play) -> Task:
        """The task of the world."""
        self.env.reset(seed=now.seed, options=dict(now.options))
        return self._inner("task")

    def respond(self, now: Play, message: Message) -> Step:
        """As inside, padded."""
        step = played(self.env, message)
        padded = tuple(
            replace(each, content=self._padded(each.content, now)) for each in step.observation
        )
        return step._replace(observation=padded)

    def _padded(self, content: Content, now: Play) -> Content:
        noise = self._noise(now)
        if isinstance(content, str):
            parts = (noise, content) if self.place == "before" else (content, noise)
            return "\n".join(parts)
        return (f"{noise}\n", *content) if self.place == "before" else (*content, f"\n{noise}")

    def _noise(self, now: Play) -> str:
        texts: Any = of_world(self.env, "distractions")() if self.source == "world" else ()
        found: list[str] = []
        while len(found) < self.words:
            text = now.rng.choice(texts) if texts else sentence(now.rng)
            found += text.split()
        return " ".join(found[: self.words])
