"""Sokoban: push every box onto a target; a wrong push can make it impossible."""

from __future__ import annotations

import random
from typing import Literal

from foldgym.envs.base import ToolEnv
from foldgym.envs.games import Split, check_split
from foldgym.envs.long.boards import WAYS, Board, generate, moved, shape, solve
from foldgym.envs.long.splits import drawn
from foldgym.errors import UnknownName, UserError
from foldgym.tools import call, tool
from foldgym.types import Action, Json

View = Literal["grid", "coordinates", "both"]
_VIEWS = ("grid", "coordinates", "both")


class Sokoban(ToolEnv):
    """Boards whose shortest solution has at least `least` moves: the more, the harder.

    With `shaped` each move costs 0.1, a box on a target pays 1 and off it costs 1, and a solution
    pays 10; without, only the solution pays, 1. The score is 1 for a solution in either case.
    """

    experts = ("optimal", "hasty")

    def __init__(
        self,
        size: int = 6,
        boxes: int = 1,
        least: int = 6,
        view: View = "grid",
        shaped: bool = False,
        split: Split = "train",
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        if view not in _VIEWS:
            raise UnknownName("view", view, _VIEWS)
        if not 5 <= size <= 8 or not 1 <= boxes <= 3:
            raise UserError(f"size must be 5 to 8 and boxes 1 to 3, not {size} and {boxes}")
        longest = 2 * size - 2 + 4 * (boxes - 1)
        if not 1 <= least <= longest:
            raise UserError(f"least must be 1 to {longest} with this size and boxes, not {least}")
        self.size, self.boxes, self.least = size, boxes, least
        self.view, self.shaped, self.split = view, shaped, split
        self.most = 25 + 5 * boxes
        self.max_turns = self.most + 10

    def setup(self, rng: random.Random) -> str:
        """The split owns boards, however they are turned or mirrored."""
        self.board, found = drawn(
            self.split,
            lambda: generate(rng, self.size, self.boxes, self.least, self.most),
            lambda made: shape(made[0]),
            "board",
        )
        self.route: tuple[str, ...] | None = found
        self.shortest, self.moves, self.idle = len(found), 0, 0
        signs = "# wall, _ floor, O target, X box, √ box on target, P you, S you on target"
        return (
            "Push every box onto a target with the tool move. You push by walking against a box; "
            f"you cannot pull, nor push two.{'' if self.view == 'coordinates' else f' {signs}.'}\n"
            f"{self._shown_board()}"
        )

    def _shown_board(self) -> str:
        parts: list[str] = []
        if self.view != "coordinates":
            parts.append(str(self.board))
        if self.view != "grid":
            inside = [cell for cell in self.board.walls if set(cell).isdisjoint((0, self.size - 1))]
            things = {
                "you": [self.board.player],
                "boxes": self.board.boxes,
                "targets": self.board.targets,
                "walls inside the border": inside,
            }
            listed = (f"{name} {sorted(cells)}" for name, cells in things.items())
            parts.append(f"(x, y) from the upper left: {'; '.join(listed)}")
        return "\n".join(parts)

    @tool
    def move(self, direction: Literal["up", "down", "left", "right"]) -> str:
        """Walk one step, pushing a box if one is there.

        Args:
            direction: where to
        """
        self.moves += 1
        before, after = self.board, moved(self.board, direction)
        if after is None:
            self.idle += 1
            self._pay(before, before)
            return f"Nothing moves.\n{self._shown_board()}"
        self.board = after
        if self.route:  # an empty one, of a hopeless board, stays empty
            self.route = self.route[1:] if self.route[0] == direction else None
        self._pay(before, after)
        if after.solved:
            self.finish(1.0, reward=10.0 if self.shaped else 1.0)
            return f"Solved.\n{self._shown_board()}"
        return self._shown_board()

    def _pay(self, before: Board, after: Board) -> None:
        if self.shaped:
            gained = len(after.boxes & after.targets) - len(before.boxes & before.targets)
            self.reward(gained - 0.1)

    def measure(self) -> dict[str, Json]:
        """Also `moves`, those that were `idle`, and the `shortest` solution's."""
        if self._play is None:
            return super().measure()
        counts: dict[str, Json] = {"moves": self.moves, "idle": self.idle}
        return {**super().measure(), **counts, "shortest": self.shortest}

    def expert(self, style: str, rng: random.Random) -> Action:
        """The fewest moves; the hasty player walks at random at one turn in three."""
        if style not in self.experts:
            return super().expert(style, rng)
        if style == "hasty" and rng.random() < 1 / 3:
            return call("move", direction=rng.choice(tuple(WAYS)))
        if self.route is None:
            self.route = solve(self.board) or ()
        way = self.route[0] if self.route else rng.choice(tuple(WAYS))
        return call("move", direction=way)
