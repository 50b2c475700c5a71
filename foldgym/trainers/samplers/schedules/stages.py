"""SATURN's promotion: settings in stages, the next one when this one is mastered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.slots import Desk, Knobs
from foldgym.trainers.samplers.stats import Result
from foldgym.types import Json


def saturn_difficulty(n: int, k: int, clauses: int) -> float:
    """`log2 k + 2 log2 l - n + k/n` of a SAT instance: n literals a clause, k variables, l clauses.

    5.632 for (3, 5, 5), 12.785 for (3, 7, 40). Grows with l. Source: SATURN (README).
    """
    return math.log2(k) + 2 * math.log2(clauses) - n + k / n


class Stages:
    """Every arm gets the settings of the current stage; stages never go back.

    A stage is left when the mean score of the last `window` unaided groups played in it reaches
    `threshold`. Both are required: the source says that a threshold on validation is crossed, and
    neither its value nor the size of that check were to be found. Training groups serve here.
    Source: SATURN, data and README read.
    """

    def __init__(self, stages: list[dict[str, Any]], threshold: float, window: int) -> None:
        if not stages or not 0 < threshold <= 1 or window < 1:
            raise ConfigError(
                "stages needs stages, 0 < threshold <= 1 and window >= 1, "
                f"not {stages}, {threshold}, {window}"
            )
        self._stages, self._threshold, self._window = stages, threshold, window
        self._stage = 0
        self._recent: list[float] = []

    def knobs(self, desk: Desk) -> Knobs:
        """The stage's settings."""
        return Knobs(kwargs=self._stages[self._stage])

    def observe(self, results: Sequence[Result], desk: Desk) -> dict[str, float]:
        """Counts groups of this stage; promotes at most once a step."""
        now = self._stages[self._stage].items()
        here = [r.p for r in results if all(r.kwargs.get(key) == x for key, x in now)]
        self._recent = [*self._recent, *here][-self._window :]
        full = len(self._recent) == self._window
        mastered = full and sum(self._recent) / self._window >= self._threshold
        if mastered and self._stage + 1 < len(self._stages):
            self._stage += 1
            self._recent = []
        return {"sampler/stage": float(self._stage)}

    def state(self) -> dict[str, Json]:
        """The stage and its recent groups."""
        return {"stage": self._stage, "recent": list(self._recent)}

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._stage, self._recent = state["stage"], list(state["recent"])
