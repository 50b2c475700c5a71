"""REINFORCE++: no group, but one whitening over every sampled token of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.trainers.advantages.credit import totals
from foldgym.trainers.advantages.inputs import flat, sampler_logprobs, unflat
from foldgym.types import Credits, Group, Trajectory

if TYPE_CHECKING:
    from foldgym.types import Floats


def reinforce_pp(groups: Sequence[Group], *, ddof: int = 1, eps: float = 1e-8) -> Credits:
    """The reward of a trajectory on each of its sampled ids, whitened over those of the batch.

    `A = (R - mean) / sqrt(var + eps)` with statistics over tokens, so long trajectories weigh more
    in them. Source: REINFORCE++; `ddof=1` as in verl, 0 as in OpenRLHF. The KL goes into the loss;
    `reinforce_pp_kl` has it in the reward.
    """
    values = [
        [np.full(trajectory.trained, r) for trajectory, r in _members(group)] for group in groups
    ]
    return _whiten(groups, values, ddof, eps)


def reinforce_pp_kl(
    groups: Sequence[Group],
    reference: Credits,
    *,
    beta: float = 0.01,
    ddof: int = 1,
    eps: float = 1e-8,
) -> Credits:
    """REINFORCE++ with `-beta (logp - reference)` as the reward of every sampled id.

    `reference` is the column of log-probs under the frozen model, at the sampling temperature;
    `logp` is the sampler's. The KL estimator is k1, as a reward must be; do not set a KL term in
    the loss too. Source: REINFORCE++; beta is unverified. Gaps between turns are skipped over:
    verl's code cuts credit at every tool result.
    """
    values = [
        [
            kl_returns(r, sampler_logprobs(t) - flat(t, column, "reference"), beta)
            for (t, r), column in zip(_members(group), columns, strict=True)
        ]
        for group, columns in zip(groups, reference, strict=True)
    ]
    return _whiten(groups, values, ddof, eps)


def reinforce_pp_baseline(groups: Sequence[Group], *, ddof: int = 1, eps: float = 1e-8) -> Credits:
    """`R - mean_g` on every sampled id, whitened over those of the batch.

    Source: REINFORCE++-baseline; the KL goes into the loss as k2.
    """
    values: list[list[Floats]] = []
    for group in groups:
        members = _members(group)
        mean = float(np.mean([r for _, r in members])) if members else 0.0
        values.append([np.full(trajectory.trained, r - mean) for trajectory, r in members])
    return _whiten(groups, values, ddof, eps)


def kl_returns(reward: float, kl_N: Floats, beta: float) -> Floats:
    """Returns-to-go [N] of `-beta kl` per sampled id and the reward at the last; [] without ids."""
    earned_N = -beta * kl_N
    if len(earned_N):
        earned_N[-1] += reward
    return np.cumsum(earned_N[::-1])[::-1]


def whitened(values_N: Floats, ddof: int = 1, eps: float = 1e-8) -> Floats:
    """Mean 0, variance 1; 0 for fewer than two values and for equal ones."""
    if len(values_N) < 2 or values_N.max() == values_N.min():
        return np.zeros(len(values_N))
    return (values_N - values_N.mean()) / np.sqrt(values_N.var(ddof=ddof) + eps)


def _members(group: Group) -> list[tuple[Trajectory, float]]:
    return list(zip(group.trajectories, totals(group).tolist(), strict=True))


def _whiten(
    groups: Sequence[Group], values: Sequence[Sequence[Floats]], ddof: int, eps: float
) -> Credits:
    parts = [part for row in values for part in row]
    whole_N = whitened(np.concatenate(parts) if parts else np.zeros(0), ddof, eps)
    pieces = iter(np.split(whole_N, np.cumsum([len(part) for part in parts])[:-1]))
    return tuple(
        tuple(unflat(trajectory, next(pieces)) for trajectory in group.trajectories)
        for group in groups
    )
