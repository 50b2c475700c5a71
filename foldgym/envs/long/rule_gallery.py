"""Rule learning, escape: a code that is hidden in how many paintings of a colour there are."""

from __future__ import annotations

import random
import re

from foldgym.envs.games import Split
from foldgym.envs.long.rule_learning import RuleLearning
from foldgym.envs.long.splits import drawn
from foldgym.errors import UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Evidence

_COLOURS = ("blue", "yellow", "black", "green")
_MEDIA = ("oil", "acrylic", "watercolour")
_FAILURES = 3
"""Wrong codes before the lamp changes its colour."""

Painting = tuple[str, str]


def code(walls: list[list[Painting]], order: tuple[str, ...], colour: str) -> str:
    """How many paintings of the colour each medium has on all walls, a digit each."""
    return "".join(str(sum(wall.count((medium, colour)) for wall in walls)) for medium in order)


class EscapeRoom(RuleLearning):
    """A door with a code of three digits, paintings on walls, and a lamp.

    The digits count the oil, acrylic and watercolour paintings in the colour of the lamp, in an
    order of the seed's; nothing says so. Replies tell which digits are right. After three wrong
    codes the lamp changes its colour, and after the fourth colour the episode is lost. More
    `walls` mean more to look at and to remember.
    """

    experts = ("optimal", "hasty")

    def __init__(
        self, walls: int = 3, split: Split = "train", *, render_mode: str | None = None
    ) -> None:
        super().__init__(split, render_mode)
        if not 1 <= walls <= 20:
            raise UserError(f"walls must be from 1 to 20, not {walls}")
        self.walls = walls

    def setup(self, rng: random.Random) -> str:
        """The split owns galleries: the paintings of every wall, with the order of the digits."""
        self.order, self.paintings = drawn(self.split, lambda: self._gallery(rng), repr, "gallery")
        self.begin(_FAILURES * len(_COLOURS))
        self.seen: set[int] = set()
        return (
            f"You are locked in a gallery of {self.walls} walls with paintings. The door has a "
            f"code of three digits, and the lamp above it glows {self.colour}. Find what the code "
            f"has to do with what you see. To look is free; you have {self.left} tries."
        )

    def _gallery(self, rng: random.Random) -> tuple[tuple[str, ...], list[list[Painting]]]:
        while True:
            order = tuple(rng.sample(_MEDIA, len(_MEDIA)))
            paintings = [
                [(rng.choice(_MEDIA), rng.choice(_COLOURS)) for _ in range(rng.randint(3, 5))]
                for _ in range(self.walls)
            ]
            codes = [code(paintings, order, colour) for colour in _COLOURS]
            if all(len(each) == len(_MEDIA) for each in codes):  # no count needs two digits
                return order, paintings

    @property
    def colour(self) -> str:
        """What the lamp shows now."""
        return _COLOURS[min(len(self.tried) // _FAILURES, len(_COLOURS) - 1)]

    @tool
    def look(self, wall: int) -> str:
        """Look at the paintings on a wall.

        Args:
            wall: its number, from 1
        """
        if not 1 <= wall <= self.walls:
            return f"error: walls are numbered 1 to {self.walls}."
        self.seen.add(wall)
        return self._hanging(wall)

    @tool(name="try")
    def try_code(self, digits: str) -> str:
        """Try a code at the door.

        Args:
            digits: three digits
        """
        digits = digits.strip()
        if not re.fullmatch("[0-9]{3}", digits):
            return "error: a code has three digits."
        wanted = code(self.paintings, self.order, self.colour)
        self.interact(f"try {self.colour} {digits}")
        if digits == wanted:
            self.finish(1.0)
            return "The door opens."
        right = [str(at) for at in (1, 2, 3) if digits[at - 1] == wanted[at - 1]]
        if not self.left:
            self.finish(0.0)
            return "The door is barred for good."
        places = ", ".join(right) or "none"
        return f"The door stays shut. Right digits: {places}. The lamp glows {self.colour}."

    def evidence(self) -> list[Evidence]:
        """The order of the digits, and every wall."""
        order = f"The digits count {', '.join(self.order)} paintings in the colour of the lamp."
        walls = [
            Evidence(self._hanging(wall), f"What hangs on wall {wall}?", self._hanging(wall)[:-1])
            for wall in range(1, self.walls + 1)
        ]
        return [Evidence(order), *walls]

    def _hanging(self, wall: int) -> str:
        return ", ".join(f"{colour} {medium}" for medium, colour in self.paintings[wall - 1]) + "."

    def expert(self, style: str, rng: random.Random) -> Action:
        """Looks everywhere, then counts; the hasty player knows no order and overlooks a wall."""
        if style not in self.experts:
            return super().expert(style, rng)
        enough = self.walls if style == "optimal" else max(1, self.walls - 1)
        for wall in range(1, enough + 1):
            if wall not in self.seen:
                return call("look", wall=wall)
        if style == "optimal":
            order, counted = self.order, self.paintings
        else:
            order = tuple(rng.sample(_MEDIA, len(_MEDIA)))
            counted = [self.paintings[wall - 1] for wall in sorted(self.seen)]
        return call("try", digits=code(counted, order, self.colour))
