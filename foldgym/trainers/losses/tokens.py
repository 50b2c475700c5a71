"""What a loss sees and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0  # e^20 is still far from overflow in fp32


@dataclass(frozen=True, slots=True)
class Tokens:
    """The trained tokens of a micro-batch, flat [N]; only `logp_N` carries a gradient.

    `old_N` are the log-probs that ratios are taken against: the sampler's, or those recomputed
    before the first optimiser step. `trajectory_N` numbers the trajectories of the whole batch, so
    a sequence-level loss reduces over a trajectory and not over a row. `extra` holds the batch's
    further columns (`reference`, ...) at the same tokens. `step` counts the updates before this
    one: it drives schedules and seeds what a loss draws.
    """

    logp_N: Tensor
    old_N: Tensor
    advantage_N: Tensor
    weight_N: Tensor
    turn_N: Tensor
    version_N: Tensor
    trajectory_N: Tensor
    group_N: Tensor
    extra: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    step: int = 0


class TokenLoss(NamedTuple):
    """A loss per token [N] to be minimised, and numbers per token [N] whose means are logged."""

    loss_N: Tensor
    metrics: dict[str, Tensor]


def ratio(logp_N: Tensor, other_N: Tensor) -> Tensor:
    """`exp(logp - other)` with the exponent held in [-20, 20]."""
    return torch.exp((logp_N - other_N).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT))
