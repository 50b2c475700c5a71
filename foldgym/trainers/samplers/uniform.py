"""Uniform sampling: a fresh task every time, every group kept."""

from __future__ import annotations

from collections.abc import Mapping

from foldgym.trainers.samplers.base import TaskSampler, arms_of


def uniform(
    envs: Mapping[str, float], seed: int, group_size: int, *, max_rounds: int = 10
) -> TaskSampler:
    """Draws environments by weight and keeps every group.

    Only a group whose every episode failed is played again with another task, in at most
    `max_rounds` rounds per step.
    """
    return TaskSampler(arms_of(envs), seed, group_size, max_rounds=max_rounds)
