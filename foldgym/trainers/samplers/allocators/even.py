"""The same number of rollouts for every task."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.trainers.samplers.counts import largest_remainder
from foldgym.trainers.samplers.slots import Desk, Pick


class Even:
    """`total / len(picks)` each; the total is conserved whatever it is."""

    by_task = False

    def split(self, picks: Sequence[Pick], total: int, desk: Desk) -> list[int]:
        """Equal parts."""
        return largest_remainder([1.0] * len(picks), total)
