"""A grid of letters, each with an effect on score or energy that has to be found out."""

from __future__ import annotations

import random
import re
from typing import Literal

from foldgym.envs.games import Split
from foldgym.envs.long.discovery import Discovery, Rules
from foldgym.envs.long.splits import drawn
from foldgym.errors import UnknownName, UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Evidence

_SIDE, _ENERGY, _ROUND, _RESETS = 10, 20, 30, 20
_LETTERS = "ABCDE"
_WAYS = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
_EFFECTS = {
    "1": "score +1",
    "2": "energy +1",
    "3": "score +1 where x+y is odd, else -1",
    "4": "score -1",
    "5": "score +2 with energy 15 or more, else -2",
    "6": "score +2 on each third move of a round, else -1",
    "7": "score +3 if x or y is 0, 1, 8 or 9, and +3 more in the four corners",
    "8": "score +1 on odd visits to this letter in a round",
    "9": "energy below 10: score -2, energy +10; else score +1",
    "10": "score + x - y",
}
_POOLS = {
    "easy": ("1", "2", "3", "4", "5"),
    "medium": ("3", "5", "6", "7", "8"),
    "hard": ("6", "7", "8", "9", "10"),
    "all": tuple(_EFFECTS),
}
_EDGE = frozenset((0, 1, _SIDE - 2, _SIDE - 1))


def effect(rule: str, x: int, y: int, energy: int, move: int, visit: int) -> tuple[int, int]:
    """What entering a tile changes: (score, energy).

    `energy` is what is left after paying for the move; `move` and `visit` (to tiles of this letter)
    count within the round, this one included.
    """
    if rule == "2":
        return 0, 1
    if rule == "9" and energy < 10:
        return -2, 10
    border = 3 * (x in _EDGE or y in _EDGE) + 3 * (x in (0, _SIDE - 1) and y in (0, _SIDE - 1))
    scores = {
        "1": 1,
        "3": 1 if (x + y) % 2 else -1,
        "4": -1,
        "5": 2 if energy >= 15 else -2,
        "6": 2 if move % 3 == 0 else -1,
        "7": border,
        "8": visit % 2,
        "9": 1,
        "10": x - y,
    }
    return scores[rule], 0


