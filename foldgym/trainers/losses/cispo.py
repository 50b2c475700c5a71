"""CISPO: a capped importance weight that never silences a token."""

from __future__ import annotations

from typing import Literal

from foldgym.errors import ConfigError
from foldgym.trainers.losses.needs import Needs, needs
from foldgym.trainers.losses.tokens import TokenLoss, Tokens, ratio

CAPS = {"trl": 5.0, "verl": 0.28}


@needs(Needs(surrogate=True))
def cispo(
    tokens: Tokens,
    *,
    form: Literal["trl", "verl"] = "trl",
    eps_high: float | None = None,
    eps_low: float | None = None,
) -> TokenLoss:
    """`l = -sg(w) A logp` with `w = min(r, cap)`: the gradient is `-A w`, 0 only where A is.

    The name `eps_high` has two meanings in the field: with `form="trl"` it is the cap itself
    (5.0, as in ScaleRL), with `form="verl"` the cap is `1 + eps_high` (0.28). With `eps_low` the
    weight is also at least `1 - eps_low`. The value is not comparable with PPO's; watch the
    gradient. Source: MiniMax-M1 (text not read; CODE: verl, TRL).
    """
    high = CAPS[form] if eps_high is None else eps_high
    cap = high if form == "trl" else 1 + high
    if cap <= 0:
        raise ConfigError(f"cispo needs a cap above 0, not eps_high={eps_high} with form={form!r}")
    ratio_N = ratio(tokens.logp_N, tokens.old_N).detach()
    held_N = ratio_N.clamp(max=cap)
    if eps_low is not None:
        held_N = held_N.clamp(min=1 - eps_low)
    capped_N = (held_N != ratio_N).to(held_N.dtype)
    return TokenLoss(
        -held_N * tokens.advantage_N * tokens.logp_N,
        {"clip_fraction": capped_N, "ratio": ratio_N, "importance": held_N},
    )
