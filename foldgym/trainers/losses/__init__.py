"""Policy losses, KL estimators and aggregation modes: one page each, named here.

A loss is a function `(tokens, **options) -> TokenLoss` over the trained tokens of a micro-batch,
which lie flat in one dimension N with their trajectory and turn numbers beside them. The value of
a batch is always `sum(weight * loss)`: an aggregation is a way to compute weights, never a
reduction inside a loss. To add a loss, write the function and a line below; what it needs of the
run (whole trajectories, further columns, a look at the whole batch) it declares with `@needs`.
"""

from collections.abc import Callable

from foldgym.trainers.losses.aggregation import AGGREGATIONS, scales
from foldgym.trainers.losses.bapo import bapo
from foldgym.trainers.losses.cispo import cispo
from foldgym.trainers.losses.clip_cov import clip_cov
from foldgym.trainers.losses.decoupled import decoupled
from foldgym.trainers.losses.gppo import gppo
from foldgym.trainers.losses.gspo import gspo
from foldgym.trainers.losses.kl import KLS, k1, k2, k3, k3_plus, kl_loss
from foldgym.trainers.losses.mix_ppg import mix_ppg, remix
from foldgym.trainers.losses.needs import Needs, needs, needs_of
from foldgym.trainers.losses.pacs import pacs
from foldgym.trainers.losses.policy_gradient import policy_gradient
from foldgym.trainers.losses.ppo_clip import ppo_clip
from foldgym.trainers.losses.tokens import TokenLoss, Tokens

LOSSES: dict[str, Callable[..., TokenLoss]] = {
    "bapo": bapo,
    "cispo": cispo,
    "clip_cov": clip_cov,
    "decoupled": decoupled,
    "gppo": gppo,
    "gspo": gspo,
    "mix_ppg": mix_ppg,
    "pacs": pacs,
    "policy_gradient": policy_gradient,
    "ppo_clip": ppo_clip,
    "remix": remix,
}

__all__ = [
    "AGGREGATIONS",
    "KLS",
    "LOSSES",
    "Needs",
    "TokenLoss",
    "Tokens",
    "bapo",
    "cispo",
    "clip_cov",
    "decoupled",
    "gppo",
    "gspo",
    "k1",
    "k2",
    "k3",
    "k3_plus",
    "kl_loss",
    "mix_ppg",
    "needs",
    "needs_of",
    "pacs",
    "policy_gradient",
    "ppo_clip",
    "remix",
    "scales",
]
