"""How much a group counts by how hard it was: ODSW's soft window and CLPO's classes.

A weight multiplies the advantage and never the reward, so group statistics are untouched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from foldgym.trainers.advantages.base import Base, accuracy, base_values
from foldgym.trainers.advantages.credit import broadcast
from foldgym.types import Credits, Group

Stage = Literal["easy", "medium", "hard"]
Difficulty = Literal["easy", "medium", "hard"]


def odsw(
    groups: Sequence[Group],
    *,
    stage: Stage = "medium",
    binary: bool = False,
    unsolved: float = 0.25,
    base: Base = "grpo",
    fact: str = "success",
) -> Credits:
    """The base's advantage times `odsw_weight` of the group's share of correct members.

    Source: VL-Cogito, which trains in three stages, one run each.
    """
    return _weighted(
        groups, base, lambda group: odsw_weight(accuracy(group, fact), stage, binary, unsolved)
    )


def clpo(
    groups: Sequence[Group],
    *,
    others: float = 0.5,
    base: Base = "grpo",
    fact: str = "success",
) -> Credits:
    """The base's advantage, times `others` unless the group is hard (at most 0.3 correct).

    CLPO halves the KL coefficient of hard tasks. With one coefficient for all, halving the
    advantage of the others gives the same balance of reward and KL in each group; that rewriting
    is ours. Set `algorithm.kl.coef` to what hard tasks should have.
    """

    def weight(group: Group) -> float:
        return 1.0 if clpo_class(accuracy(group, fact)) == "hard" else others

    return _weighted(groups, base, weight)


def odsw_weight(
    accuracy: float, stage: Stage, binary: bool = False, unsolved: float = 0.25
) -> float:
    """In [0, 1]: 1 on the stage's side of 1/2 and `cos((accuracy - 1/2) pi)` on the other.

    The medium stage falls on both sides. Nobody correct weighs 0, in the hard stage `unsolved`.
    `binary` gives the windows of the ablation: easy [1/2, 1], medium [1/4, 3/4], hard (0, 1/2].
    Source: VL-Cogito's code.
    """
    if binary:
        low, high = {"easy": (0.5, 1.0), "medium": (0.25, 0.75), "hard": (0.0, 0.5)}[stage]
        return float(low <= accuracy <= high and accuracy > 0)
    if accuracy == 0:
        return unsolved if stage == "hard" else 0.0
    if (stage == "easy" and accuracy > 0.5) or (stage == "hard" and accuracy <= 0.5):
        return 1.0
    return max(0.0, math.cos((accuracy - 0.5) * math.pi))


def clpo_class(accuracy: float) -> Difficulty:
    """Easy above 0.7, hard up to 0.3, medium between. Source: CLPO's code."""
    if accuracy > 0.7:
        return "easy"
    return "medium" if accuracy > 0.3 else "hard"


def _weighted(groups: Sequence[Group], base: Base, weight: Callable[[Group], float]) -> Credits:
    return tuple(
        tuple(
            broadcast(trajectory, float(value))
            for trajectory, value in zip(
                group.trajectories, base_values(group, base) * weight(group), strict=True
            )
        )
        for group in groups
    )
