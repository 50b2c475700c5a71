"""GiGPO: an episode against its group, and a step against other visits of the same state."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from foldgym.trainers.advantages.anchors import anchors, canonicaliser
from foldgym.trainers.advantages.credit import per_turn, returns_to_go, totals, turn_rewards
from foldgym.trainers.advantages.turns import acting, pooled, with_folds
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats

Statistics = Literal["paper", "code"]


class Steps(NamedTuple):
    """The steps [N] of one prompt group, every trajectory's in time order."""

    trajectory: Sequence[Hashable]
    anchor: Sequence[Hashable]
    reward: Sequence[float]


class StepAdvantages(NamedTuple):
    """All [N]; `total = episode + w * step`."""

    returns: Floats
    episode: Floats
    step: Floats
    total: Floats


def gigpo(
    groups: Sequence[Group],
    *,
    gamma: float = 0.95,
    w: float = 1.0,
    norm_std: bool = False,
    statistics: Statistics = "paper",
    anchor: str = "exact",
) -> Credits:
    """The episode's advantage plus `w` times that of its return among visits of the same anchor.

    Steps are acting turns; a fold has the advantage of the turn that it leads to. An anchor is
    the text observed before a turn; `anchor` makes it canonical: `"exact"`, `"plain"` (numbers
    and case do not matter), or a function by its path. Source: GiGPO. `statistics="paper"` takes
    one reward per trajectory, `"code"` (the released default) one per step, which weighs long
    trajectories more. A lone trajectory keeps its raw reward, as in the code; an anchor visited
    once adds 0. Observations with counters never match exactly.
    """
    canonical = canonicaliser(anchor)
    credits: list[tuple[tuple[Floats, ...], ...]] = []
    for group in groups:
        rewards_G = totals(group)
        rows = [
            pooled(t, earned_K)
            for t, earned_K in zip(group.trajectories, turn_rewards(group), strict=True)
        ]
        seen = [
            [anchors(t, canonical)[k] for k in acting(t)] if t.turns else []
            for t in group.trajectories
        ]
        steps = Steps(
            [i for i, row in enumerate(rows) for _ in row],
            [text for texts in seen for text in texts],
            [float(r) for row in rows for r in row],
        )
        # a trajectory without a turn has no step, but its reward is a reward of the group
        values = step_advantages(
            steps, dict(enumerate(rewards_G.tolist())), gamma, w, norm_std, statistics == "code"
        )
        parts = np.split(values.total, np.cumsum([len(row) for row in rows])[:-1])
        credits.append(
            tuple(
                per_turn(t, with_folds(t, part.tolist()).tolist())
                for t, part in zip(group.trajectories, parts, strict=True)
            )
            if group.trajectories
            else ()
        )
    return tuple(credits)


def step_advantages(
    steps: Steps,
    episode_reward: dict[Hashable, float],
    gamma: float = 0.95,
    w: float = 1.0,
    norm_std: bool = False,
    cross_all: bool = True,
) -> StepAdvantages:
    """Advantages of the steps of one group; `cross_all` takes episode statistics over steps."""
    number = len(steps.reward)
    by_trajectory = _places(steps.trajectory)
    return_N, episode_N, step_N = np.zeros(number), np.zeros(number), np.zeros(number)
    for places in by_trajectory.values():
        return_N[places] = returns_to_go(np.array([steps.reward[n] for n in places]), gamma)
    if cross_all:
        pool = [episode_reward[name] for name in steps.trajectory]
    else:
        pool = list(episode_reward.values())
    mean, deviation = _statistics(pool, norm_std) if len(pool) > 1 else (0.0, 1.0)
    for n, name in enumerate(steps.trajectory):
        episode_N[n] = (episode_reward[name] - mean) / deviation
    for places in _places(steps.anchor).values():
        mean, deviation = _statistics(return_N[places], norm_std)
        step_N[places] = (return_N[places] - mean) / deviation
    return StepAdvantages(return_N, episode_N, step_N, episode_N + w * step_N)


def _statistics(values: Sequence[float] | Floats, norm_std: bool) -> tuple[float, float]:
    x = np.asarray(values, dtype=np.float64)
    if x.max() == x.min():  # also a lone one; the float mean of equals need not equal them
        return float(x[0]), 1.0
    return float(x.mean()), float(x.std(ddof=1)) + 1e-6 if norm_std else 1.0


def _places(labels: Sequence[Hashable]) -> dict[Hashable, list[int]]:
    out: dict[Hashable, list[int]] = {}
    for place, label in enumerate(labels):
        out.setdefault(label, []).append(place)
    return out
