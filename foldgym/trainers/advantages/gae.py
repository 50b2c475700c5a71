"""GAE, and T-PPO's form for episodes that were cut: credit from a value per id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.trainers.advantages.credit import returns_to_go, turn_rewards
from foldgym.trainers.advantages.inputs import flat, turn_of_tokens, unflat
from foldgym.types import Credits, Group, Stop, Trajectory

if TYPE_CHECKING:
    from foldgym.types import Floats

_FINISHED = frozenset({Stop.DONE, Stop.PARSE_ERRORS})


def gae(
    groups: Sequence[Group], value: Credits, *, gamma: float = 1.0, lam: float = 0.95
) -> Credits:
    """`A_t = sum over l of (gamma lam)^l delta_{t+l}`, delta_t = r_t + gamma V_{t+1} - V_t.

    Time runs over sampled ids only, across turns and folds; `value` is the column of a value head,
    V_t being the value before id t. A turn's reward lies on its last id, the outcome on the last
    of all. Every episode counts as finished: V is 0 after its last id. Source: GAE.
    """
    return _by_value(groups, value, gamma, lam, hold=False)


def egae(
    groups: Sequence[Group], value: Credits, *, gamma: float = 1.0, lam: float = 0.95
) -> Credits:
    """GAE in which an episode that was cut keeps its last value: V after the end = V before it.

    Source: T-PPO. Cut means stopped by a limit; done, or too many unreadable messages, is
    finished. With gamma below 1 the last delta is `(gamma - 1) V` and not 0.
    """
    return _by_value(groups, value, gamma, lam, hold=True)


def value_targets(groups: Sequence[Group], *, gamma: float = 1.0) -> Credits:
    """What a value head should predict at every sampled id: the return-to-go, unbiased.

    Meaningful for finished episodes; what a cut one would still have earned is not in it.
    """
    return tuple(
        tuple(
            unflat(trajectory, returns_to_go(token_rewards(trajectory, earned_K), gamma))
            for trajectory, earned_K in zip(group.trajectories, turn_rewards(group), strict=True)
        )
        for group in groups
    )


def finished(trajectory: Trajectory) -> bool:
    """Whether the episode came to its own end."""
    return trajectory.stop in _FINISHED


def generalised(
    rewards_N: Floats, values_N: Floats, gamma: float, lam: float, truncated: bool
) -> Floats:
    """Advantages [N], not whitened. `truncated` holds the last value, else it is 0 afterwards."""
    if not len(values_N):
        return np.zeros(0)
    next_N = np.append(values_N[1:], values_N[-1] if truncated else 0.0)
    return returns_to_go(rewards_N + gamma * next_N - values_N, gamma * lam)


def token_rewards(trajectory: Trajectory, earned_K: Floats) -> Floats:
    """Turn rewards [K] on the last id [N] of their turn.

    A turn without sampled ids leaves its reward to the last id before it: later ids did not earn
    it. Before the first id nobody did, and it is dropped.
    """
    turn_N = turn_of_tokens(trajectory)
    out_N = np.zeros(len(turn_N))
    for k, earned in enumerate(earned_K):
        before = np.flatnonzero(turn_N <= k)
        if len(before):
            out_N[before[-1]] += earned
    return out_N


def _by_value(
    groups: Sequence[Group], value: Credits, gamma: float, lam: float, hold: bool
) -> Credits:
    credits: list[tuple[tuple[Floats, ...], ...]] = []
    for group, columns in zip(groups, value, strict=True):
        out: list[tuple[Floats, ...]] = []
        for t, earned_K, column in zip(
            group.trajectories, turn_rewards(group), columns, strict=True
        ):
            cut = hold and not finished(t)
            rewards_N, values_N = token_rewards(t, earned_K), flat(t, column, "value")
            out.append(unflat(t, generalised(rewards_N, values_N, gamma, lam, cut)))
        credits.append(tuple(out))
    return tuple(credits)
