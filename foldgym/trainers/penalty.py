"""KL to a reference as a cost in the reward, where k1 belongs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from foldgym.types import Batch, Group


def penalised(groups: Sequence[Group], batch: Batch, coef: float) -> list[Group]:
    """Each reward minus `coef` times the sum of k1 over the trajectory's sampled ids.

    `batch` is `make_batch(groups)` with the reference's log-probs in `extra["reference"]`. The
    sum is an unbiased estimate of the KL of the whole episode and has no gradient of its own; it
    goes into the outcome, and into `parts` as `kl`.
    """
    gap_BT = np.where(batch.turn_BT >= 0, batch.logprob_BT - batch.extra["reference"], 0.0)
    kl_N = np.zeros(len(batch.names))
    np.add.at(kl_N, batch.row_trajectory_B, gap_BT.sum(axis=1))
    costs = iter((coef * kl_N).tolist())
    return [
        replace(
            group,
            rewards=tuple(
                replace(
                    reward,
                    total=reward.total - cost,
                    outcome=reward.outcome - cost,
                    parts={**reward.parts, "kl": -cost},
                )
                for reward, cost in ((reward, next(costs)) for reward in group.rewards)
            ),
        )
        for group in groups
    ]


def kl_per_id(groups: Sequence[Group], coef: float) -> float:
    """The mean of k1 over the sampled ids of groups that were `penalised`."""
    costs = sum(-reward.parts["kl"] for group in groups for reward in group.rewards)
    return costs / coef / max(1, sum(t.trained for group in groups for t in group.trajectories))
