"""DUMP: upper confidence bounds over arms on how much they teach, then a sharp softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.counts import floored, softmax
from foldgym.trainers.samplers.selectors.by_arm import ByArm
from foldgym.trainers.samplers.slots import Desk
from foldgym.trainers.samplers.stats import Result
from foldgym.types import Json


def ucb(mu: float, n: int, total: int) -> float:
    """`mu + sqrt(2 ln(N + 1) / (n + 1))` with N = max(1, total)."""
    return mu + math.sqrt(2 * math.log(max(1, total) + 1) / (n + 1))


class Dump(ByArm):
    """`P(s) = softmax(ucb(s) / tau)`, with the mean |A| of the last `window` samples of the arm.

    Worked: mu (.9, .3, 0), n (400, 100, 0) give 1.0761, .6509, 3.5261: an arm never drawn gets all
    mass but the floor. The window counts samples, so an arm with big groups forgets sooner.
    Source: DUMP, code read; `window` 300 and `tau` .1 verified; the floor is OURS. The success
    counts of the released code, which are used nowhere and have two thresholds, are left out.
    """

    def __init__(self, window: int = 300, tau: float = 0.1) -> None:
        if window < 1 or tau <= 0:
            raise ConfigError(f"dump needs window >= 1 and tau > 0, not {window} and {tau}")
        self._window, self._tau = window, tau
        self._recent: dict[str, list[float]] = {}
        self._n: dict[str, int] = {}

    def probs(self, desk: Desk) -> dict[str, float]:
        """Uniform until something was seen."""
        total = sum(self._n.values())
        scores = {
            arm.name: ucb(self._mean(arm.name), self._n.get(arm.name, 0), total)
            for arm in desk.arms
        }
        return floored(softmax(scores, self._tau), desk.floor)

    def _mean(self, arm: str) -> float:
        recent = self._recent.get(arm, [])
        return sum(recent) / len(recent) if recent else 0.0

    def observe(self, results: Sequence[Result], desk: Desk) -> dict[str, float]:
        """Appends every sample's |A|."""
        for result in results:
            recent = [*self._recent.get(result.arm, []), *result.adv]
            self._recent[result.arm] = recent[-self._window :]
            self._n[result.arm] = self._n.get(result.arm, 0) + len(result.adv)
        return {f"sampler/mu/{arm}": self._mean(arm) for arm in sorted(self._n)}

    def state(self) -> dict[str, Json]:
        """Windows and counts."""
        return {"recent": {a: list(x) for a, x in self._recent.items()}, "n": dict(self._n)}

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._recent = {arm: list(x) for arm, x in state["recent"].items()}
        self._n = dict(state["n"])
