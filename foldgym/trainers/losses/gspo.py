"""GSPO: one importance ratio per trajectory, the geometric mean over its sampled tokens."""

from __future__ import annotations

from typing import Literal

import torch

from foldgym.errors import Bug
from foldgym.trainers.losses.needs import Needs, needs
from foldgym.trainers.losses.ppo_clip import check_bounds, surrogate
from foldgym.trainers.losses.sequences import live, mean
from foldgym.trainers.losses.tokens import TokenLoss, Tokens

LOG_MAX = 10.0  # verl holds the upper side of the mean log-ratio here


def _wanted(level: str = "sequence", **_: object) -> Needs:
    return Needs(
        whole="trajectory",
        aggregations=("seq-mean-token-mean",),
        credit="trajectory" if level == "sequence" else "token",
    )


@needs(_wanted)
def gspo(
    tokens: Tokens,
    *,
    eps_low: float = 3e-4,
    eps_high: float = 4e-4,
    level: Literal["sequence", "token"] = "sequence",
) -> TokenLoss:
    """`s = exp(mean_t(logp - old))`, `l = max(-A s, -A clip(s, 1 - eps_low, 1 + eps_high))`.

    The mean is over the policy's tokens of the whole episode, however it was cut. Every token
    carries `s` with its own gradient, so under "seq-mean-token-mean" (the only aggregation whose
    value is the paper's) `dl/dlogp_t = -A s / n`. `level="sequence"` takes one advantage per
    trajectory and raises `Bug` for another; `level="token"` (GSPO-token) lets it vary by turn.

    The tight bounds clip some 15 % of trajectories, which is normal; with one step per batch the
    gradient is GRPO's. Source: GSPO (CODE: verl, TRL; bounds from their examples).
    """
    check_bounds("gspo", eps_low, eps_high)
    live_N, key_N = live(tokens), tokens.trajectory_N
    if level == "sequence":
        off_N = (tokens.advantage_N - mean(tokens.advantage_N, key_N, live_N)).abs() * live_N
        if (off_N > 1e-9 + 1e-5 * tokens.advantage_N.abs()).any():
            raise Bug(
                'gspo with level="sequence" met an advantage that varies along a trajectory; '
                'use level="token", or an estimator with one advantage per trajectory'
            )
    log_N = mean(tokens.logp_N.detach() - tokens.old_N, key_N, live_N).clamp(max=LOG_MAX)
    ratio_N = torch.exp(tokens.logp_N - tokens.logp_N.detach() + log_N)
    held_N = ratio_N.clamp(1 - eps_low, 1 + eps_high)
    loss_N, clipped_N = surrogate(tokens.advantage_N, ratio_N, held_N)
    return TokenLoss(
        loss_N * live_N, {"clip_fraction": clipped_N.to(ratio_N.dtype), "ratio": ratio_N.detach()}
    )
