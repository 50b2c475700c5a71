"""Sokoban boards: what a move does, the shortest solution, and boards that have one."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

Cell = tuple[int, int]
WAYS: dict[str, Cell] = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
_NODES = 30_000


@dataclass(frozen=True, slots=True)
class Board:
    """Cells are (x, y), x to the right and y down from the upper left corner."""

    size: int
    walls: frozenset[Cell]
    targets: frozenset[Cell]
    boxes: frozenset[Cell]
    player: Cell

    @property
    def solved(self) -> bool:
        """Whether every box stands on a target."""
        return self.boxes == self.targets

    def __str__(self) -> str:
        """Rows of `#` wall, `_` floor, `O` target, `X` box, `√` box on target, `P` player, `S`."""
        return "\n".join(
            "".join(self._symbol((x, y)) for x in range(self.size)) for y in range(self.size)
        )

    def _symbol(self, cell: Cell) -> str:
        if cell in self.walls:
            return "#"
        if cell in self.boxes:
            return "√" if cell in self.targets else "X"
        if cell == self.player:
            return "S" if cell in self.targets else "P"
        return "O" if cell in self.targets else "_"


def read(text: str) -> Board:
    """The square board that `str` would write like this."""
    rows = text.split()
    cells = {(x, y): sign for y, row in enumerate(rows) for x, sign in enumerate(row)}

    def those(signs: str) -> frozenset[Cell]:
        return frozenset(cell for cell, sign in cells.items() if sign in signs)

    (player,) = those("PS")
    return Board(len(rows), those("#"), those("O√S"), those("X√"), player)


def _next(cell: Cell, way: str) -> Cell:
    return cell[0] + WAYS[way][0], cell[1] + WAYS[way][1]


def moved(board: Board, way: str) -> Board | None:
    """The board after a move, a box pushed if one is there; None if nothing can move."""
    to = _next(board.player, way)
    if to in board.walls:
        return None
    if to not in board.boxes:
        return replace(board, player=to)
    beyond = _next(to, way)
    if beyond in board.walls or beyond in board.boxes:
        return None
    return replace(board, player=to, boxes=board.boxes - {to} | {beyond})


def _corners(board: Board) -> frozenset[Cell]:
    """Cells without a target that no box comes out of: walls on two neighbouring sides."""
    cells = ((x, y) for x in range(board.size) for y in range(board.size))
    return frozenset(
        cell
        for cell in cells
        if cell not in board.targets
        and any(_next(cell, way) in board.walls for way in ("up", "down"))
        and any(_next(cell, way) in board.walls for way in ("left", "right"))
    )


def solve(board: Board, nodes: int = _NODES) -> tuple[str, ...] | None:
    """The fewest moves that solve a board, breadth first.

    None if there are none, or if none were found among the first `nodes` positions.
    """
    dead = _corners(board)
    came: dict[tuple[Cell, frozenset[Cell]], tuple[Board, str] | None]
    came = {(board.player, board.boxes): None}
    queue = deque([board])
    while queue and len(came) <= nodes:
        here = queue.popleft()
        if here.solved:
            return tuple(reversed(list(_back(here, came))))
        for way in WAYS:
            there = moved(here, way)
            if there is None or (there.player, there.boxes) in came or there.boxes & dead:
                continue
            came[there.player, there.boxes] = (here, way)
            queue.append(there)
    return None


def _back(
    board: Board, came: dict[tuple[Cell, frozenset[Cell]], tuple[Board, str] | None]
) -> Iterator[str]:
    step = came[board.player, board.boxes]
    while step is not None:
        board, way = step
        yield way
        step = came[board.player, board.boxes]


def generate(
    rng: random.Random, size: int, boxes: int, least: int, most: int
) -> tuple[Board, tuple[str, ...]]:
    """A board and its shortest solution, of `least` to `most` moves.

    Boxes are pulled from their targets at random, so a solution exists; the solver says how long
    the shortest is. No box stands on a target.
    """
    edge = (0, size - 1)
    cells = [(x, y) for y in range(size) for x in range(size)]
    border = frozenset(cell for cell in cells if cell[0] in edge or cell[1] in edge)
    inner = [cell for cell in cells if cell not in border]
    while True:
        walls = border | set(rng.sample(inner, rng.randint(0, len(inner) // 5)))
        floor = [cell for cell in inner if cell not in walls]
        *targets, player = rng.sample(floor, boxes + 1)
        start = Board(size, walls, frozenset(targets), frozenset(targets), player)
        board = _pulled(rng, start, 40 * boxes)
        if board.boxes & board.targets:
            continue
        found = solve(board)
        if found is not None and least <= len(found) <= most:
            return board, found


def _pulled(rng: random.Random, board: Board, moves: int) -> Board:
    """A position from which the given one can be reached by moves."""
    for _ in range(moves):
        way = rng.choice(tuple(WAYS))
        to = _next(board.player, way)
        if to in board.walls or to in board.boxes:
            continue
        behind = (2 * board.player[0] - to[0], 2 * board.player[1] - to[1])
        boxes = board.boxes
        if behind in boxes and rng.random() < 0.7:
            boxes = boxes - {behind} | {board.player}
        board = replace(board, player=to, boxes=boxes)
    return board


def shape(board: Board) -> str:
    """The same text for a board and all that it becomes when turned or mirrored."""
    rows = str(board).split()
    views: list[str] = []
    for _ in range(4):
        rows = ["".join(column) for column in zip(*rows[::-1], strict=True)]
        views += ["\n".join(rows), "\n".join(row[::-1] for row in rows)]
    return min(views)
