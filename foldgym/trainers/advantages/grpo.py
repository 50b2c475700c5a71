"""GRPO and Dr.GRPO: a trajectory against the mean of its group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.trainers.advantages.credit import Singleton, by_group
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats


def grpo(
    groups: Sequence[Group],
    *,
    norm_std: bool = True,
    ddof: int = 1,
    eps: float = 1e-6,
    singleton: Singleton = "zero",
) -> Credits:
    """`A_i = (R_i - mean_g) / (std_g + eps)`, the same on all sampled ids of all turns.

    Source: DeepSeekMath (GRPO); `ddof=1` as in verl, TRL and OpenRLHF, `eps` as in verl. A group
    whose rewards are all equal gets exactly 0. A group of one gets 0, or with `singleton="raw"`
    its reward, which is what verl does. Dividing by the standard deviation weighs nearly solved
    and nearly unsolved tasks more; `norm_std=False` does not.
    """
    return by_group(groups, lambda rewards_G: normalised(rewards_G, norm_std, ddof, eps, singleton))


def dr_grpo(groups: Sequence[Group], *, singleton: Singleton = "zero") -> Credits:
    """`A_i = R_i - mean_g`, without the standard deviation.

    Source: Understanding R1-Zero-Like Training. This is half of the method: the other half is an
    aggregation by a constant, `aggregation = "dr-grpo"`.
    """
    return grpo(groups, norm_std=False, singleton=singleton)


def normalised(
    rewards_G: Floats, norm_std: bool, ddof: int, eps: float, singleton: Singleton
) -> Floats:
    """Rewards of one group [G] to advantages [G]."""
    if len(rewards_G) < 2:
        return rewards_G.copy() if singleton == "raw" else np.zeros_like(rewards_G)
    if rewards_G.max() == rewards_G.min():  # the mean of equal floats need not equal them
        return np.zeros_like(rewards_G)
    centred_G = rewards_G - rewards_G.mean()
    return centred_G / (rewards_G.std(ddof=ddof) + eps) if norm_std else centred_G
