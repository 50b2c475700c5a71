"""PSR, NSR and W-REINFORCE: learn from right answers only, from wrong ones only, or mostly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.trainers.advantages.base import is_correct
from foldgym.trainers.advantages.credit import broadcast, totals
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats


def psr(groups: Sequence[Group], *, fact: str = "success") -> Credits:
    """1 for correct trajectories, nothing for the others. Source: RLVR-Decomposed.

    Whether one is correct is the fact `fact`, 0 or 1: a shaped reward would change the algorithm
    silently, as it does in the source. The source drops the others from the batch, denominators
    included; here they have no credit.
    """
    return _by_correct(groups, fact, 1.0, 0.0)


def nsr(groups: Sequence[Group], *, fact: str = "success") -> Credits:
    """-1 for wrong trajectories, nothing for the correct. Source: RLVR-Decomposed.

    It never raises the probability of a sampled id directly. See `psr`.
    """
    return _by_correct(groups, fact, 0.0, -1.0)


def w_reinforce(groups: Sequence[Group], *, lam: float = 0.1, fact: str = "success") -> Credits:
    """`lam` for correct trajectories, -1 for wrong ones. Source: RLVR-Decomposed. See `psr`."""
    return _by_correct(groups, fact, lam, -1.0)


def signed(correct: Sequence[bool | float], right: float, wrong: float) -> Floats:
    """Advantages [N]; a value of 0 means that the class is not trained on."""
    return np.where(np.asarray(correct, dtype=bool), right, wrong)


def _by_correct(groups: Sequence[Group], fact: str, right: float, wrong: float) -> Credits:
    credits: list[tuple[tuple[Floats, ...], ...]] = []
    for group in groups:
        totals(group)  # a reward that is not finite is a fault even where rewards are not used
        values = signed([is_correct(t, fact) for t in group.trajectories], right, wrong)
        credits.append(
            tuple(
                broadcast(t, float(value))
                for t, value in zip(group.trajectories, values, strict=True)
            )
        )
    return tuple(credits)
