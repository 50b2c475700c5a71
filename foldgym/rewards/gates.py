"""G-RA: rewards in levels, each counted only while every higher level is above its threshold.

A run file says the same with gates between terms: `gate = "outcome>-0.5"`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def gated_sum(
    levels: Sequence[Sequence[float]], thresholds: Sequence[float]
) -> tuple[float, list[bool]]:
    """`(total, open)` of reward levels [L], highest first, with a threshold [L - 1] between them.

    Level 0 is open; level k + 1 is open if level k is and its sum is above `thresholds[k]`,
    strictly. Source: gated reward accumulation (the paper's text; its numbers are not known, so
    thresholds have no default). Raises `ValueError` unless there is one threshold per gate.
    """
    if len(thresholds) != max(0, len(levels) - 1):
        raise ValueError(
            f"{len(levels)} levels need {len(levels) - 1} thresholds, not {thresholds}"
        )
    sums = [math.fsum(level) for level in levels]
    opened = [True] * len(levels)
    for k, threshold in enumerate(thresholds):
        opened[k + 1] = opened[k] and sums[k] > threshold
    return math.fsum(s for s, is_open in zip(sums, opened, strict=True) if is_open), opened
