"""A machine that turns two strings into one through a chain of hidden rules."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

from foldgym.envs.games import Split
from foldgym.envs.long.discovery import Discovery, Rules
from foldgym.envs.long.splits import drawn
from foldgym.errors import UnknownName, UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Evidence

_A = ord("A")
_PRIMES = frozenset(n for n in range(2, 2000) if all(n % d for d in range(2, int(n**0.5) + 1)))
_RULES = {
    "weave": "letters of current and vice in turn, then the rest",
    "add": "add vice letter by letter (A=0, Z is followed by A), keep the rest",
    "max": "the later of current and vice, letter by letter, keep the rest",
    "min": "the earlier of current and vice, letter by letter, keep the rest",
    "sort": "all letters of current and vice in alphabetical order",
    "turns": "weave in odd steps, in even steps weave with vice first",
    "mirror": "current reversed, then current, with n added to each letter from A to E",
    "copies": "with a the last digit of n (10 for 0), append a copies of letter a if there is one",
    "carry": "add the previous step's main to the first letters; nothing in step 1",
    "prime": "if n is prime, add 1 to the most frequent letter (of several, the earliest)",
}
_POOLS = {
    "easy": ("weave", "add", "max", "min", "sort"),
    "hard": ("turns", "mirror", "copies", "carry", "prime"),
    "all": tuple(_RULES),
}


def _on(letter: str, places: int) -> str:
    return chr(_A + (ord(letter) - _A + places) % 26)


def _weave(left: str, right: str) -> str:
    return "".join(a + b for a, b in zip_longest(left, right, fillvalue=""))


def _add(left: str, right: str) -> str:
    both = zip(left, right, strict=False)
    return "".join(_on(a, ord(b) - _A) for a, b in both) + left[len(right) :]


def apply(rule: str, current: str, vice: str, n: int, previous: str) -> str:
    """One rule in step `n`, from 1; `previous` is the main string of the step before, or empty."""
    if rule == "weave" or (rule == "turns" and n % 2):
        return _weave(current, vice)
    if rule == "turns":
        return _weave(vice, current)
    if rule == "add":
        return _add(current, vice)
    if rule in ("max", "min"):
        pick = max if rule == "max" else min
        return "".join(map(pick, current, vice)) + current[len(vice) :]
    if rule == "sort":
        return "".join(sorted(current + vice))
    if rule == "mirror":
        return "".join(_on(a, n) if a <= "E" else a for a in current[::-1] + current)
    if rule == "copies":
        count = n % 10 or 10
        return current + current[count - 1 : count] * count
    if rule == "carry":
        return _add(current, previous)
    if n not in _PRIMES:
        return current
    common = min(current, key=lambda a: (-current.count(a), a))
    return current.replace(common, _on(common, 1))


def chain(rules: Sequence[str], main: str, vice: str, n: int, previous: str) -> list[str]:
    """The strings after each rule."""
    found = [main]
    for rule in rules:
        found.append(apply(rule, found[-1], vice, n, previous))
    return found[1:]


def _input(rng: random.Random) -> str:
    while True:
        text = "".join(rng.choice("ABCDE") for _ in range(5))
        if len(set(text)) > 1:
            return text


class HiddenSequence(Discovery):
    """Feed two strings, see the string after every rule, and find which rules hold in what order.

    More `rules` are harder, and those of level `hard` depend on the number of the step.
    """

    experts = ("optimal", "hasty")

    def __init__(
        self,
        rules: int = 3,
        level: Literal["easy", "hard", "all"] = "easy",
        steps: int = 8,
        probes: int = 4,
        split: Split = "train",
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(steps, probes, split, render_mode)
        if level not in _POOLS:
            raise UnknownName("level", level, _POOLS)
        if not 1 <= rules <= 5:
            raise UserError(f"rules must be from 1 to 5, not {rules}")
        self.rules, self.level = rules, level

    def setup(self, rng: random.Random) -> str:
        """The split owns whole chains of rules."""
        pool = _POOLS[self.level]
        self.truth = drawn(
            self.split, lambda: tuple(rng.sample(pool, self.rules)), " ".join, "chain"
        )
        self.begin()
        self.seen: list[tuple[str, str, int, str]] = []
        self.cases: list[tuple[str, str, int, str]] = []
        self.questions = []
        for number in range(self.steps + 1, self.steps + 1 + self.probes):
            case = (_input(rng), _input(rng), number, _input(rng))
            self.cases.append(case)
            asked = (
                f"Predict the last string of step {number} with main {case[0]} and vice {case[1]}, "
                f"if main of the step before was {case[3]}."
            )
            self.questions.append((asked, (chain(self.truth, *case)[-1],)))
        listing = "\n".join(f"{name}: {_RULES[name]}" for name in pool)
        return (
            f"A machine takes two strings, main and vice, each of five letters A to E, not all the "
            f"same. Current begins as main; {self.rules} hidden rules, all different, change it in "
            f"turn. n is the number of the step. The rules are among:\n{listing}\n"
            f"Make exactly {self.steps} steps, then commit the names in their order, like "
            f"{', '.join(pool[: self.rules])}; then predict {self.probes} outcomes."
        )

    @tool
    def feed(self, main: str, vice: str) -> str:
        """Run the machine once.

        Args:
            main: five letters from A to E
            vice: five letters from A to E
        """
        if problem := self.blocked():
            return problem
        main, vice = main.strip().upper(), vice.strip().upper()
        for name, given in (("main", main), ("vice", vice)):
            if not re.fullmatch("[A-E]{5}", given) or len(set(given)) < 2:
                return f"error: {name} must be five letters A to E, not all the same."
        previous = self.seen[-1][0] if self.seen else ""
        self.seen.append((main, vice, self.taken + 1, previous))
        path = " -> ".join([main, *chain(self.truth, *self.seen[-1])])
        return f"Step {self.taken + 1}: {path}. {self.explored()}"

    def read_rules(self, text: str) -> Rules | str:
        """Names in their order."""
        names = tuple(re.findall(r"[a-z]+", text.lower()))
        if len(names) != self.rules or any(each not in _RULES for each in names):
            return f"commit {self.rules} names of rules, separated by commas"
        return names

    def read_outcome(self, text: str) -> Rules:
        """One word of letters."""
        text = text.strip().upper()
        return (text,) if re.fullmatch("[A-Z]{1,200}", text) else ()

    def evidence(self) -> list[Evidence]:
        """The rules, and what every step so far has shown."""
        found = [Evidence(f"Rule {place} is {name}.") for place, name in enumerate(self.truth, 1)]
        for case in self.seen:
            path = chain(self.truth, *case)
            text = f"Step {case[2]}: {' -> '.join([case[0], *path])}."
            found.append(Evidence(text, f"What was the last string of step {case[2]}?", path[-1]))
        return found

    def expert(self, style: str, rng: random.Random) -> Action:
        """Knows the rules; the hasty player believes what fits its first step."""
        if style not in self.experts:
            return super().expert(style, rng)
        rules = self.truth if style == "optimal" else self.inferred(1)
        if self.committed is not None:
            return call("predict", outcome=chain(rules, *self.cases[len(self.predictions)])[-1])
        if self.taken >= self.steps:
            return call("commit", rules=", ".join(rules))
        return call("feed", main=_input(rng), vice=_input(rng))

    def inferred(self, steps: int) -> Rules:
        """At each place the first rule that explains what the first `steps` steps showed."""
        found: list[str] = []
        for place in range(self.rules):
            for rule in _POOLS[self.level]:
                if all(self._explains(rule, place, case) for case in self.seen[:steps]):
                    found.append(rule)
                    break
        return tuple(found)

    def _explains(self, rule: str, place: int, case: tuple[str, str, int, str]) -> bool:
        main, vice, n, previous = case
        path = [main, *chain(self.truth, *case)]
        return apply(rule, path[place], vice, n, previous) == path[place + 1]
