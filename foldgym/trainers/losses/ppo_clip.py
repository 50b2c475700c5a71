"""PPO's clipped surrogate with clip-higher, dual clip and the two-sided cap."""

from __future__ import annotations

import torch
from torch import Tensor

from foldgym.errors import ConfigError
from foldgym.trainers.losses.tokens import TokenLoss, Tokens, ratio


def ppo_clip(
    tokens: Tokens,
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    dual_clip: float | None = None,
    delta: float | None = None,
) -> TokenLoss:
    """`l = max(-A r, -A clip(r, 1 - eps_low, 1 + eps_high))` with `r = exp(logp - old)`.

    Source: PPO; `eps_high > eps_low` is DAPO's clip-higher (0.2, 0.28). With `dual_clip = c > 1`
    a token with A < 0 costs at most `-A c` (3; DAPO 10). TRL's `delta` instead holds the unclipped
    ratio at `delta` for both signs. Gradient with respect to logp: `-A r` where the unclipped
    branch wins, else 0; `clip_fraction` counts the latter. CODE: verl, TRL, OpenRLHF, AReaL.
    """
    check_bounds("ppo_clip", eps_low, eps_high, dual_clip)
    if delta is not None and (dual_clip is not None or delta <= 1 + eps_high):
        raise ConfigError(
            f"ppo_clip needs delta > 1 + eps_high and no dual_clip, not delta={delta} with "
            f"eps_high={eps_high} and dual_clip={dual_clip}"
        )
    ratio_N = ratio(tokens.logp_N, tokens.old_N)
    free_N = ratio_N if delta is None else ratio_N.clamp(max=delta)
    held_N = ratio_N.clamp(1 - eps_low, 1 + eps_high)
    loss_N, clipped_N = surrogate(tokens.advantage_N, free_N, held_N, dual_clip)
    if delta is not None:
        clipped_N = clipped_N | ((ratio_N > delta) & (tokens.advantage_N < 0))
    return TokenLoss(loss_N, {"clip_fraction": clipped_N.to(ratio_N.dtype), "ratio": ratio_N})


def surrogate(
    advantage_N: Tensor, free_N: Tensor, held_N: Tensor, dual_clip: float | None = None
) -> tuple[Tensor, Tensor]:
    """The worse of the free and the held ratio, and where being held zeroes the gradient."""
    plain_N, bound_N = -advantage_N * free_N, -advantage_N * held_N
    clipped_N = bound_N > plain_N
    # not `maximum`, which halves the gradient where both are equal and only one carries it
    loss_N = torch.where(clipped_N, bound_N, plain_N)
    if dual_clip is not None:
        cap_N = -advantage_N * dual_clip
        capped_N = (advantage_N < 0) & (loss_N > cap_N)
        loss_N = torch.where(capped_N, cap_N, loss_N)
        clipped_N = clipped_N | capped_N
    return loss_N, clipped_N


def check_bounds(
    name: str, eps_low: float, eps_high: float, dual_clip: float | None = None
) -> None:
    """Refuses bounds that make no sense."""
    if eps_low < 0 or eps_high < 0:
        raise ConfigError(f"{name} needs eps >= 0, not eps_low={eps_low}, eps_high={eps_high}")
    if dual_clip is not None and dual_clip <= 1:
        raise ConfigError(f"{name} needs dual_clip > 1, not {dual_clip}; leave it out for none")
