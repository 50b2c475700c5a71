"""Arms by fixed weights: what every curriculum is measured against."""

from __future__ import annotations

from foldgym.trainers.samplers.counts import normalised
from foldgym.trainers.samplers.selectors.by_arm import ByArm
from foldgym.trainers.samplers.slots import Desk


class Weighted(ByArm):
    """`P(arm)` in proportion to its weight in the run file. An arm of weight 0 is not live."""

    def probs(self, desk: Desk) -> dict[str, float]:
        """The weights, normalised."""
        return normalised({arm.name: arm.weight for arm in desk.arms})
