"""ReMix: samples of earlier policies in a clip band that moved with the policy, and its KL."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from foldgym.errors import ConfigError
from foldgym.trainers.losses.needs import Needs, needs
from foldgym.trainers.losses.ppo_clip import ppo_clip, surrogate
from foldgym.trainers.losses.tokens import TokenLoss, Tokens, ratio


@needs(Needs(columns=("behaviour",)))
def mix_ppg(tokens: Tokens, *, eps: float = 0.2) -> TokenLoss:
    """`r = pi / behaviour`, clipped to `centre - eps .. centre + eps`, `centre = old / behaviour`.

    `old_N` is the policy at the start of the update. On a token that it sampled itself the centre
    is 1 and this is `ppo_clip`. Source: ReMix (NOTE).
    """
    if eps < 0:
        raise ConfigError(f"mix_ppg needs eps >= 0, not {eps}")
    behaviour_N = tokens.extra["behaviour"]
    ratio_N, centre_N = ratio(tokens.logp_N, behaviour_N), ratio(tokens.old_N, behaviour_N)
    held_N = ratio_N.clamp(centre_N - eps, centre_N + eps)
    loss_N, clipped_N = surrogate(tokens.advantage_N, ratio_N, held_N)
    return TokenLoss(
        loss_N,
        {"clip_fraction": clipped_N.to(ratio_N.dtype), "ratio": ratio_N, "centre": centre_N},
    )


def convexity(step: int) -> float:
    """`lambda(t) = max(1 - 0.1 ceil(max(t - 50, 0) / 10), 0.5)`. Source: ReMix (NOTE)."""
    return max(1 - 0.1 * math.ceil(max(step - 50, 0) / 10), 0.5)


def _wanted(reincarnate: int = 50, **_: object) -> Needs:
    return Needs(columns=("behaviour", "reference", "previous"), rebase=reincarnate)


@needs(_wanted)
def remix(
    tokens: Tokens,
    *,
    eps: float = 0.2,
    kl_coef: float = 0.01,
    reincarnate: int = 50,
) -> TokenLoss:
    """`mix_ppg` plus `kl_coef (lambda KL(pi || base) + (1 - lambda) KL(pi || previous policy))`.

    From update `reincarnate` on (50 or 100 in the note; 0 for never) the base is the policy of
    that moment and the loss is plain PPO with the KL to this base. The KL is k2, whose gradient
    is that of the on-policy KL. `kl_coef` was not found (OURS). Source: ReMix (NOTE).
    """
    to_base_N = _k2(tokens.logp_N, tokens.extra["reference"])
    if reincarnate and tokens.step >= reincarnate:
        loss_N, metrics = ppo_clip(tokens, eps_low=eps, eps_high=eps)
        kl_N = to_base_N
    else:
        loss_N, metrics = mix_ppg(tokens, eps=eps)
        share = convexity(tokens.step)
        to_previous_N = _k2(tokens.logp_N, tokens.extra["previous"])
        kl_N = share * to_base_N + (1 - share) * to_previous_N
    return TokenLoss(loss_N + kl_coef * kl_N, {**metrics, "kl_convex": kl_N})


def _k2(logp_N: Tensor, other_N: Tensor) -> Tensor:
    return torch.square(logp_N - other_N) / 2
