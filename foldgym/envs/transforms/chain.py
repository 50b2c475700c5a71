"""Chains after R-Horizon: a later question is only complete once the one before is answered."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from foldgym.envs.transforms.base import Inner, Knob, answer_tool
from foldgym.envs.transforms.gold import answered, replay
from foldgym.envs.transforms.several import Form, Several, Tasks, how, question, system
from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.types import Json, Message, Task

_NUMBER = re.compile(r"(?<![\w.])\d{1,9}(?![\w.])")


@dataclass(frozen=True, slots=True)
class Link:
    """What a question says instead of `key`: the answer to `source` (from 1), plus `shift`.

    >>> Link("What is 3 + 7 ?", "7", 8, 1, 2).asked
    'What is 3 + (the answer to question 1 plus 2) ?'
    >>> Link("What is 3 + 7 ?", "7", 8, 1, 2).filled(5)
    'What is 3 + 7 ?'
    """

    question: str
    key: str
    at: int
    source: int
    shift: int | None = None
    """None for answers that are names."""

    @property
    def asked(self) -> str:
        """The question with a reference in the place of the key."""
        moved = ""
        if self.shift:
            moved = f" {'plus' if self.shift > 0 else 'minus'} {abs(self.shift)}"
        return self._with(f"(the answer to question {self.source}{moved})")

    def filled(self, answer: Any) -> str:
        """The question with what the reference stands for, given the earlier answer."""
        if self.shift is None:
            return self._with(str(answer))
        return self._with(str(int(answer) + self.shift))

    def _with(self, text: str) -> str:
        return self.question[: self.at] + text + self.question[self.at + len(self.key) :]


@dataclass(slots=True)
class Linked(Tasks):
    """The links of an episode, one for each question but the first, and its gold answers."""

    links: list[Link] = field(default_factory=list[Link])
    golds: list[Any] = field(default_factory=list[Any])


class Chain(Several):
    """`n` tasks of which each later one needs the answer to the one before.

    Numbers are linked by a sum: any world will do whose tasks contain a whole number and whose
    answers are whole numbers. Names are linked by worlds that can (`siblings`, as FictionalSearch).
    At every reset the world's expert replays each task, and the questions with the gold answers
    filled in must be the original ones. `pays` says what the score is: success on all tasks, on the
    last one, or the mean; it is paid at the end.
    """

    knob = Knob("n", (1, 2, 3, 4, 6, 8), 1, 64, "one wrong answer spoils what follows")
    play_type = Linked
    linked = True

    def __init__(
        self,
        env: Inner,
        n: int = 2,
        form: Form = "joint",
        score: Literal["all", "last", "mean"] = "all",
        answer: str = "answer",
        separator: str = ";",
    ) -> None:
        super().__init__(env, n, form, answer, separator, n=n, score=score)
        if score not in ("all", "last", "mean"):
            raise UserError(f"score must be 'all', 'last' or 'mean', not {score!r}")
        self.scored = score

    def draw(self, now: Tasks) -> list[Task]:
        """Tasks with their links, proved by gold replays."""
        assert isinstance(now, Linked)
        tasks = super().draw(now)
        _, parameter = answer_tool(self._inner("tools"), self.answer, "chain")
        for place in range(self.count):
            given = {**now.options, **({"task": tasks[place]} if place and now.drawn else {})}
            gold = replay(self.copies[place], self.seed_of(now, place), given, "chain")
            now.golds.append(answered(gold.messages[-1], self.answer, parameter))
            self.start(now, place)
        for place in range(1, self.count):
            link = self._link(now, place, question(tasks[place], "chain"))
            if link.filled(now.golds[place - 1]) != link.question:
                raise UserError(
                    f"chain: {link.asked!r} with the answer {now.golds[place - 1]!r} is not "
                    f"{link.question!r}; the world's siblings() does not link its tasks"
                )
            now.links.append(link)
        return tasks

    def _link(self, now: Linked, place: int, text: str) -> Link:
        before = now.golds[place - 1]
        if now.drawn:
            key = str(now.drawn[place].metadata.get("key", ""))
            if not key or key not in text:
                raise UserError(f"chain: {text!r} does not hold its key {key!r}")
            return Link(text, key, text.rindex(key), place)
        numbers = list(_NUMBER.finditer(text))
        if not isinstance(before, int) or isinstance(before, bool) or not numbers:
            raise UserError(
                f"chain: cannot link the answer {before!r} to {text[:80]!r}: that takes whole "
                "numbers, or a world with siblings(); use objectives for tasks side by side"
            )
        chosen = generator(now.seed, "link", place).choice(numbers)
        key = chosen.group()
        return Link(text, key, chosen.start(), place, int(key) - before)

    def prompt(self, now: Tasks, tasks: Sequence[Task]) -> tuple[Message, ...]:
        """All questions, numbered, the later ones with their references."""
        assert isinstance(now, Linked)
        asked = [question(tasks[0], "chain"), *(each.asked for each in now.links)]
        lead = f"{self.count} questions. {how(self.form, self.separator, self.tools, self.answer)}"
        lines = [f"{at}. {each}" for at, each in enumerate(asked, 1)]
        return (*system(tasks), Message("user", "\n".join([lead, *lines])))

    def score(self, now: Tasks, scores: Sequence[float]) -> float:
        """As `score` says."""
        if self.scored == "mean":
            return sum(scores) / self.count
        wanted = scores[-1:] if self.scored == "last" else scores
        return float(all(each >= 1.0 for each in wanted))

    def pays(self, reward: float) -> float:
        """Nothing before the end."""
        return 0.0

    def bonus(self, now: Tasks) -> float:
        """The score, at the end."""
        return float(self.measure()["score"])

    def measure(self) -> dict[str, Json]:
        """Also `all`, `last` and `first_wrong`, the first question (from 1) that is not solved."""
        facts = super().measure()
        if self.off or self.now is None:
            return facts
        right = [bool(each["success"]) for each in facts["tasks"]]
        wrong = right.index(False) + 1 if not all(right) else 0
        return {**facts, "all": all(right), "last": right[-1], "first_wrong": wrong}


def expected_accuracy(singles: Sequence[float]) -> float:
    """What a chain would reach if its tasks did not disturb each other: the product of p_i.

    >>> expected_accuracy([0.9, 0.9])
    0.81
    """
    product = 1.0
    for single in singles:
        if not 0.0 <= single <= 1.0:
            raise ValueError(f"an accuracy lies from 0 to 1, not {single!r}")
        product *= single
    return product


def chain_summary(
    facts: Sequence[dict[str, Json]], singles: Sequence[float]
) -> dict[str, float | list[int]]:
    """`acc_all`, `acc_last`, `expected`, `gap` and where chains first went wrong, over episodes.

    `singles` are the accuracies of the tasks measured alone (R-Horizon), one for each place. Every
    episode counts, whatever form its answer had. `errors_at[i]` counts first mistakes at place i.
    """
    if not facts:
        raise ValueError("the accuracy of no episodes is not defined")
    every = sum(bool(each["all"]) for each in facts) / len(facts)
    expected = expected_accuracy(singles)
    places = [int(each["first_wrong"]) for each in facts]
    return {
        "acc_all": every,
        "acc_last": sum(bool(each["last"]) for each in facts) / len(facts),
        "expected": expected,
        "gap": expected - every,
        "errors_at": [places.count(place) for place in range(1, len(singles) + 1)],
    }
