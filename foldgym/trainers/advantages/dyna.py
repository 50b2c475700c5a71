"""Dyna-GRPO: an attempt that looked ahead is imitated only if it was right and better."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.trainers.advantages.base import base_values, is_correct
from foldgym.trainers.advantages.credit import broadcast, totals
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats

REFINE = "refine"  # the `Request.reason` of a group that looked ahead


def dyna_grpo(groups: Sequence[Group], *, fact: str = "success") -> Credits:
    """GRPO for plain groups; 1 or 0 for the members of groups requested with reason "refine".

    A refined member gets 1 if it is correct and above both the mean of its own group and that of
    the plain groups of the same task (environment and seed) in the batch. Source: Dyna-GRPO,
    through a secondary note; which plain rollouts the mean is over is ambiguous there.
    """
    credits: list[tuple[tuple[Floats, ...], ...]] = []
    for group in groups:
        if group.request.reason == REFINE:
            plain = [
                float(reward)
                for other in groups
                if other.request.reason != REFINE
                and (other.request.env, other.request.seed)
                == (group.request.env, group.request.seed)
                for reward in totals(other)
            ]
            correct = [is_correct(t, fact) for t in group.trajectories]
            values_G = refine_advantages(totals(group).tolist(), correct, plain)
        else:
            values_G = base_values(group, "grpo")
        credits.append(
            tuple(
                broadcast(t, float(value))
                for t, value in zip(group.trajectories, values_G, strict=True)
            )
        )
    return tuple(credits)


def refine_advantages(
    refined: Sequence[float], correct: Sequence[bool | float], plain: Sequence[float]
) -> Floats:
    """1 for the correct ones above `max(mean(plain), mean(refined))`, strictly; else 0."""
    if not refined:
        return np.zeros(0)
    bar = max(float(np.mean(rewards)) for rewards in (refined, plain) if len(rewards))
    above = np.asarray(refined, dtype=np.float64) > bar
    return (above & np.asarray(correct, dtype=bool)).astype(np.float64)
