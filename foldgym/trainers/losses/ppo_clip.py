"""PPO's clipped surrogate with clip-higher and dual clip."""

from __future__ import annotations

import torch

from foldgym.errors import ConfigError
from foldgym.trainers.losses.tokens import TokenLoss, Tokens, ratio


def ppo_clip(
    tokens: Tokens,
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    dual_clip: float | None = None,
) -> TokenLoss:
    """`l = max(-A r, -A clip(r, 1 - eps_low, 1 + eps_high))` with `r = exp(logp - old)`.

    Source: PPO; `eps_high > eps_low` is DAPO's clip-higher (0.2, 0.28). With `dual_clip = c > 1`
    a token with A < 0 costs at most `-A c`. Gradient with respect to logp: `-A r` where the
    unclipped branch wins, else 0; `clip_fraction` counts the latter.
    """
    if eps_low < 0 or eps_high < 0:
        raise ConfigError(f"ppo_clip needs eps >= 0, not eps_low={eps_low}, eps_high={eps_high}")
    if dual_clip is not None and dual_clip <= 1:
        raise ConfigError(f"ppo_clip needs dual_clip > 1, not {dual_clip}; leave it out for none")
    ratio_N, advantage_N = ratio(tokens.logp_N, tokens.old_N), tokens.advantage_N
    plain_N = -advantage_N * ratio_N
    held_N = -advantage_N * ratio_N.clamp(1 - eps_low, 1 + eps_high)
    loss_N = torch.maximum(plain_N, held_N)
    clipped_N = held_N > plain_N
    if dual_clip is not None:
        cap_N = -advantage_N * dual_clip
        capped_N = (advantage_N < 0) & (loss_N > cap_N)
        loss_N = torch.where(capped_N, cap_N, loss_N)
        clipped_N = clipped_N | capped_N
    return TokenLoss(loss_N, {"clip_fraction": clipped_N.to(ratio_N.dtype), "ratio": ratio_N})
