"""Policy losses, KL estimators and aggregation modes: one page each, named here.

A loss is a function `(tokens, **options) -> TokenLoss` over the trained tokens of a micro-batch,
which lie flat in one dimension N with their trajectory and turn numbers beside them. The value of
a batch is always `sum(weight * loss)`: an aggregation is a way to compute weights, never a
reduction inside a loss. To add a loss, write the function and a line below.
"""

from collections.abc import Callable

from foldgym.trainers.losses.aggregation import AGGREGATIONS, scales
from foldgym.trainers.losses.kl import KLS, k1, k2, k3
from foldgym.trainers.losses.policy_gradient import policy_gradient
from foldgym.trainers.losses.ppo_clip import ppo_clip
from foldgym.trainers.losses.tokens import TokenLoss, Tokens

LOSSES: dict[str, Callable[..., TokenLoss]] = {
    "policy_gradient": policy_gradient,
    "ppo_clip": ppo_clip,
}

__all__ = [
    "AGGREGATIONS",
    "KLS",
    "LOSSES",
    "TokenLoss",
    "Tokens",
    "k1",
    "k2",
    "k3",
    "policy_gradient",
    "ppo_clip",
    "scales",
]
