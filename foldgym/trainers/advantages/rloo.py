"""RLOO: a trajectory against the mean of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from foldgym.trainers.advantages.credit import Singleton, by_group
from foldgym.trainers.advantages.grpo import normalised
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats


def rloo(groups: Sequence[Group], *, singleton: Singleton = "zero") -> Credits:
    """`A_i = R_i - mean of R_j, j != i`, which is `n / (n - 1)` times the centred reward.

    Source: Back to Basics (REINFORCE leave-one-out). The baseline does not depend on the
    trajectory it judges, so the gradient is unbiased. A group of one gets 0, or its reward with
    `singleton="raw"`.
    """

    return by_group(groups, lambda rewards_G: leave_one_out(rewards_G, singleton))


def leave_one_out(rewards_G: Floats, singleton: Singleton = "zero") -> Floats:
    """Rewards of one group [G] to advantages [G]."""
    n = len(rewards_G)
    centred_G = normalised(rewards_G, norm_std=False, ddof=0, eps=0.0, singleton=singleton)
    return centred_G * n / (n - 1) if n > 1 else centred_G
