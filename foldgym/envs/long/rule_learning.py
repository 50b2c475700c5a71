"""What the families of rule learning share: counted interactions, a hypothesis, measures of both.

After RULEARN and IDEA: to look is free, to interact is counted and limited, and a hypothesis is
something that the agent states and revises.
"""

from __future__ import annotations

from foldgym.envs.base import ToolEnv
from foldgym.envs.games import Split, check_split
from foldgym.tools import tool
from foldgym.types import Json


class RuleLearning(ToolEnv):
    """A subclass calls `begin` in `setup` and `interact` for every action that counts."""

    def __init__(self, split: Split, render_mode: str | None) -> None:
        super().__init__(render_mode=render_mode)
        check_split(split)
        self.split = split

    def begin(self, budget: int) -> None:
        """No interactions yet, of `budget`; free actions may take as many turns again, and 12."""
        self.budget = budget
        self.max_turns = 2 * budget + 12
        self.tried: list[str] = []
        self.hypothesis, self.revised = "", 0

    def interact(self, what: str) -> None:
        """Count an interaction; the same one again is redundant."""
        self.tried.append(what)

    @property
    def left(self) -> int:
        """Interactions that are left."""
        return self.budget - len(self.tried)

    @tool
    def assume(self, rule: str) -> str:
        """Write down what you now believe the rule to be; this costs nothing.

        Args:
            rule: your one current hypothesis
        """
        rule = rule.strip()[:1000]
        self.revised += rule != self.hypothesis
        self.hypothesis = rule
        return "Noted."

    def measure(self) -> dict[str, Json]:
        """Also `interactions`, `redundant` ones, and how often the hypothesis was `revised`."""
        if self._play is None:
            return super().measure()
        redundant = len(self.tried) - len(set(self.tried))
        counts: dict[str, Json] = {"interactions": len(self.tried), "redundant": redundant}
        return {**super().measure(), **counts, "revised": self.revised}
