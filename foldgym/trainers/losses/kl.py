"""Estimators of KL(policy || reference) from log-probs of the policy's own samples.

With `d = logp - reference`: k1 = d, k2 = d^2 / 2, k3 = e^-d + d - 1. What matters in a loss is not
the value but the gradient, and in a reward not the gradient but the value: `kl_loss` and
`trainers.penalty` keep each to its place. Source: Schulman's note on approximating KL; CODE:
verl, TRL.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from foldgym.errors import ConfigError, UnknownName
from foldgym.trainers.losses.tokens import LOG_RATIO_LIMIT


def k1(logp: Tensor, reference: Tensor) -> Tensor:
    """Unbiased, of either sign. For the reward only: as a loss its gradient is pure noise."""
    return logp - reference


def k2(logp: Tensor, reference: Tensor) -> Tensor:
    """Biased value, but its gradient `d` is the on-policy gradient of the KL."""
    return (logp - reference) ** 2 / 2


def k3(logp: Tensor, reference: Tensor) -> Tensor:
    """Unbiased and never negative; its gradient `1 - e^-d` is that of KL(reference || policy)."""
    d = (logp - reference).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
    return torch.exp(-d) + d - 1


def k3_plus(logp: Tensor, reference: Tensor) -> Tensor:
    """The value of k3 with the gradient of k2 (straight-through), as in verl."""
    square = k2(logp, reference)
    return square - square.detach() + k3(logp, reference).detach()


KLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "k1": k1,
    "k2": k2,
    "k3": k3,
    "k3+": k3_plus,
}


def kl_loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The estimator for a loss term. Refuses k1, whose gradient is zero in expectation."""
    if name not in KLS:
        raise UnknownName("KL estimator", name, KLS)
    if name == "k1":
        raise ConfigError(
            "k1 as a loss term has zero gradient in expectation: use k2 (or k3) in the loss; "
            "k1 belongs into the reward"
        )
    return KLS[name]
