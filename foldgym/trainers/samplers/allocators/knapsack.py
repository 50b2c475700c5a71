"""Knapsack RL: rollouts go where one more raises the chance of a useful group the most."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import Literal

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.counts import largest_remainder
from foldgym.trainers.samplers.slots import Desk, Pick


def value(n: int, p: float) -> float:
    """`[1 - p^N - (1-p)^N] p (1-p)^2`: P(non-zero gradient) times what the gradient brings.

    Concave in N, so taking the largest marginal gain again and again is optimal: greedy equals the
    dynamic programme of the reference, in O(R log E) instead of O(E R max_n).
    """
    return (1 - p**n - (1 - p) ** n) * p * (1 - p) ** 2


def cost(p: float, alpha: float = 0.9) -> float:
    """Rollouts until a useful group has probability `alpha`: `ln(1 - a) / ln(max(p, 1 - p))`.

    17.24 for p = .125, 8.0 for .25, 3.32 for .5.
    """
    return math.log(1 - alpha) / math.log(max(p, 1 - p))


def greedy(rates: Sequence[float], start: int, extra: int, most: int) -> list[int]:
    """Parts of `extra` more rollouts over tasks with 0 < p < 1 that have `start` each.

    Maximises the sum of `value`; no task gets more than `most` in all; ties go to the earlier task.
    """
    parts = [0] * len(rates)
    heap = [(value(start, p) - value(start + 1, p), i) for i, p in enumerate(rates)]
    heapq.heapify(heap)
    while extra > 0 and heap:
        _, i = heapq.heappop(heap)
        if start + parts[i] >= most:
            continue
        parts[i] += 1
        extra -= 1
        n, p = start + parts[i], rates[i]
        heapq.heappush(heap, (value(n, p) - value(n + 1, p), i))
    return parts


def knapsack(
    rates: Sequence[float | None],
    total: int,
    *,
    min_n: int = 2,
    negative_n: int = 2,
    positive_n: int = 2,
    default_n: int = 8,
    max_n: int = 128,
    alpha: float = 0.9,
) -> list[int]:
    """Rollouts per task from success rates, None where unknown. The parts sum to `total`.

    Initial grants: `min_n` for 0 < p < 1, `negative_n` for 0, `positive_n` for 1, `default_n` for
    unknown; the rest goes to 0 < p < 1 by `greedy`, but no more than they need (`cost`); what they
    do not need goes evenly to tasks with p = 0, else to solved and unknown ones, else back.
    Worked: p (.125, .25, .5, .75, .875), total 40: (14, 11, 6, 7, 2), objective .38033.

    Source: Knapsack RL, code read; all defaults verified. Unlike the reference, unknown never
    counts as 0, a batch of useful tasks only divides nothing by zero, and grants beyond the total
    are scaled down.
    """
    grant = {0.0: negative_n, 1.0: positive_n}
    parts = [default_n if p is None else grant.get(p, min_n) for p in rates]
    if sum(parts) > total:
        return largest_remainder(parts, total, min(1, total // max(1, len(parts))))
    useful = [i for i, p in enumerate(rates) if p is not None and 0 < p < 1]
    zero = [i for i, p in enumerate(rates) if p == 0]
    rest = total - sum(parts)
    if useful:
        known = [rates[i] or 0.0 for i in useful]
        others = zero or [i for i in range(len(rates)) if i not in useful]
        need = sum(min(max_n, math.floor(cost(p, alpha) + 1e-9)) for p in known)
        surplus = max(0, rest - need) if others else 0
        more = greedy(known, min_n, rest - surplus, max_n)
        for i, n in zip(useful, more, strict=True):
            parts[i] += n
        rest -= sum(more)
    else:
        others = zero or list(range(len(rates)))
    others = others or useful
    for i, n in zip(others, largest_remainder([1.0] * len(others), rest), strict=True):
        parts[i] += n
    return parts


class Knapsack:
    """`knapsack` over what is known of each task (`by = "task"`) or of its arm (`by = "arm"`).

    Fewer than `least` attempts count as unknown (8, verified). By arm, tasks that never come back
    can be planned for too.
    """

    def __init__(
        self,
        by: Literal["task", "arm"] = "task",
        least: int = 8,
        max_n: int = 128,
        alpha: float = 0.9,
    ) -> None:
        if max_n < 2 or not 0 < alpha < 1:
            raise ConfigError(f"knapsack needs max_n >= 2 and 0 < alpha < 1: {max_n}, {alpha}")
        self.by_task = by == "task"
        self._least, self._max, self._alpha = least, max_n, alpha

    def split(self, picks: Sequence[Pick], total: int, desk: Desk) -> list[int]:
        """Parts that sum to `total`."""
        rates: list[float | None] = []
        for pick in picks:
            stat = desk.stats.get(pick.key if self.by_task else pick.arm.name)
            rates.append(None if stat is None or stat.attempts < self._least else stat.p)
        return knapsack(rates, total, max_n=self._max, alpha=self._alpha)
