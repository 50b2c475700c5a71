"""Rule learning, functions: find coefficients by feeding numbers to computers."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from itertools import product

from foldgym.envs.games import Split
from foldgym.envs.long.rule_learning import RuleLearning
from foldgym.envs.long.splits import drawn
from foldgym.errors import UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Evidence

_TERMS: dict[str, Callable[[int], float]] = {
    "x": float,
    "x^2": lambda x: float(x * x),
    "|x|": lambda x: float(abs(x)),
    "sin(x)": math.sin,
    "1/x": lambda x: 1 / x,
    "1": lambda x: 1.0,
}
_NAMES = "abcdef"
_MISSES = 3
_VALUES = [n for n in range(-9, 10) if n]
_FEEDS = (2, -1)
"""Any two terms differ enough on these for two readings to tell two coefficients."""


def value(parts: list[tuple[int, str]], x: int) -> float:
    """A sum of coefficients times terms at `x`, to three decimals."""
    return round(sum(factor * _TERMS[term](x) for factor, term in parts), 3) + 0.0


class FunctionOperator(RuleLearning):
    """Computers show a function of one or two terms, but not the coefficients: integers, -9 to 9.

    More `terms` are harder. Three wrong answers end the episode.
    """

    experts = ("optimal", "hasty")

    def __init__(
        self, terms: int = 3, split: Split = "train", *, render_mode: str | None = None
    ) -> None:
        super().__init__(split, render_mode)
        if not 1 <= terms <= len(_TERMS):
            raise UserError(f"terms must be from 1 to {len(_TERMS)}, not {terms}")
        self.terms = terms

    def setup(self, rng: random.Random) -> str:
        """The split owns terms with their coefficients."""
        parts = drawn(
            self.split,
            lambda: [(rng.choice(_VALUES), term) for term in rng.sample(tuple(_TERMS), self.terms)],
            repr,
            "function",
        )
        self.truth = tuple(factor for factor, _ in parts)
        self.computers = [parts[at : at + 2] for at in range(0, self.terms, 2)]
        self.read: dict[tuple[int, int], float] = {}
        self.wrong = 0
        self.begin(4 * len(self.computers) + 3)
        names = iter(_NAMES)
        listing = "\n".join(
            f"{number}: y = " + " + ".join(f"{next(names)}*{term}" for _, term in shown)
            for number, shown in enumerate(self.computers, 1)
        )
        return (
            "Each computer shows its function; the letters are hidden integers from -9 to 9, not "
            f"0.\n{listing}\nFeed integers, then answer like "
            f"{self._written((1,) * self.terms)}. Feeding and answering count, {self.left} times "
            f"in all; {_MISSES} wrong answers end it."
        )

    def _written(self, values: tuple[int, ...]) -> str:
        return " ".join(f"{name}={n}" for name, n in zip(_NAMES, values, strict=False))

    @tool
    def feed(self, computer: int, x: int) -> str:
        """Let a computer work out its function.

        Args:
            computer: its number
            x: an integer from -100 to 100
        """
        if not 1 <= computer <= len(self.computers):
            return f"error: computers are numbered 1 to {len(self.computers)}."
        if not -100 <= x <= 100:
            return "error: x must be from -100 to 100."
        shown = self.computers[computer - 1]
        if x == 0 and any(term == "1/x" for _, term in shown):
            return "error: x must not be 0 here."
        self.interact(f"feed {computer} {x}")
        self.read[computer - 1, x] = value(shown, x)
        if not self.left:
            self.finish(0.0)
        return self._reading(f"{self.read[computer - 1, x]:g}", self.left)

    @tool
    def answer(self, values: str) -> str:
        """Say what every letter is.

        Args:
            values: such as a=1 b=1
        """
        pairs = dict(re.findall(r"\b([a-f])\s*[=:]\s*([+-]?\d{1,3})\b", values.lower()))
        if sorted(pairs) != list(_NAMES[: self.terms]):
            return f"error: answer every letter, like {self._written((1,) * self.terms)}."
        self.interact(f"answer {sorted(pairs.items())}")
        if tuple(int(pairs[name]) for name in sorted(pairs)) == self.truth:
            self.finish(1.0)
            return "Right."
        self.wrong += 1
        if self.wrong == _MISSES or not self.left:
            self.finish(0.0)
        return f"Wrong. {self.left} actions left."

    def evidence(self) -> list[Evidence]:
        """The coefficients, and the readings so far."""
        pairs = zip(_NAMES, self.truth, strict=False)
        found = [Evidence(f"{name} = {factor}") for name, factor in pairs]
        for used, what in enumerate(self.tried, 1):
            verb, *numbers = what.split(" ")
            if verb == "feed":
                number, x = map(int, numbers)
                y = f"{self.read[number - 1, x]:g}"
                question = f"What was y of computer {number} for x = {x}?"
                found.append(Evidence(self._reading(y, self.budget - used), question, y))
        return found

    def _reading(self, y: str, left: int) -> str:
        return f"y = {y}. {left} actions left."

    def expert(self, style: str, rng: random.Random) -> Action:
        """Two readings of each computer tell everything; the hasty player takes one."""
        if style not in self.experts:
            return super().expert(style, rng)
        for number in range(len(self.computers)):
            for x in _FEEDS if style == "optimal" else _FEEDS[:1]:
                if (number, x) not in self.read:
                    return call("feed", computer=number + 1, x=x)
        found = tuple(n for number in range(len(self.computers)) for n in self._fits(number, rng))
        return call("answer", values=self._written(found))

    def _fits(self, number: int, rng: random.Random) -> tuple[int, ...]:
        """Coefficients of a computer that explain all its readings; any of them, if several do."""
        terms = [term for _, term in self.computers[number]]
        readings = [(x, y) for (which, x), y in self.read.items() if which == number]
        fits = [
            factors
            for factors in product(_VALUES, repeat=len(terms))
            if all(value(list(zip(factors, terms, strict=True)), x) == y for x, y in readings)
        ]
        return rng.choice(fits)