class HiddenGrid(Discovery):
    """Walk over letters, see score and energy change, and find each letter's effect.

    More `letters` are harder with the same number of steps.
    """

    experts = ("optimal", "hasty")

    def __init__(
        self,
        letters: int = 5,
        level: Literal["easy", "medium", "hard", "all"] = "easy",
        steps: int = 12,
        probes: int = 4,
        split: Split = "train",
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(steps, probes, split, render_mode)
        if level not in _POOLS:
            raise UnknownName("level", level, _POOLS)
        if not 2 <= letters <= len(_LETTERS):
            raise UserError(f"letters must be from 2 to {len(_LETTERS)}, not {letters}")
        self.letters, self.level = _LETTERS[:letters], level

    def setup(self, rng: random.Random) -> str:
        """The split owns whole assignments of effects to letters; map and start are free."""
        self.truth = drawn(
            self.split,
            lambda: tuple(rng.sample(_POOLS[self.level], len(self.letters))),
            lambda rules: f"{self.level} {rules}",
            "grid",
        )
        self.first = {(x, y): rng.choice(self.letters) for y in range(_SIDE) for x in range(_SIDE)}
        self.begin()
        self.cases: list[tuple[int, int, int, int, int, int]] = []
        self.questions = [self._probe(rng, index) for index in range(self.probes)]
        self.seen: list[tuple[str, tuple[int, int, int, int, int], tuple[int, int]]] = []
        self.resets = 0
        self._round(rng)
        listing = "\n".join(f"{key}: {_EFFECTS[key]}" for key in _POOLS[self.level])
        last = self.letters[-1]
        return (
            f"On a {_SIDE} x {_SIDE} grid, x from 0 to the right and y from 0 down, every tile has "
            f"a letter A to {last}. A move costs 1 energy; entering a tile has its letter's hidden "
            f"effect and turns it into X, which has none. Effects, each for at most one letter:\n"
            f"{listing}\nMake exactly {self.steps} moves, then commit like "
            f"{self._written(_POOLS[self.level])}, then predict {self.probes} outcomes. A round "
            f"ends after {_ROUND} moves or without energy; reset begins another, at most "
            f"{_RESETS} times.\n{self._stand()}"
        )

    def _round(self, rng: random.Random) -> None:
        """The map as it was, full energy, a random place."""
        self.tiles = dict(self.first)
        self.x, self.y = rng.randrange(_SIDE), rng.randrange(_SIDE)
        self.score, self.energy, self.moves = 0, _ENERGY, 0
        self.visits = dict.fromkeys(self.letters, 0)

    def _probe(self, rng: random.Random, index: int) -> tuple[str, Rules]:
        """A transition outside any round; the letters take turns."""
        which = index % len(self.letters)
        x, y, move = rng.randrange(_SIDE), rng.randrange(_SIDE), rng.randint(1, _ROUND)
        energy, visit = rng.randint(1, _ENERGY - 1), rng.randint(1, min(move, 6))
        change = effect(self.truth[which], x, y, energy, move, visit)
        question = (
            f"You enter ({x}, {y}), letter {self.letters[which]}, visit {visit} to it, as move "
            f"{move} of a round, with {energy} energy after paying. Predict the changes of score "
            f"and energy, like: predict 2 0"
        )
        self.cases.append((which, x, y, energy, move, visit))
        return question, tuple(map(str, change))

    def _stand(self) -> str:
        return f"You are at ({self.x}, {self.y}), score {self.score}, energy {self.energy}."

    def _ended(self) -> bool:
        return self.energy <= 0 or self.moves >= _ROUND

    def stuck(self) -> bool:
        """The last round is over."""
        return self._ended() and self.resets >= _RESETS

    @tool
    def move(self, direction: Literal["up", "down", "left", "right"]) -> str:
        """Go to the next tile.

        Args:
            direction: where to
        """
        if problem := self.blocked():
            return problem
        if self._ended():
            return "error: this round is over; reset, or commit if no reset is left."
        across, down = _WAYS[direction]
        x, y = self.x + across, self.y + down
        if not (0 <= x < _SIDE and 0 <= y < _SIDE):
            return f"error: the grid ends here. {self._stand()}"
        self.x, self.y = x, y
        self.energy -= 1
        self.moves += 1
        letter = self.tiles[x, y]
        self.tiles[x, y] = "X"
        said = "an X"
        if letter != "X":
            self.visits[letter] += 1
            state = (x, y, self.energy, self.moves, self.visits[letter])
            score, energy = effect(self.truth[self.letters.index(letter)], *state)
            self.seen.append((letter, state, (score, energy)))
            self.score += score
            self.energy += energy
            said = f"{letter}, visit {self.visits[letter]}: score {score:+}, energy {energy:+}"
        return f"Move {self.moves}, {said}. {self._stand()} {self.explored()}"

    @tool
    def look(self) -> str:
        """Show the tiles two steps away, in rows from the upper left."""
        rows = [
            " ".join(self.tiles.get((self.x + across, self.y + down), "#") for across in (-2, 0, 2))
            for down in (-2, 0, 2)
        ]
        return "\n".join(rows)

    @tool(name="map")
    def full_map(self) -> str:
        """Show the whole grid, row by row."""
        return "\n".join("".join(self.tiles[x, y] for x in range(_SIDE)) for y in range(_SIDE))

    @tool(name="reset")
    def new_round(self) -> str:
        """Begin a new round elsewhere: same map, full energy."""
        if problem := self.blocked():
            return problem
        if self.resets >= _RESETS:
            return "error: no reset is left."
        self.resets += 1
        self._round(self.rng)
        return f"Round {self.resets + 1}. {self._stand()}"

    def read_rules(self, text: str) -> Rules | str:
        """`A=3 B=1 ...`, every letter once."""
        pairs = re.findall(r"\b([A-Za-z])\s*[=:]\s*(\d{1,2})\b", text)
        found = {letter.upper(): rule for letter, rule in pairs}
        if len(pairs) != len(self.letters) or set(found) != set(self.letters):
            return f"commit every letter once, like {self._written(_POOLS[self.level])}"
        return tuple(found[letter] for letter in self.letters)

    def _written(self, rules: Rules) -> str:
        return " ".join(f"{a}={b}" for a, b in zip(self.letters, rules, strict=False))

    def read_outcome(self, text: str) -> Rules:
        """The two numbers in a text."""
        numbers = re.findall(r"[+-]?\d{1,3}\b", text)
        return tuple(str(int(each)) for each in numbers) if len(numbers) == 2 else ()

    def evidence(self) -> list[Evidence]:
        """The effects, and what the moves of the first round brought."""
        pairs = zip(self.letters, self.truth, strict=True)
        found = [Evidence(f"Effect of {letter}: {_EFFECTS[rule]}.") for letter, rule in pairs]
        before = 0
        for letter, (_, _, _, move, visit), (score, energy) in self.seen:
            if move <= before:
                break
            before, brought = move, f"score {score:+}, energy {energy:+}"
            text = f"Move {move}, {letter}, visit {visit}: {brought}."
            found.append(Evidence(text, f"What did move {move} of round 1 bring?", brought))
        return found

    def expert(self, style: str, rng: random.Random) -> Action:
        """Knows the rules; the hasty player only infers them from what its moves have shown."""
        if style not in self.experts:
            return super().expert(style, rng)
        rules = self.truth if style == "optimal" else self._inferred()
        if self.committed is not None:
            which, x, y, left, move, visit = self.cases[len(self.predictions)]
            score, energy = effect(rules[which], x, y, left, move, visit)
            return call("predict", outcome=f"{score} {energy}")
        if self.taken >= self.steps or self.stuck():
            return call("commit", rules=self._written(rules))
        if self._ended():
            return call("reset")
        return call("move", direction=self._way(rng))

    def _way(self, rng: random.Random) -> str:
        """Towards a letter that was visited least, as far as the next tile shows."""
        ways = list(_WAYS)
        rng.shuffle(ways)
        costs: list[tuple[int, str]] = []
        for way in ways:
            tile = self.tiles.get((self.x + _WAYS[way][0], self.y + _WAYS[way][1]))
            if tile is not None:
                costs.append((self.visits.get(tile, _ROUND), way))
        return min(costs, key=lambda each: each[0])[1]

    def _inferred(self) -> Rules:
        """For each letter the first free effect that explains all of its visits."""
        free, found = list(_POOLS[self.level]), dict[str, str]()
        fits = {
            letter: [
                rule
                for rule in free
                if all(effect(rule, *at) == got for name, at, got in self.seen if name == letter)
            ]
            for letter in self.letters
        }
        for letter in sorted(self.letters, key=lambda each: len(fits[each])):
            found[letter] = next((each for each in fits[letter] if each in free), free[0])
            free.remove(found[letter])
        return tuple(found[letter] for letter in self.letters)
