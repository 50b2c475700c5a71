"""From a number per trajectory or per turn to a number per token: the only way to build credit.

Credit lies on sampled ids of trainable segments and is 0 everywhere else. Because it derives from
`turn_ids`, it does not depend on how a trajectory was cut into segments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from foldgym.errors import Bug, NotFinite
from foldgym.types import Credit, Credits, Group, Segment, Trajectory

if TYPE_CHECKING:
    from foldgym.types import Floats, Ints

Singleton = Literal["zero", "raw"]


def sampled(segment: Segment) -> Ints:
    """Turn id per token [T] of a segment, -1 wherever a loss must not look."""
    turns = np.asarray(segment.turn_ids, dtype=np.int64)
    return turns if segment.trainable else np.full_like(turns, -1)


def broadcast(trajectory: Trajectory, value: float) -> Credit:
    """The same credit on every sampled id of every turn."""
    return tuple(np.where(sampled(s) >= 0, value, 0.0) for s in trajectory.segments)


def per_turn(trajectory: Trajectory, values: Sequence[float]) -> Credit:
    """`values[k]` on every id that turn k sampled; folds are turns too.

    Raises `Bug` if there is not exactly one value per turn.
    """
    if len(values) != len(trajectory.turns):
        raise Bug(
            f"trajectory {trajectory.id} has {len(trajectory.turns)} turns, "
            f"but {len(values)} turn values were given"
        )
    table = np.append(np.asarray(values, dtype=np.float64), 0.0)  # index -1: context
    return tuple(table[sampled(s)] for s in trajectory.segments)


def totals(group: Group) -> Floats:
    """`Reward.total` per trajectory [G].

    Raises `NotFinite` that names the trajectory and, where it can, the term.
    """
    for trajectory, reward in zip(group.trajectories, group.rewards, strict=True):
        if not np.isfinite(reward.total):
            bad = [name for name, part in reward.parts.items() if not np.isfinite(part)]
            where = f" (term {', '.join(bad)})" if bad else ""
            raise NotFinite(f"trajectory {trajectory.id} has reward {reward.total}{where}")
    return np.array([reward.total for reward in group.rewards], dtype=np.float64)


def turn_rewards(group: Group) -> list[Floats]:
    """Per trajectory, what each turn earned [K]; the outcome is earned by the last turn.

    A trajectory without turns has none: look at its total. Raises `NotFinite` like `totals`.
    """
    totals(group)
    out: list[Floats] = []
    for trajectory, reward in zip(group.trajectories, group.rewards, strict=True):
        earned_K = np.zeros(len(trajectory.turns))
        if reward.turns:
            earned_K += np.asarray(reward.turns, dtype=np.float64)
        if not np.isfinite([reward.outcome, *earned_K]).all():
            raise NotFinite(f"trajectory {trajectory.id} has a turn reward that is not finite")
        if len(earned_K):
            earned_K[-1] += reward.outcome
        out.append(earned_K)
    return out


def returns_to_go(rewards_K: Floats, gamma: float = 1.0) -> Floats:
    """`G_k = r_k + gamma G_{k+1}` [K], 0 after the end."""
    out_K = np.zeros(len(rewards_K))
    ahead = 0.0
    for k in range(len(rewards_K) - 1, -1, -1):
        ahead = rewards_K[k] + gamma * ahead
        out_K[k] = ahead
    return out_K


def by_group(groups: Sequence[Group], estimate: Callable[[Floats], Floats]) -> Credits:
    """Credit of an estimator that maps the rewards of one group [G] to advantages [G]."""
    return tuple(
        tuple(
            broadcast(trajectory, float(value))
            for trajectory, value in zip(group.trajectories, estimate(totals(group)), strict=True)
        )
        for group in groups
    )
