"""Interruptions after "Are large reasoning models interruptible?": cut, hurried, or updated."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from foldgym.envs.transforms.base import Inner, Knob, Play, Transform, answer_tool, of_world, played
from foldgym.envs.transforms.gold import Gold, answered, replay
from foldgym.envs.transforms.several import question
from foldgym.errors import UserError
from foldgym.seeding import derive_seed
from foldgym.types import Action, Evidence, Json, Message, Step, Task

Mode: TypeAlias = Literal["hard", "soft", "update"]
_TEXTS = {
    "hard": "Stop here and give your final answer now.",
    "soft": "Please hurry: come to your answer as soon as you can.",
    "update": "The question has changed; forget the old one. The new question:",
}
MARKERS: Mapping[str, tuple[str, ...]] = {
    "doubt": ("wait", "are you sure", "contradict", "original question", "ignore the update"),
    "panic": ("no time", "out of time", "quickly", "just guess"),
}
"""Phrases counted in what the agent says after an interruption; replace them by your own."""

_SILENCE = Message("assistant")


@dataclass(slots=True)
class Interrupted(Play):
    """When it comes (after that turn), whether it has come, and what was said before and since."""

    at: int = 0
    come: bool = False
    final: Message = _SILENCE
    words_before: int = 0
    said: list[str] = field(default_factory=list[str])
    last: Message = _SILENCE


class Interrupt(Transform[Interrupted]):
    """After the share `fraction` of the turns that the world's expert takes, a message cuts in.

    `hard` asks for the answer now and ends the episode after `grace` more turns; `soft` only asks
    for haste; `update` changes the question (to another one about the same world if it can make
    such, else to a new episode). At `fraction = 1` nothing happens. `text` replaces the message.
    """

    knob = Knob(
        "fraction", (1.0, 0.75, 0.5, 0.25, 0.0), 0.0, 1.0, "mode hard: less could be found out"
    )
    play_type = Interrupted

    def __init__(
        self,
        env: Inner,
        fraction: float = 0.5,
        mode: Mode = "hard",
        grace: int = 1,
        text: str = "",
        answer: str = "answer",
        markers: Mapping[str, tuple[str, ...]] = MARKERS,
    ) -> None:
        options = {"mode": mode, "grace": grace, "text": text, "answer": answer}
        super().__init__(env, fraction=fraction, **options, markers=markers)
        if mode not in _TEXTS:
            raise UserError(f"mode must be one of {', '.join(_TEXTS)}, not {mode!r}")
        if grace < 1:
            raise UserError(f"grace must be at least 1 turn, not {grace}")
        self.fraction, self.mode, self.grace = fraction, mode, grace
        self.text, self.answer = text or _TEXTS[mode], answer
        self.markers = {name: tuple(phrases) for name, phrases in markers.items()}
        if mode == "hard" and not self.off:
            answer_tool(self._inner("tools"), answer, "interrupt with mode 'hard'")

    def longer(self, turns: int) -> int:
        """An updated question begins from the start."""
        return 2 * turns if self.mode == "update" else turns

    def begin(self, now: Interrupted) -> Task:
        """Find out how long the expert takes; an interruption at 0 stands in the prompt."""
        gold = replay(self.env, now.seed, now.options, "interrupt")
        now.at = int(self.fraction * gold.turns)
        now.final = self._answer(gold)
        self.env.reset(seed=now.seed, options=dict(now.options))
        task: Task = self._inner("task")
        if now.at == 0:
            task = replace(task, prompt=(*task.prompt, *self._cut_in(now)))
        return task

    def _answer(self, gold: Gold) -> Message:
        """What the expert answers in the end, which it could also say at once."""
        if self.mode != "hard":
            return gold.messages[-1]
        _, parameter = answer_tool(self._inner("tools"), self.answer, "interrupt")
        if answered(gold.messages[-1], self.answer, parameter) is None:
            raise UserError(
                f"interrupt: the expert does not end this episode with {self.answer!r}; name the "
                "tool that gives the final answer"
            )
        return gold.messages[-1]

    def _cut_in(self, now: Interrupted) -> tuple[Message, ...]:
        """What is said; an update also changes the world."""
        now.come = True
        text = self.text
        if self.mode == "update":
            make = of_world(self.env, "siblings")
            seed, options = derive_seed(now.seed, "update"), dict(now.options)
            if make:
                seed, options = now.seed, {**options, "task": make(now.seed, 2)[1]}
            self.env.reset(seed=seed, options=options)
            text += f" {question(self._inner('task'), 'interrupt')}"
        return (Message("user", text),)

    def respond(self, now: Interrupted, message: Message) -> Step:
        """As inside, until the interruption comes."""
        step = played(self.env, message)
        words = len(_spoken(message).split())
        now.last = message
        if now.come:
            now.said.append(_spoken(message))
        else:
            now.words_before += words
        if step.terminated or step.truncated:
            return step
        if not now.come and now.turns >= now.at:
            return step._replace(observation=(*step.observation, *self._cut_in(now)))
        if now.come and self.mode == "hard" and now.turns >= now.at + self.grace:
            return step._replace(truncated=True)
        return step

    def facts(self, now: Interrupted, inner: dict[str, Json]) -> dict[str, Json]:
        """What the interruption did to the agent.

        `interrupted`: after how many turns (None: not yet). `words_before` and `words_after`: free
        text per turn, whose ratio, where both are known, is `leakage`. `panic`: the turn right
        after a soft interruption ended the episode without success. `stale`: the last message is
        the expert's answer to the question before its update. `markers` counts phrases.
        """
        after = len(now.said)
        before = now.words_before / max(1, now.turns - after)
        since = sum(len(text.split()) for text in now.said) / max(1, after)
        text = "\n".join(now.said).casefold()
        calls = [(each.name, each.arguments) for each in now.last.tool_calls]
        stale = [(each.name, each.arguments) for each in now.final.tool_calls]
        failed = not inner["success"]
        return {
            "interrupted": now.at if now.come else None,
            "words_before": before,
            "words_after": since,
            "leakage": since / before if after and before else None,
            "panic": self.mode == "soft" and now.over and after == 1 and failed,
            "stale": self.mode == "update" and now.come and bool(calls) and calls == stale,
            "markers": {
                name: sum(text.count(phrase.casefold()) for phrase in phrases)
                for name, phrases in self.markers.items()
            },
        }

    def expert(self, style: str, rng: random.Random) -> Action:
        """The world's expert; when it has to stop, the best one says the answer at once."""
        now = self.now
        best = self.experts[:1] == (style,)
        if self.off or now is None or not (now.come and self.mode == "hard" and best):
            return super().expert(style, rng)
        return now.final

    def evidence(self) -> list[Evidence]:
        """That of the world, but not of a question that has been replaced."""
        replaced = not self.off and self.now is not None and self.now.come
        return [] if replaced and self.mode == "update" else list(super().evidence())


def _spoken(message: Message) -> str:
    return f"{message.thinking} {message.text}".strip()
