"""AReaL's decoupled PPO: clip around a recent policy, weigh by how far the sampler was from it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from foldgym.errors import ConfigError
from foldgym.trainers.losses.needs import Needs, needs
from foldgym.trainers.losses.ppo_clip import check_bounds, surrogate
from foldgym.trainers.losses.sequences import live, mean
from foldgym.trainers.losses.tokens import TokenLoss, Tokens, ratio

Filter = Literal["mask", "clamp"]
Level = Literal["token", "sequence"]
Measure = Literal["ratio", "k3"]


def _wanted(
    proximal: str = "recompute", level: str = "token", filter: str = "mask", **_: object
) -> Needs:
    del filter
    return Needs(
        whole="row" if level == "token" else "trajectory",
        columns=("behaviour",) if proximal == "recompute" else ("staleness",),
    )


@needs(_wanted)
def decoupled(
    tokens: Tokens,
    *,
    eps_low: float = 0.2,
    eps_high: float = 0.2,
    dual_clip: float | None = None,
    cap: float | None = 5.0,
    filter: Filter = "mask",
    level: Level = "token",
    by: Measure = "ratio",
    proximal: Literal["recompute", "loglinear"] = "recompute",
) -> TokenLoss:
    """`l = w max(-A r, -A clip(r, ...))` with `r = pi / proximal`, `w = sg(proximal / behaviour)`.

    The proximal policy is the one at the start of the update, recomputed, or with
    `proximal="loglinear"` guessed from the sampler's and the current log-prob (`loglinear`), which
    saves a forward pass. `cap` bounds the staleness, per token or, with `level="sequence"`, of the
    trajectory's geometric mean; measured as the ratio `w` or as its k3. What exceeds it is masked
    (w = 0; denominators stay those of all tokens, else the step would grow) or, for the ratio,
    clamped to the cap. Behaviour equal to proximal is plain PPO. Source: AReaL (CODE).
    """
    check_bounds("decoupled", eps_low, eps_high, dual_clip)
    if cap is not None and cap <= 0:
        raise ConfigError(f"decoupled needs cap > 0, not {cap}; leave it out with a huge one")
    if filter == "clamp" and by != "ratio":
        raise ConfigError('decoupled can clamp only by = "ratio"; a k3 bound can only mask')
    if proximal == "recompute":
        proximal_N, behaviour_N = tokens.old_N, tokens.extra["behaviour"]
    else:
        behaviour_N = tokens.old_N
        proximal_N = loglinear(
            tokens.logp_N, behaviour_N, tokens.extra["staleness"], tokens.version_N
        )
    importance_N, kept_N = importance(
        tokens, proximal_N, behaviour_N, cap=cap, filter=filter, level=level, by=by
    )
    ratio_N = ratio(tokens.logp_N, proximal_N)
    held_N = ratio_N.clamp(1 - eps_low, 1 + eps_high)
    loss_N, clipped_N = surrogate(tokens.advantage_N, ratio_N, held_N, dual_clip)
    return TokenLoss(
        importance_N * loss_N,
        {
            "clip_fraction": clipped_N.to(ratio_N.dtype),
            "ratio": ratio_N,
            "importance": importance_N,
            "stale_fraction": 1 - kept_N,
        },
    )


def importance(
    tokens: Tokens,
    proximal_N: Tensor,
    behaviour_N: Tensor,
    *,
    cap: float | None,
    filter: Filter,
    level: Level,
    by: Measure,
) -> tuple[Tensor, Tensor]:
    """The behaviour weight [N] after the filter, and 1 [N] where a token was kept."""
    weight_N = ratio(proximal_N, behaviour_N).detach()
    if cap is None:
        return weight_N, torch.ones_like(weight_N)
    log_N = (proximal_N - behaviour_N).detach()
    if level == "sequence":
        log_N = mean(log_N, tokens.trajectory_N, live(tokens))
    stale_N = ratio(log_N, torch.zeros_like(log_N))
    if by == "k3":
        stale_N = 1 / stale_N + log_N - 1
    if filter == "clamp":
        if level == "sequence":
            return weight_N * (cap / stale_N).clamp(max=1), torch.ones_like(weight_N)
        return weight_N.clamp(max=cap), torch.ones_like(weight_N)
    kept_N = (stale_N <= cap).to(weight_N.dtype)
    return weight_N * kept_N, kept_N


def loglinear(logp_N: Tensor, old_N: Tensor, staleness_N: Tensor, version_N: Tensor) -> Tensor:
    """`old + alpha (logp - old)` without gradient, `alpha = s / (s + 1)` at `s` updates of age.

    With v the version being trained, `s = v - 1 - version`, so alpha is AReaL's
    `(v - 1 - version) / (v - version)`; 0 for ids that nobody sampled and for fresh ones.
    """
    s_N = torch.where(version_N >= 0, staleness_N, torch.zeros_like(staleness_N)).clamp(min=0)
    return (old_N + s_N / (s_N + 1) * (logp_N - old_N)).detach()
