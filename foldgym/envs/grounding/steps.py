"""One step on a screen: what was to be done, and whether an answer does it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from foldgym.rewards.gui import ui_r1_reward
from foldgym.types import Json

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]

PLACED = frozenset({"click", "long_press"})
"""Actions that need a place; the others are right without one."""
NEAR = 0.14 * 1080
"""Pixels within which UI-R1's evaluation takes a click for right where no box is known."""


@dataclass(frozen=True, slots=True)
class GuiStep:
    """`GuiStep("7", "open the menu", "7.png", box=(10, 10, 60, 40))`: a screen and what is right.

    `picture` is a path, or the bytes of a PNG or JPEG. `box` is (left, top, right, bottom) and
    `point` (x, y), both in pixels of the picture; `argument` is the text, direction or app of an
    action that has one. `size` is (width, height), (0, 0) if the row does not tell.
    """

    id: str
    instruction: str
    picture: str | bytes
    action: str = "click"
    box: Box | None = None
    point: Point | None = None
    argument: str = ""
    size: tuple[int, int] = (0, 0)
    metadata: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Said:
    """What a model answered. `point` is in the model's own units; `formed`: as it was asked to."""

    action: str = ""
    point: Point | None = None
    argument: str = ""
    formed: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Each part of an answer: type, place (true for actions that need none), argument, format."""

    action: bool
    coord: bool
    argument: bool
    format: bool

    @property
    def right(self) -> bool:
        """Whether it does what was to be done, however it was written."""
        return self.action and self.coord and self.argument


def judge(step: GuiStep, said: Said, scale: Point = (1.0, 1.0), near: float = NEAR) -> Verdict:
    """Is the answer the step's action, in its place, with its argument?

    `scale` turns the answer's units into pixels. A place is right inside the box, edges included,
    after cutting to whole pixels (UI-R1, ScreenSpot); where only a point is known, at a distance
    below `near` pixels (UI-R1's evaluation). Arguments are compared without regard to case and
    outer blanks; a step without an argument takes any.

    >>> judge(GuiStep("1", "tap", "a.png", box=(0, 0, 9, 9)), Said("click", (9.9, 3))).right
    True
    """
    same = said.action == step.action
    placed = same
    if same and step.action in PLACED:
        placed = _placed(step, said, scale, near)
    wanted, given = step.argument.strip().lower(), said.argument.strip().lower()
    return Verdict(same, placed, same and (not wanted or wanted == given), said.formed)


def _placed(step: GuiStep, said: Said, scale: Point, near: float) -> bool:
    if said.point is None or not all(map(math.isfinite, said.point)):
        return False
    if step.box is not None:
        return bool(ui_r1_reward("click", "click", said.point, scale, step.box, True).coord)
    if step.point is None:
        return False
    x, y = (value * factor for value, factor in zip(said.point, scale, strict=True))
    return math.dist((x, y), step.point) < near
