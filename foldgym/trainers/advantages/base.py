"""What others build on: one advantage per trajectory, from the rewards of a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from foldgym.errors import ConfigError
from foldgym.trainers.advantages.credit import totals
from foldgym.trainers.advantages.grpo import normalised
from foldgym.trainers.advantages.rloo import leave_one_out
from foldgym.types import Group, Trajectory

if TYPE_CHECKING:
    from foldgym.types import Floats

Base = Literal["grpo", "dr_grpo", "rloo"]


def base_values(group: Group, base: Base) -> Floats:
    """Advantages [G] of `base` with its defaults. Raises `NotFinite` like `totals`."""
    rewards_G = totals(group)
    if base == "rloo":
        return leave_one_out(rewards_G)
    return normalised(rewards_G, base == "grpo", ddof=1, eps=1e-6, singleton="zero")


def is_correct(trajectory: Trajectory, fact: str) -> bool:
    """Whether `facts[fact]` is 1. Raises `ConfigError` unless it was measured and is 0 or 1."""
    value = trajectory.facts.get(fact)
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    raise ConfigError(
        f"algorithm.advantage.fact: {trajectory.env} measured {fact} = {value!r} on trajectory "
        f"{trajectory.id}, and it must be 0 or 1; facts: {', '.join(sorted(trajectory.facts))}"
    )


def accuracy(group: Group, fact: str) -> float:
    """Share of correct members; 0 for an empty group."""
    correct = [is_correct(trajectory, fact) for trajectory in group.trajectories]
    return sum(correct) / len(correct) if correct else 0.0
