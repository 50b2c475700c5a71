"""Masked passages after MaskSearch: fill in what was taken out of a text of the world."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from foldgym.envs.chains import normalise
from foldgym.envs.index import Document
from foldgym.envs.transforms.base import Inner, Knob, Play, Transform, allow, of_world
from foldgym.envs.transforms.spans import Span, choose, mask, salient
from foldgym.errors import UnknownName, UserError
from foldgym.search import Document as Passage
from foldgym.seeding import generator
from foldgym.tools import call, call_tool
from foldgym.types import Action, Evidence, Json, Message, Step, Task, Tool

Metric: TypeAlias = Literal["exact", "recall", "f1"]
_FILL = "fill"
_READ = "answers: "
_MASK = re.compile(r"\[\d+\]")


@dataclass(slots=True)
class Masked(Play):
    """What the masks stand for, where to look for each, and what was filled in."""

    golds: list[str] = field(default_factory=list[str])
    queries: list[str] = field(default_factory=list[str])
    asked: int = 0
    filled: list[str] | None = None


class Masks(Transform[Masked]):
    """`k` masks in a passage of the world take the place of its question; its other tools stay.

    A passage is all documents of one subject, or of several until there are `k` salient spans
    (names, dates, numbers, subjects of other documents); the subjects themselves are not masked.
    Works for every world with `documents()`. `score` says what a mask is worth: an exact match, or
    the recall or F1 of its words; the episode's score is their mean.
    """

    knob = Knob("k", (0, 1, 2, 3, 4), 0, 16, "every mask has to be filled", since=1)
    keeps_task = False
    inside = True
    play_type = Masked

    def __init__(
        self,
        env: Inner,
        k: int = 1,
        score: Metric = "exact",
        answer: str = "answer",
        search: str = "search",
        separator: str = ";",
    ) -> None:
        super().__init__(env, k=k, score=score, answer=answer, search=search, separator=separator)
        if score not in ("exact", "recall", "f1"):
            raise UserError(f"score must be 'exact', 'recall' or 'f1', not {score!r}")
        if not separator.strip():
            raise UserError(f"separator must be visible, not {separator!r}")
        self.k, self.answer = k, answer
        self.scored: Metric = score
        self.search, self.separator = search, separator
        if not self.off and of_world(env, "documents") is None:
            raise UserError(
                "masks need a world with documents: a method documents() that returns those of "
                "the episode (foldgym.search.Document, or foldgym.envs.index.Document)"
            )
        if not self.off:
            allow(env, k)

    def longer(self, turns: int) -> int:
        """As many for every mask."""
        return turns * max(1, self.k)

    def offered(self, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
        """Without the tool that answers the world's own question."""
        fill = Tool(
            _FILL,
            f"Fill in all masks, in their order, separated by {self.separator!r}; this ends the "
            "episode.",
            {
                "type": "object",
                "properties": {"answers": {"type": "string"}},
                "required": ["answers"],
            },
            _same,
        )
        return (*(each for each in tools if each.name not in (self.answer, _FILL)), fill)

    def begin(self, now: Masked) -> Task:
        """Draw a passage and its masks."""
        self.env.reset(seed=now.seed, options=dict(now.options))
        inner: Task = self._inner("task")
        documents: Sequence[Document | Passage] = of_world(self.env, "documents")()
        rng = generator(now.seed, "masks")
        passage, spans = self._passage(documents, rng)
        shown, now.golds = mask(passage, choose(spans, self.k, rng))
        if len(now.golds) < self.k:
            raise UserError(
                f"masks: no passage of this world has {self.k} spans to mask; the best has "
                f"{len(now.golds)}; give a smaller k"
            )
        now.queries = [_around(shown, at) for at in range(1, self.k + 1)]
        masks = "the mask [1] stands" if self.k == 1 else f"the masks [1] to [{self.k}] stand"
        listed = "" if self.k == 1 else f", in their order, separated by {self.separator!r}"
        told = f"Find out what {masks} for and fill in with {_FILL}{listed}:\n{shown}"
        prompt = tuple(each for each in inner.prompt if each.role == "system")
        answers = [f"{self.separator} ".join(now.golds)]
        return Task(
            f"{inner.id}-masks{self.k}",
            (*prompt, Message("user", told)),
            answers,
            {"masks": self.k},
        )

    def _passage(
        self, documents: Sequence[Document | Passage], rng: random.Random
    ) -> tuple[str, list[Span]]:
        """Texts of subjects in random order, until enough of them can be masked."""
        by_subject: dict[str, list[str]] = {}
        for each in documents:
            if _MASK.search(each.text):  # a text with [1] in it would be read as masked
                continue
            subject = each.subject if isinstance(each, Document) else each.title or each.id
            by_subject.setdefault(subject, []).append(each.text)
        subjects = list(by_subject)
        rng.shuffle(subjects)
        used: list[str] = []
        lines: list[str] = []
        spans: list[Span] = []
        for subject in subjects:
            used.append(subject)
            lines += dict.fromkeys(by_subject[subject])
            names = {each.casefold() for each in used}
            spans = [
                each
                for each in salient("\n".join(lines), by_subject)
                if self.separator.strip() not in each.text
                and not any(each.text.casefold() in name for name in names)
                and not any(name in each.text.casefold() for name in names)
            ]
            if len(choose(spans, self.k, random.Random(0))) >= self.k:
                break
        return "\n".join(lines), spans

    def respond(self, now: Masked, message: Message) -> Step:
        """The last call of `fill` ends the episode; everything else goes inside."""
        own: dict[int, str] = {}
        failed = 0
        listed = {each.name: each for each in self.tools}
        for place, each in enumerate(message.tool_calls):
            if each.name == _FILL and now.filled is None:
                said = call_tool(listed[_FILL], each.arguments)
                if said.startswith("error:"):
                    own[place], failed = said, failed + 1
                else:
                    pieces = said.removeprefix(_READ).split(self.separator.strip())
                    now.filled = [piece.strip() for piece in pieces][: self.k]
                    right = sum(each >= 1.0 for each in self._worth(now, "exact"))
                    own[place] = f"{right} of {self.k} right"
            elif now.filled is not None:
                own[place] = "error: not run, the episode is over"
            elif each.name == self.answer:
                own[place] = f"error: there is no tool {self.answer!r}; use {_FILL}"
                failed += 1
        now.errors += failed
        if own or message.tool_calls:
            step = self.within(message, own)
        else:
            now.errors += 1
            text = f"error: there is no tool call in your message. Tools: {', '.join(listed)}"
            step = Step((Message("user", text),), 0.0, False, False, {"errors": 1})
        self._count(now, message)
        if now.filled is None:
            return step._replace(reward=0.0)
        return step._replace(reward=self._score(now), terminated=True, truncated=False)

    def _count(self, now: Masked, message: Message) -> None:
        now.asked += sum(each.name == self.search for each in message.tool_calls)

    def _worth(self, now: Masked, metric: Metric) -> list[float]:
        """What each mask is worth; a missing answer is a wrong one."""
        filled = [*(now.filled or []), *[""] * self.k][: self.k]
        return [_METRICS[metric](*pair) for pair in zip(filled, now.golds, strict=True)]

    def _score(self, now: Masked) -> float:
        return sum(self._worth(now, self.scored)) / self.k

    def facts(self, now: Masked, inner: dict[str, Json]) -> dict[str, Json]:
        """`masks` (1.0 where one is right) with the means `recall` and `f1` of their words."""
        exact = self._worth(now, "exact")
        return {
            "score": self._score(now),
            "success": min(exact) >= 1.0,
            "masks": exact,
            "recall": sum(self._worth(now, "recall")) / self.k,
            "f1": sum(self._worth(now, "f1")) / self.k,
        }

    @property
    def experts(self) -> tuple[str, ...]:
        """One that searches once for every mask, and one that searches for all but the last."""
        return super().experts if self.off else ("optimal", "hasty")

    def expert(self, style: str, rng: random.Random) -> Action:
        """Knows what the masks stand for; the hasty player never looks for the last one."""
        now = self.now
        if self.off or now is None:
            return super().expert(style, rng)
        if style not in self.experts:
            raise UnknownName("expert", style, self.experts, "Asked of Masks.")
        todo = self.k if style == "optimal" else self.k - 1
        found = next((each for each in self.tools if each.name == self.search), None)
        parameters = list(found.parameters.get("properties", {})) if found else []
        if now.asked < todo and len(parameters) == 1:
            return call(self.search, **{parameters[0]: now.queries[now.asked]})
        given = [*now.golds[:todo], *["?"] * (self.k - todo)]
        return call(_FILL, answers=f"{self.separator} ".join(given))

    def evidence(self) -> list[Evidence]:
        """None: what the world calls evidence is for its own question."""
        return list(super().evidence()) if self.off else []


def _same(answers: str) -> str:
    return _READ + answers


def _around(shown: str, number: int) -> str:
    """The first line that holds a mask, without any masks: what to search for."""
    line = next(each for each in shown.splitlines() if f"[{number}]" in each)
    return " ".join(_MASK.sub(" ", line).split())[:200]


def _words(text: str) -> Counter[str]:
    return Counter(normalise(text).split())


def exact(given: str, gold: str) -> float:
    """1 if both are the same but for case, blanks and outer punctuation."""
    return float(normalise(given) == normalise(gold))


def recall(given: str, gold: str) -> float:
    """The share of the gold answer's words that were given."""
    wanted = _words(gold)
    return (_words(given) & wanted).total() / max(1, wanted.total())


def f1(given: str, gold: str) -> float:
    """The harmonic mean of recall and precision of the words.

    >>> round(f1("Ada King", "Ada Lovelace King"), 3)
    0.8
    """
    shared = (_words(given) & _words(gold)).total()
    return 2 * shared / max(1, _words(given).total() + _words(gold).total())


_METRICS = {"exact": exact, "recall": recall, "f1": f1}
