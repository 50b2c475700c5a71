"""Many answers to one screen, one place: the region on which most of them agree.

After GUI-RC (region consistency): each sampled point votes for the square around it, and the
largest connected part of the screen with the most votes is the answer. From the description of the
method; not checked against its code, so the square's size is an option and nothing is claimed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
Box: TypeAlias = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Consensus:
    """`point` is the middle (centre of area) of the region, `votes` how many squares cover it."""

    point: Point
    votes: int
    share: float


def region_vote(
    points: Sequence[Point], size: tuple[float, float] | None, side: float = 50.0
) -> Consensus | None:
    """The consensus of points on a screen of `size` (None: without edges); None without points.

    Squares have `side` pixels and are cut at the screen's edges; a point outside of the screen
    votes for nothing but counts in `share`. Of regions of equal votes and area the upper left one
    wins. Costs O(n^3) for n points, whatever the screen's size.

    >>> region_vote([(100, 100), (104, 100), (300, 40)], (400, 400), side=10).point
    (102.0, 100.0)
    """
    if side <= 0 or (size is not None and min(size) <= 0):
        raise ValueError(f"side={side} and size={size} must be above 0")
    endless = (-math.inf, -math.inf, math.inf, math.inf)
    left, top, right, bottom = endless if size is None else (0.0, 0.0, *size)
    inside = [(x, y) for x, y in points if left <= x <= right and top <= y <= bottom]
    if not inside:
        return None
    half = side / 2
    boxes = [
        (max(left, x - half), max(top, y - half), min(right, x + half), min(bottom, y + half))
        for x, y in inside
    ]
    cells, most = _most_voted(boxes)
    region = min(_connected(cells), key=lambda part: (-_area(part.values()), min(part)))
    total = _area(region.values())
    x = sum((box[0] + box[2]) / 2 * _area([box]) for box in region.values()) / total
    y = sum((box[1] + box[3]) / 2 * _area([box]) for box in region.values()) / total
    return Consensus((x, y), most, most / len(points))


def _most_voted(boxes: Sequence[Box]) -> tuple[dict[tuple[int, int], Box], int]:
    """The cells with the most votes, by (row, column) of the grid that the boxes' edges make."""
    rows = list(pairwise(sorted({edge for box in boxes for edge in (box[1], box[3])})))
    columns = list(pairwise(sorted({edge for box in boxes for edge in (box[0], box[2])})))
    votes: dict[tuple[int, int], int] = {}
    for row, (top, bottom) in enumerate(rows):
        for column, (left, right) in enumerate(columns):
            votes[row, column] = sum(
                box[0] <= left and right <= box[2] and box[1] <= top and bottom <= box[3]
                for box in boxes
            )
    most = max(votes.values())
    return {
        (row, column): (columns[column][0], rows[row][0], columns[column][1], rows[row][1])
        for (row, column), count in votes.items()
        if count == most
    }, most


def _connected(cells: dict[tuple[int, int], Box]) -> list[dict[tuple[int, int], Box]]:
    """Parts whose cells share edges."""
    left, parts = dict(cells), list[dict[tuple[int, int], Box]]()
    while left:
        first = next(iter(left))
        part, edge = {first: left.pop(first)}, [first]
        while edge:
            row, column = edge.pop()
            for near in (
                (row + 1, column),
                (row - 1, column),
                (row, column + 1),
                (row, column - 1),
            ):
                if near in left:
                    part[near] = left.pop(near)
                    edge.append(near)
        parts.append(part)
    return parts


def _area(boxes: Iterable[Box]) -> float:
    return sum((box[2] - box[0]) * (box[3] - box[1]) for box in boxes)
