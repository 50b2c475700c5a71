"""GPPO: PPO's value, but a clipped token keeps the gradient of its bound."""

from __future__ import annotations

from foldgym.trainers.losses.needs import Needs, needs
from foldgym.trainers.losses.ppo_clip import check_bounds, surrogate
from foldgym.trainers.losses.tokens import TokenLoss, Tokens, ratio


@needs(Needs(surrogate=True))
def gppo(
    tokens: Tokens,
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.28,
    dual_clip: float | None = None,
) -> TokenLoss:
    """`l` as in `ppo_clip`, with the bounds `(1 +- eps) / sg(r) * r` in place of `1 +- eps`.

    A clipped token has gradient `-A (1 + eps_high)` or `-A (1 - eps_low)` instead of 0. The
    released code also has a dual clip (`dual_clip=3`), with zero gradient there; its scale
    factors beta are 1, as here. Source: Klear-Reasoner (CODE).
    """
    check_bounds("gppo", eps_low, eps_high, dual_clip)
    ratio_N = ratio(tokens.logp_N, tokens.old_N)
    bound_N = ratio_N.detach().clamp(1 - eps_low, 1 + eps_high)
    # exp(logp - sg(logp)) is 1 and has the gradient 1, also where the log-ratio was held
    held_N = bound_N * (tokens.logp_N - tokens.logp_N.detach()).exp()
    loss_N, clipped_N = surrogate(tokens.advantage_N, ratio_N, held_N, dual_clip)
    return TokenLoss(loss_N, {"clip_fraction": clipped_N.to(ratio_N.dtype), "ratio": ratio_N})
