"""Novelty of tasks by how they rank their solvers, as Enhanced POET measures it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from foldgym.types import Floats


def pata_ec(scores: Sequence[float], low: float, high: float) -> Floats:
    """Scores of all solvers on one task as a vector of ranks in [-1/2, 1/2].

    Scores are clipped to [low, high] first, and equal ones share their mean rank. Because only the
    order counts, the vector does not change when scores are rescaled in any growing way inside the
    bounds. One solver alone gives 0.
    """
    clipped_N = np.clip(np.asarray(scores, dtype=np.float64), low, high)
    if len(clipped_N) < 2:
        return np.zeros(len(clipped_N))
    below_N = (clipped_N[None, :] < clipped_N[:, None]).sum(axis=1)
    same_N = (clipped_N[None, :] == clipped_N[:, None]).sum(axis=1)
    return (below_N + (same_N - 1) / 2) / (len(clipped_N) - 1) - 0.5


def novelty(vector_N: Floats, others: Sequence[Floats], k: int = 5) -> float:
    """Mean distance to the `k` nearest of the others; infinite when there are none."""
    if not others:
        return float("inf")
    distances = sorted(float(np.linalg.norm(vector_N - other_N)) for other_N in others)
    return float(np.mean(distances[:k]))


@dataclass(slots=True)
class TaskArchive:
    """Tasks with the scores of all solvers; nothing is ever forgotten.

    A task is admitted when its best score lies between `low` and `high` (the minimal criterion:
    neither too hard nor too easy), and it is ranked by novelty against everything archived.
    `annecs` counts admitted tasks that were later solved. Source: Enhanced POET, code read; k = 5
    verified; its bounds 25 to 340 are scores of its own world, here they are shares of 1.
    """

    low: float = 0.1
    high: float = 0.9
    k: int = 5
    scores: dict[str, list[float]] = field(default_factory=dict[str, "list[float]"])
    solved: set[str] = field(default_factory=set[str])

    @property
    def annecs(self) -> int:
        """Accumulated number of novel environments created and solved."""
        return len(self.solved)

    def admit(self, candidates: Mapping[str, Sequence[float]], most: int = 1) -> list[str]:
        """The `most` most novel candidates within the criterion, now archived."""
        fit = [
            name
            for name, scores in candidates.items()
            if name not in self.scores and self.low <= max(scores) <= self.high
        ]
        others = [self._vector(scores) for scores in self.scores.values()]
        ranked = sorted(
            fit, key=lambda name: (-novelty(self._vector(candidates[name]), others, self.k), name)
        )
        for name in ranked[:most]:
            self.scores[name] = list(candidates[name])
        return ranked[:most]

    def solve(self, name: str, score: float) -> None:
        """Notes a later score; above the criterion the task counts as solved."""
        if name in self.scores and score > self.high:
            self.solved.add(name)

    def _vector(self, scores: Sequence[float]) -> Floats:
        return pata_ec(scores, self.low, self.high)
