"""Rule learning, reactor: make a string out of letters that combine by a hidden rule."""

from __future__ import annotations

import random

from foldgym.envs.games import Split
from foldgym.envs.long.rule_learning import RuleLearning
from foldgym.envs.long.splits import drawn
from foldgym.errors import UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Evidence

_LONGEST = 40
_FACTOR = 3
"""How many times the steps of the known way may be used."""
_RULES = ("forward", "backward", "insert", "replace")

Plan = list[tuple[str, str]]


def combine(rule: str, left: str, right: str) -> list[str]:
    """The products of two materials."""
    if rule == "backward":
        return [right + left]
    longer, shorter = (left, right) if len(left) >= len(right) else (right, left)
    if rule == "insert":
        middle = (len(longer) + 1) // 2
        return [longer[:middle] + shorter + longer[middle:]]
    if rule == "forward" or len(left) == len(right) or len(set(left + right)) == 1:
        return [left + right]
    return [longer[0] + shorter, longer[1:]]


def plan(rng: random.Random, rule: str, letters: tuple[str, ...], depth: int) -> tuple[str, Plan]:
    """A target and one way to it of `depth` combinations, each of which uses the last product."""
    while True:
        stock, steps = list(letters), Plan()
        last = rng.choice(letters)
        for _ in range(depth):
            pair = [last, rng.choice(stock)]
            rng.shuffle(pair)
            steps.append((pair[0], pair[1]))
            products = combine(rule, *pair)
            last = products[0]
            if last in stock or len(last) > _LONGEST:
                break
            stock += [each for each in products if each not in stock]
        else:
            if len(last) > min(depth, 2):
                return last, steps


class Reactor(RuleLearning):
    """Combine materials, nothing of which is used up, until the target is made.

    The rule, one of four, is the seed's: forward, backward, the shorter into the middle of the
    longer, or a replacement of the longer's first letter. A greater `depth` is harder.
    """

    experts = ("optimal", "hasty")

    def __init__(
        self,
        depth: int = 3,
        letters: int = 4,
        split: Split = "train",
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(split, render_mode)
        if not 1 <= depth <= 8 or not 2 <= letters <= 6:
            raise UserError(
                f"depth must be from 1 to 8 and letters from 2 to 6, not {depth} and {letters}"
            )
        self.depth, self.letters = depth, tuple("ABCDEF"[:letters])

    def setup(self, rng: random.Random) -> str:
        """The split owns targets, whatever the rule."""
        self.rule, (self.target, self.plan) = drawn(
            self.split, lambda: self._draw(rng), lambda made: made[1][0], "target"
        )
        self.begin(_FACTOR * self.depth + 4)
        self.stock = list(self.letters)
        return (
            f"Make {self.target} in a reactor. Two materials combine by a rule that you have to "
            f"find out; a single one is shuffled and split by chance. You have "
            f"{', '.join(self.stock)}; products stay yours and nothing is used up. You may use the "
            f"reactor {self.left} times."
        )

    def _draw(self, rng: random.Random) -> tuple[str, tuple[str, Plan]]:
        rule = rng.choice(_RULES)
        return rule, plan(rng, rule, self.letters, self.depth)

    def _missing(self, *materials: str) -> str:
        for each in materials:
            if each not in self.stock:
                return f"error: you have no {each[:50]!r}."
            if len(each) > _LONGEST:
                return f"error: the reactor takes no more than {_LONGEST} letters at a time."
        return ""

    def _gained(self, products: list[str]) -> str:
        self.stock += [each for each in products if each not in self.stock]
        made = f"Products: {', '.join(products)}."
        if self.target in products:
            self.finish(1.0)
            return f"{made} That is the target."
        if not self.left:
            self.finish(0.0)
        return f"{made} {self.left} uses left."

    @tool
    def react(self, first: str, second: str) -> str:
        """Combine two materials.

        Args:
            first: a material you have
            second: a material you have
        """
        first, second = first.strip().upper(), second.strip().upper()
        if problem := self._missing(first, second):
            return problem
        self.interact(f"react {first} {second}")
        return self._gained(combine(self.rule, first, second))

    @tool
    def split_up(self, material: str) -> str:
        """Shuffle a material of several letters and split it in two.

        Args:
            material: a material you have
        """
        material = material.strip().upper()
        if problem := self._missing(material):
            return problem
        if len(material) < 2:
            return "error: a single letter cannot be split."
        self.interact(f"split {material}")
        letters = list(material)
        self.rng.shuffle(letters)
        at = self.rng.randint(1, len(letters) - 1)
        return self._gained(["".join(letters[:at]), "".join(letters[at:])])

    def evidence(self) -> list[Evidence]:
        """A way to the target, and what was made so far of two materials."""
        way = [(f"{a} and {b}", ", ".join(combine(self.rule, a, b))) for a, b in self.plan]
        found = [Evidence(f"{both} make {made}.") for both, made in way]
        for what in dict.fromkeys(self.tried):
            verb, *both = what.split(" ")
            if verb == "react":
                made = ", ".join(combine(self.rule, *both))
                question = f"What did {both[0]} and {both[1]} make?"
                found.append(Evidence(f"Products: {made}.", question, made))
        return found

    def expert(self, style: str, rng: random.Random) -> Action:
        """Follows a way that it knows; the hasty player takes every rule for `forward`."""
        if style not in self.experts:
            return super().expert(style, rng)
        if style == "optimal":
            stock = set(self.stock)
            todo = (pair for pair in self.plan if not set(combine(self.rule, *pair)) <= stock)
            first, second = next(todo)
            return call("react", first=first, second=second)
        begun = max((each for each in self.stock if self.target.startswith(each)), key=len)
        return call("react", first=begun, second=self.target[len(begun)])
