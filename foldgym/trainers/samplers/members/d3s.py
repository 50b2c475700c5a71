"""D3S: of the whole batch the rollouts whose advantages vary most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.errors import ConfigError
from foldgym.trainers.advantages.credit import sampled
from foldgym.trainers.samplers.slots import Desk, Thin
from foldgym.types import Credit, Credits, Group, Trajectory

if TYPE_CHECKING:
    from foldgym.types import Floats


def d3s_select(advantage_N: Sequence[float], keep: int) -> tuple[list[int], float]:
    """(ascending places, population variance) of the `keep` values that vary most.

    It is always the k largest and the `keep - k` smallest; all k are scanned with prefix sums in
    O(N log N). Ties (OURS): stable ascending sort, smallest k. Worked: (1.2, -.9, .1, 0, -.1, 1),
    keep 4: (0, 1, 4, 5), variance .725. Source: D3S, arXiv 2509.22115, a secondary note.
    """
    values_N: Floats = np.asarray(advantage_N, dtype=np.float64)
    size = len(values_N)
    keep = min(keep, size)
    if keep < 1:
        return [], 0.0
    order_N = np.argsort(values_N, kind="stable")
    ranked_N = values_N[order_N]
    sum_N = np.concatenate([[0.0], np.cumsum(ranked_N)])
    square_N = np.concatenate([[0.0], np.cumsum(ranked_N**2)])
    top_K = np.arange(keep + 1)
    mean_K = (sum_N[keep - top_K] + sum_N[size] - sum_N[size - top_K]) / keep
    square_K = (square_N[keep - top_K] + square_N[size] - square_N[size - top_K]) / keep
    variance_K = square_K - mean_K**2
    # prefix sums round: a k must be better by more than that to win over a smaller one
    k = int(np.flatnonzero(variance_K >= variance_K.max() - 1e-12)[0])
    chosen = sorted(int(i) for i in (*order_N[: keep - k], *order_N[size - k :]))
    return chosen, float(values_N[chosen].var())


def d3s_schedule(p: float, n: tuple[float, float], k: tuple[float, float]) -> tuple[float, float]:
    """`(N, K)(p) = (1 - p) init + p final`, linear in training progress p, not rounded."""
    return (1 - p) * n[0] + p * n[1], (1 - p) * k[0] + p * k[1]


def d3s(*, total: int, start: float = 0.25, end: float = 1.0) -> Thin:
    """Keeps a share of the batch that goes from `start` to `end` over `total` steps.

    Aggressive first, relaxed later: without the schedule it overfits (the paper's ablation). What
    is kept keeps its advantages: nothing is normalised again. With `end` 1 the last step is plain
    training. The shares are OURS: the paper's numbers were not to be found. The token level is
    a loss's business.
    """
    if total < 1 or not 0 < start <= end <= 1:
        raise ConfigError(
            f"d3s needs total >= 1 and 0 < start <= end <= 1: {total}, {start}, {end}"
        )

    def thin(groups: Sequence[Group], credits: Credits, desk: Desk) -> list[list[int]]:
        progress = min(1.0, max(0.0, (desk.step - 1) / max(1, total - 1)))
        share, _ = d3s_schedule(progress, (start, end), (0.0, 0.0))
        seats = [(g, i) for g, group in enumerate(groups) for i in range(len(group.trajectories))]
        values = [_scalar(groups[g].trajectories[i], credits[g][i]) for g, i in seats]
        chosen, _ = d3s_select(values, max(1, round(share * len(seats))))
        kept: list[list[int]] = [[] for _ in groups]
        for place in chosen:
            g, i = seats[place]
            kept[g].append(i)
        return kept

    return thin


def _scalar(trajectory: Trajectory, credit: Credit) -> float:
    """The mean advantage of a trajectory's sampled ids."""
    parts = [part[sampled(s) >= 0] for s, part in zip(trajectory.segments, credit, strict=True)]
    flat = np.concatenate(parts) if parts else np.zeros(0)
    return float(flat.mean()) if flat.size else 0.0
