"""HICRA: planning is praised more and blamed less than the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.trainers.advantages.base import Base, base_values
from foldgym.trainers.advantages.inputs import unflat
from foldgym.trainers.advantages.spans import find, marked
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from foldgym.types import Floats


def hicra(
    groups: Sequence[Group], *, spans: str, alpha: float = 0.2, base: Base = "grpo"
) -> Credits:
    """`A + alpha |A|` on planning ids, `A` elsewhere: with 0.2 that is x 1.2 or x 0.8.

    `spans` finds the planning ids: "module:function" or "file.py:function" (see `spans.find`, and
    `spans.ngrams` for a list of n-grams). The paper's list of strategic grams is not published,
    so there is no default. Source: HICRA (formula from memory, consistent with a review). The
    sign never changes for alpha below 1.
    """
    finder = find(spans)
    return tuple(
        tuple(
            unflat(trajectory, amplified(np.full(trajectory.trained, value), mark_N, alpha))
            for trajectory, value, mark_N in (
                (t, float(value), marked(t, finder))
                for t, value in zip(group.trajectories, base_values(group, base), strict=True)
            )
        )
        for group in groups
    )


def amplified(advantage_N: Floats, planning_N: NDArray[np.bool_], alpha: float = 0.2) -> Floats:
    """`A + alpha |A|` where planning, else `A` [N]."""
    return advantage_N + alpha * np.abs(advantage_N) * planning_N
