"""DAPO's dynamic sampling: groups that cannot teach are replaced until the batch is full."""

from __future__ import annotations

from collections.abc import Mapping

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.base import TaskSampler, arms_of
from foldgym.types import Group


def dapo(
    envs: Mapping[str, float],
    seed: int,
    group_size: int,
    *,
    metric: str = "score",
    max_rounds: int = 10,
) -> TaskSampler:
    """Keeps a group whose `metric` differs between members, and replaces the others.

    Source: DAPO; the rule is verl's: keep if the standard deviation is above 0 or the group has
    one member. `metric` is a fact that the environment measures ("score", "success"): a shaped
    reward would show a difference where there is none. `"reward"` is the rubric's total
    nevertheless. Each round asks for exactly what is missing, so no finished group is thrown
    away for having been slow. An impossible task set raises `ConfigError` after `max_rounds`.
    """
    return TaskSampler(
        arms_of(envs),
        seed,
        group_size,
        gate=lambda group: degenerate(group, metric),
        metric="score" if metric == "reward" else metric,
        max_rounds=max_rounds,
    )


def degenerate(group: Group, metric: str) -> str:
    """Why a group has no variance in `metric`; empty if it has some, or only one member."""
    values = [
        reward.total if metric == "reward" else _fact(trajectory.facts, metric, group.request.env)
        for trajectory, reward in zip(group.trajectories, group.rewards, strict=True)
    ]
    if len(values) > 1 and max(values) == min(values):
        return f"all have {metric} {values[0]:g}"
    return ""


def _fact(facts: Mapping[str, object], metric: str, env: str) -> float:
    value = facts.get(metric)
    if not isinstance(value, (bool, int, float)):
        numbers = [name for name, fact in facts.items() if isinstance(fact, (bool, int, float))]
        raise ConfigError(
            f"sampler.metric: {env} measures no number {metric!r}; "
            f"choose reward or one of: {', '.join(numbers) or 'none'}"
        )
    return float(value)
