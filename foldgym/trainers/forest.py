"""Rows of ids as a forest in which every id that follows the same ids from the start stands once.

Two rows that begin alike share those places: a group its prompt, the segments of a folded
trajectory the head that the memory keeps. What a causal model computes at a place depends on the
ids up to it and on nothing else, so one place serves all rows that pass through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from foldgym.types import Ints

Span = tuple[int, int]  # places [from, to)


@dataclass(frozen=True, slots=True)
class Strip:
    """Places that one row adds: `own` follows what is in `above`, which begins at a root.

    The places of `above` and `own`, in this order, are at depths 0, 1, 2, ...
    """

    own: Span
    above: tuple[Span, ...] = ()

    @property
    def depth(self) -> int:
        """At which depth the strip begins."""
        return sum(to - start for start, to in self.above)


@dataclass(frozen=True, slots=True)
class Forest:
    """`ids_L` and `depth_L` of all places; row b has its id t at `place_BT[b, t]`, -1 behind it.

    The strips follow each other without a gap, in the order of depth-first search.
    """

    ids_L: Ints
    depth_L: Ints
    place_BT: Ints
    strips: tuple[Strip, ...]


def plant(rows: Sequence[Ints], share: bool = True) -> Forest:
    """The forest of some rows; without `share` each row is a tree of its own.

    >>> forest = plant([np.array([5, 6, 7]), np.array([5, 6, 8, 9])])
    >>> forest.ids_L.tolist(), forest.depth_L.tolist()
    ([5, 6, 7, 8, 9], [0, 1, 2, 2, 3])
    >>> forest.strips[1]
    Strip(own=(3, 5), above=((0, 2),))
    """
    order = in_order(rows) if share else list(range(len(rows)))
    common = overlaps(rows, order) if share else [0] * len(rows)
    place_BT = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int64)
    strips: list[Strip] = []
    path: tuple[Span, ...] = ()
    size = 0
    for row, kept in zip(order, common, strict=True):
        path = tuple(_first(path, kept))
        if len(rows[row]) > kept:
            own = (size, size + len(rows[row]) - kept)
            strips.append(Strip(own, path))
            path, size = (*path, own), own[1]
        if path:
            place_BT[row, : len(rows[row])] = np.concatenate([np.arange(*span) for span in path])
    ids_L, depth_L = np.zeros(size, np.int64), np.zeros(size, np.int64)
    for row, ids in enumerate(rows):
        places = place_BT[row, : len(ids)]
        ids_L[places], depth_L[places] = ids, np.arange(len(ids))
    return Forest(ids_L, depth_L, place_BT, tuple(strips))


def in_order(rows: Sequence[Ints]) -> list[int]:
    """Row numbers in the order of their ids: those that begin alike stand together."""
    return sorted(range(len(rows)), key=lambda row: rows[row].astype(">u4").tobytes())


def overlaps(rows: Sequence[Ints], order: Sequence[int]) -> list[int]:
    """How many ids at the start of each row of `order` are those of the row before it."""
    found = [0]
    for before, row in pairwise(order):
        size = min(len(rows[before]), len(rows[row]))
        differ = np.flatnonzero(rows[before][:size] != rows[row][:size])
        found.append(int(differ[0]) if differ.size else size)
    return found[: len(order)]


def gather(
    units: Sequence[Sequence[int]], rows: Sequence[Ints], most: int, share: bool = True
) -> list[list[int]]:
    """Row numbers in heaps whose forests have at most `most` places; units stay whole.

    A unit that is too large gets a heap of its own. What shares most is put together first, so a
    common head is paid for in as few heaps as possible. The largest heap comes first.
    """
    order = in_order(rows)
    rank = {row: at for at, row in enumerate(order)}
    common = np.array(overlaps(rows, order) if share else [0] * len(order), dtype=np.int64)
    sorted_units = sorted(sorted(rank[row] for row in unit) for unit in units)
    length = np.array([len(rows[row]) for row in order], dtype=np.int64)
    open_levels: list[tuple[int, list[_Heap]]] = []
    for number, unit in enumerate(sorted_units):
        heaps = [_Heap(_places(unit, length, common), list(unit))]
        last = number + 1 == len(sorted_units)
        shared = -1 if last else int(common[unit[0] + 1 : sorted_units[number + 1][0] + 1].min())
        while open_levels and open_levels[-1][0] > shared:
            level, before = open_levels.pop()
            heaps = _filled([*before, *heaps], level, most)
        if open_levels and open_levels[-1][0] == shared:
            open_levels[-1][1].extend(heaps)
        else:
            open_levels.append((shared, heaps))
    done = open_levels[0][1] if open_levels else []
    done.sort(key=lambda heap: (-heap.places, heap.ranks))
    return [[order[at] for at in sorted(heap.ranks)] for heap in done]


@dataclass(slots=True)
class _Heap:
    places: int
    ranks: list[int]


def _filled(heaps: list[_Heap], shared: int, most: int) -> list[_Heap]:
    """First fit, largest first, of heaps that all begin with the same `shared` ids."""
    filled: list[_Heap] = []
    for heap in sorted(heaps, key=lambda heap: -heap.places):
        for into in filled:
            if into.places + heap.places - shared <= most:
                into.places += heap.places - shared
                into.ranks += heap.ranks
                break
        else:
            filled.append(heap)
    return filled


def _places(ranks: Sequence[int], length: Ints, common: Ints) -> int:
    """How many places the rows of these ranks, in order, have together."""
    again = sum(int(common[a + 1 : b + 1].min()) for a, b in pairwise(ranks))
    return int(length[list(ranks)].sum()) - again


def _first(path: tuple[Span, ...], count: int) -> Iterator[Span]:
    """The part of a path that holds its first `count` places."""
    for start, to in path:
        if count <= 0:
            return
        yield start, min(to, start + count)
        count -= to - start
