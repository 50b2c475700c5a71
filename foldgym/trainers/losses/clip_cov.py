"""Clip-cov: silence a few of the tokens that would lower the entropy most."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from foldgym.errors import ConfigError
from foldgym.seeding import derive_seed
from foldgym.trainers.losses.needs import Needs, needs
from foldgym.trainers.losses.ppo_clip import ppo_clip
from foldgym.trainers.losses.sequences import live
from foldgym.trainers.losses.tokens import TokenLoss, Tokens

KEEP = "clip_cov_keep"


def covariance(tokens: Tokens, clipped_N: Tensor, lower: float, upper: float) -> tuple[Tensor, ...]:
    """`c = (A - mean A)(logp - mean logp)` [N], -inf on clipped tokens, and `lower < c < upper`.

    Means are over all live tokens, clipped ones included.
    """
    live_N = live(tokens)
    count = live_N.sum().clamp(min=1)
    a_N = tokens.advantage_N - (tokens.advantage_N * live_N).sum() / count
    p_N = tokens.logp_N.detach() - (tokens.logp_N.detach() * live_N).sum() / count
    cov_N = torch.where((live_N > 0) & ~clipped_N, a_N * p_N, -torch.inf)
    return cov_N, (cov_N > lower) & (cov_N < upper)


def chosen(
    tokens: Tokens,
    *,
    share: float = 2e-4,
    lower: float = 1.0,
    upper: float = 5.0,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    seed: int = 0,
) -> Mapping[str, Tensor]:
    """The survey: 0 [N] at the tokens drawn, else 1."""
    clipped_N = ppo_clip(tokens, eps_low=eps_low, eps_high=eps_high).metrics["clip_fraction"] > 0
    _, eligible_N = covariance(tokens, clipped_N, lower, upper)
    keep_N = torch.ones_like(tokens.old_N)
    pool = torch.nonzero(eligible_N).squeeze(1).cpu().numpy()
    size = min(len(pool), max(1, int(share * int(live(tokens).sum()))))
    # in an order of the tokens themselves, so that neither rows nor micro-batches matter
    keys = (tokens.logp_N, tokens.old_N, tokens.turn_N, tokens.trajectory_N)
    order = np.lexsort([key.detach().cpu().numpy()[pool] for key in keys])
    draw = np.random.default_rng(derive_seed(seed, "clip_cov", tokens.step))
    keep_N[torch.as_tensor(pool[order][draw.permutation(len(pool))[:size]])] = 0.0
    return {KEEP: keep_N}


@needs(Needs(survey=chosen))
def clip_cov(
    tokens: Tokens,
    *,
    share: float = 2e-4,
    lower: float = 1.0,
    upper: float = 5.0,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    seed: int = 0,
) -> TokenLoss:
    """`ppo_clip`, times 0 on a seeded random choice of tokens with a high covariance.

    `c_t = (A_t - mean A)(logp_t - mean logp)`; of the tokens that are not clipped and have
    `lower < c < upper`, `max(1, int(share * tokens))` are drawn. Defaults are verl's (2e-4, 1, 5);
    SPEAR has 0.02, 1, 40. Means and choice are over the whole batch of an optimiser step (OURS;
    the references take each micro-batch for itself). Source: CODE (verl, SPEAR).
    """
    if not 0 <= share <= 1 or lower >= upper:
        raise ConfigError(
            f"clip_cov needs a share of 0 to 1 and lower < upper, not share={share}, "
            f"lower={lower}, upper={upper}"
        )
    keep_N = tokens.extra.get(KEEP)
    if keep_N is None:
        keep_N = chosen(
            tokens,
            share=share,
            lower=lower,
            upper=upper,
            eps_low=eps_low,
            eps_high=eps_high,
            seed=seed,
        )[KEEP]
    loss_N, metrics = ppo_clip(tokens, eps_low=eps_low, eps_high=eps_high)
    return TokenLoss(loss_N * keep_N, {**metrics, "cov_clip_fraction": 1 - keep_N})
