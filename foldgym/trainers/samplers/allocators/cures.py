"""CurES: rollouts in proportion to the spread of a task's gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.counts import largest_remainder
from foldgym.trainers.samplers.slots import Desk, Pick


def sigma(p: float, right: float = 1.0, wrong: float = 1.0, gap: float = 0.0) -> float:
    """Standard deviation of a task's policy gradient under success rate p.

    `sigma^2 = p (1-p)^2 E[g_c^2] + p^2 (1-p) E[g_w^2] - p^2 (1-p)^2 (E g_c - E g_w)^2` with
    `right` = E[g_c^2], `wrong` = E[g_w^2] and `gap` = E g_c - E g_w over gradient norms of correct
    and wrong samples. With unit norms it is `sqrt(p (1-p))`: .3 at p = .1, .5 at .5.
    """
    q = 1 - p
    return math.sqrt(max(0.0, p * q * q * right + p * p * q * wrong - (p * q * gap) ** 2))


class CuresSplit:
    """`n_i ~ sigma_i` of the posterior mean, at least `least` each, unit gradient norms.

    Source: CurES, code read; floor 4 verified. The released rounding loses rollouts; here the
    largest remainders keep the total. Its norms, taken at the first layer only, are left at 1. A
    total that does not reach for the floor is split evenly.
    """

    def __init__(self, by: Literal["task", "arm"] = "task", least: int = 4) -> None:
        if least < 1:
            raise ConfigError(f"cures needs least >= 1, not {least}")
        self.by_task = by == "task"
        self._least = least

    def split(self, picks: Sequence[Pick], total: int, desk: Desk) -> list[int]:
        """Parts that sum to `total`; unknown counts as p = 1/2."""
        sigmas: list[float] = []
        for pick in picks:
            key = pick.key if self.by_task else pick.arm.name
            stat = desk.stats.get(key, desk.version)
            sigmas.append(sigma(0.5 if stat is None else stat.mean))
        return largest_remainder(sigmas, total, min(self._least, total // max(1, len(picks))))
