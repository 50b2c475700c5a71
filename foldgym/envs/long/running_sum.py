"""Pure execution: a running sum of the values of words, kept for as many turns as are asked."""

from __future__ import annotations

import random

from foldgym.envs.base import ToolEnv
from foldgym.envs.games import Split, check_split, split_of
from foldgym.errors import UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Evidence, Json, Message

_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
_SPARE = 4
"""Turns that an agent may lose to messages that are not answers."""


def _word(rng: random.Random) -> str:
    kinds = (_CONSONANTS, _VOWELS, _CONSONANTS, _VOWELS, _CONSONANTS)
    return "".join(rng.choice(letters) for letters in kinds)


class RunningSum(ToolEnv):
    """A dictionary of words to integers; each turn names `keys` words, to be added to the sum.

    Nothing says whether an answer was right. The score is the share of turns whose sum is right,
    and each right sum pays its part at once. `past` turns can be played beforehand and shown as
    history, each wrong with probability `slips` by up to 10: the probe of self-conditioning. A slip
    stays in the sum, as the agent's own would, and what is asked builds on the last sum shown. More
    `turns` are harder.
    """

    experts = ("optimal", "hasty")

    def __init__(
        self,
        turns: int = 8,
        keys: int = 2,
        words: int = 12,
        spread: int = 99,
        past: int = 0,
        slips: float = 0.0,
        split: Split = "train",
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        limits = (("turns", turns, 50_000), ("keys", keys, 1000), ("words", words, 500))
        for name, value, most in (*limits, ("spread", spread, 10**6)):
            if not 1 <= value <= most:
                raise UserError(f"{name} must be from 1 to {most}, not {value}")
        if past < 0 or not 0.0 <= slips <= 1.0:
            raise UserError(f"past must be 0 or more and slips from 0 to 1, not {past} and {slips}")
        self.turns, self.keys, self.words, self.spread = turns, keys, words, spread
        self.past, self.slips, self.split = past, slips, split
        self.max_turns = turns + _SPARE

    def setup(self, rng: random.Random) -> list[Message]:
        """Words of the split, new values, and every turn's keys; then the history, if any."""
        self.values: dict[str, int] = {}
        while len(self.values) < self.words:
            word = _word(rng)
            if split_of("word", word) == self.split:
                self.values[word] = rng.randint(-self.spread, self.spread)
        listed = list(self.values)
        self.asked = [rng.choices(listed, k=self.keys) for _ in range(self.past + self.turns)]
        self.start, shown = 0, list[int]()
        for keys in self.asked[: self.past]:
            self.start += sum(self.values[key] for key in keys)
            if rng.random() < self.slips:
                self.start += rng.choice((-1, 1)) * rng.randint(1, 10)
            shown.append(self.start)
        self.sums: list[int] = []
        total = self.start
        for keys in self.asked[self.past :]:
            total += sum(self.values[key] for key in keys)
            self.sums.append(total)
        self.answers: list[int] = []
        return self._conversation(shown)

    def _conversation(self, shown: list[int]) -> list[Message]:
        table = ", ".join(f"{word} {value}" for word, value in self.values.items())
        count = self.past + self.turns
        rules = (
            f"Keep a running sum for {count} turns. It begins at 0; every turn names words, whose "
            f"values you add to your last sum and send with the tool answer.\nValues: {table}.\n"
        )
        messages = [Message("user", f"{rules}{self._asks(0)}")]
        for turn, total in enumerate(shown):
            told = call("answer", total=total)
            messages.append(told)
            messages.append(
                Message(
                    "tool",
                    self._asks(turn + 1),
                    tool_call_id=told.tool_calls[0].id,
                    name="answer",
                )
            )
        return messages

    def _asks(self, turn: int) -> str:
        return f"Turn {turn + 1}: {', '.join(self.asked[turn])}"

    @tool
    def answer(self, total: int) -> str:
        """Send the sum after this turn's words.

        Args:
            total: the sum of all words up to now
        """
        right = total == self.sums[len(self.answers)]
        self.answers.append(total)
        self.reward(right / self.turns)
        if len(self.answers) == self.turns:
            self.finish(self.grade(), reward=0.0)
            return "Thank you, that was the last turn."
        return self._asks(self.past + len(self.answers))

    def grade(self) -> float:
        """The share of all turns that were answered rightly so far."""
        return sum(a == b for a, b in zip(self.answers, self.sums, strict=False)) / self.turns

    def measure(self) -> dict[str, Json]:
        """Also `answers`, `sums` and `start`, which the functions of `horizon` take."""
        if self._play is None:
            return super().measure()
        series: dict[str, Json] = {"answers": list(self.answers), "sums": list(self.sums)}
        return {**super().measure(), **series, "start": self.start}

    def evidence(self) -> list[Evidence]:
        """The right sums, and the words of the turns so far."""
        sums = enumerate(self.sums, self.past + 1)
        needed = [Evidence(f"The sum after turn {turn} is {total}.") for turn, total in sums]
        asked = [
            Evidence(
                self._asks(turn),
                f"Which words were named in turn {turn + 1}?",
                ", ".join(self.asked[turn]),
                needed=False,
            )
            for turn in range(min(self.past + len(self.answers) + 1, len(self.asked)))
        ]
        return [*needed, *asked]

    def expert(self, style: str, rng: random.Random) -> Action:
        """Adds up; the hasty player slips at one turn in seven, and goes on from its slip."""
        if style not in self.experts:
            return super().expert(style, rng)
        turn = len(self.answers)
        if style == "optimal":
            return call("answer", total=self.sums[turn])
        before = self.answers[-1] if self.answers else self.start
        added = sum(self.values[key] for key in self.asked[self.past + turn])
        slip = rng.choice((-10, -1, 1, 10)) if rng.random() < 1 / 7 else 0
        return call("answer", total=before + added + slip)
