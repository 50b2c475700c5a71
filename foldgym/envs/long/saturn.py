"""Satisfiability puzzles whose difficulty is a formula of their size, after SATURN."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from foldgym.envs.base import ToolEnv
from foldgym.envs.games import Split, check_split
from foldgym.envs.long.splits import drawn
from foldgym.errors import UserError
from foldgym.tools import call, tool
from foldgym.types import Action

Clause = tuple[int, ...]
"""Literals: 3 says that variable 3 is true, -3 that it is false."""


def difficulty(literals: int, variables: int, clauses: int) -> float:
    """`log2 k + 2 log2 l - n + k / n` for l clauses of n literals over k variables (SATURN)."""
    return math.log2(variables) + 2 * math.log2(clauses) - literals + variables / literals


def broken(clauses: Sequence[Clause], bits: str) -> list[Clause]:
    """The clauses that an assignment, one `0` or `1` per variable, does not satisfy."""
    return [
        clause
        for clause in clauses
        if not any((bits[abs(literal) - 1] == "1") == (literal > 0) for literal in clause)
    ]


def plant(
    rng: random.Random, literals: int, variables: int, clauses: int
) -> tuple[str, tuple[Clause, ...]]:
    """An assignment and different clauses, drawn uniformly among those that it satisfies."""
    bits = "".join(rng.choice("01") for _ in range(variables))
    found: dict[Clause, None] = {}
    while len(found) < clauses:
        chosen = sorted(rng.sample(range(1, variables + 1), literals))
        clause = tuple(variable * rng.choice((-1, 1)) for variable in chosen)
        if not broken([clause], bits):
            found[clause] = None
    return bits, tuple(found)


class Saturn(ToolEnv):
    """Find an assignment that satisfies every clause; any that does is right.

    More `clauses` are harder, and so are more `variables` (see `difficulty`).
    """

    max_turns = 3
    experts = ("optimal", "hasty")

    def __init__(
        self,
        literals: int = 3,
        variables: int = 5,
        clauses: int = 15,
        split: Split = "train",
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        if not 1 <= literals <= variables <= 50:
            raise UserError(
                f"literals and variables must be 1 <= literals <= variables <= 50, not {literals} "
                f"and {variables}"
            )
        most = math.comb(variables, literals) * (2**literals - 1) * 3 // 4
        if not 1 <= clauses <= max(1, most):
            raise UserError(
                f"clauses must be from 1 to {max(1, most)} with {literals} literals over "
                f"{variables} variables, not {clauses}"
            )
        self.literals, self.variables, self.clauses = literals, variables, clauses
        self.split = split

    def setup(self, rng: random.Random) -> str:
        """Draw puzzles until one, in whatever order its clauses stand, belongs to the split."""
        self.planted, self.puzzle = drawn(
            self.split,
            lambda: plant(rng, self.literals, self.variables, self.clauses),
            lambda found: repr(sorted(found[1])),
            "puzzle",
        )
        lines = "\n".join(" or ".join(map(_literal, clause)) for clause in self.puzzle)
        return (
            f"Choose true or false for x1 to x{self.variables} so that every line holds:\n{lines}\n"
            f"Answer with {self.variables} digits, x1 first: 1 for true, 0 for false."
        )

    @tool
    def answer(self, bits: str) -> str:
        """Give the assignment; this ends the puzzle.

        Args:
            bits: one digit per variable, 1 for true and 0 for false
        """
        bits = bits.strip()
        if len(bits) != self.variables or set(bits) - {"0", "1"}:
            return f"error: answer takes {self.variables} digits, each 0 or 1."
        failed = len(broken(self.puzzle, bits))
        level = difficulty(self.literals, self.variables, self.clauses)
        self.finish(0.0 if failed else 1.0, broken=failed, difficulty=round(level, 3))
        return "Every line holds." if not failed else f"{failed} lines do not hold."

    def expert(self, style: str, rng: random.Random) -> Action:
        """The planted assignment; the hasty player sets each variable as most lines want it."""
        if style == "optimal":
            return call("answer", bits=self.planted)
        if style != "hasty":
            return super().expert(style, rng)
        wanted = [literal for clause in self.puzzle for literal in clause]
        lean = [wanted.count(n) - wanted.count(-n) for n in range(1, self.variables + 1)]
        return call("answer", bits="".join("1" if each > 0 else "0" for each in lean))


def _literal(literal: int) -> str:
    return f"x{literal}" if literal > 0 else f"not x{-literal}"
