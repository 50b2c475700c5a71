"""Turns that act and turns that fold: estimators over actions give folds what they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.types import Trajectory

if TYPE_CHECKING:
    from foldgym.types import Floats


def acting(trajectory: Trajectory) -> list[int]:
    """Turns that act on the world, in order; all of them if none does."""
    acts = [k for k, turn in enumerate(trajectory.turns) if turn.purpose == "act"]
    return acts or list(range(len(trajectory.turns)))


def with_folds(trajectory: Trajectory, values: Sequence[float]) -> Floats:
    """One value per acting turn to one per turn [K]: a fold has that of the next acting turn.

    Folds after the last acting turn share its value, for they lead to nothing else.
    """
    acts = acting(trajectory)
    if not acts:
        return np.zeros(0)
    index_K = np.searchsorted(acts, np.arange(len(trajectory.turns)))
    return np.asarray(values, dtype=np.float64)[np.minimum(index_K, len(acts) - 1)]


def pooled(trajectory: Trajectory, earned_K: Floats) -> Floats:
    """What each acting turn earned: its own reward and that of the folds that lead to it."""
    acts = acting(trajectory)
    out = np.zeros(len(acts))
    if acts:
        index_K = np.searchsorted(acts, np.arange(len(trajectory.turns)))
        np.add.at(out, np.minimum(index_K, len(acts) - 1), earned_K)
    return out
