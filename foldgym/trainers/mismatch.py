"""Weights for what the sampler and the trainer disagree about: TIS, MIS, IcePop and their kin.

`w = exp(trainer's log-prob before the first step - sampler's)`, without gradient, multiplied into
the policy loss and into nothing else. Log-ratios are held in [-20, 20]. Identical log-probs give 1
everywhere. To add one, write the function and a line in `MISMATCHES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from foldgym.errors import ConfigError

if TYPE_CHECKING:
    from foldgym.types import Batch, Floats, Ints

Per = Literal["trajectory", "turn"]
LIMIT = 20.0


@dataclass(frozen=True, slots=True)
class Gap:
    """Log-ratios [N] of the trained tokens of a whole batch, and where each belongs."""

    log_N: Floats
    trajectory_N: Ints
    turn_N: Ints

    def ratio(self) -> Floats:
        """Importance weight per token."""
        return np.exp(np.clip(self.log_N, -LIMIT, LIMIT))

    def over(self, values_N: Floats, how: Literal["sum", "mean", "max"], per: Per) -> Floats:
        """The sum, mean or maximum over the trajectory or turn of each token, at the token."""
        pairs = np.stack([self.trajectory_N, self.turn_N if per == "turn" else 0 * self.turn_N])
        keys, at_N = np.unique(pairs, axis=1, return_inverse=True)
        at_N = at_N.reshape(-1)
        if how == "max":
            top = np.full(keys.shape[1], -np.inf)
            np.maximum.at(top, at_N, values_N)
            return top[at_N]
        total = np.bincount(at_N, values_N, keys.shape[1]).astype(np.float64)
        if how == "mean":
            total = total / np.maximum(1, np.bincount(at_N, minlength=keys.shape[1]))
        return total[at_N]


def token_truncate(gap: Gap, *, high: float = 2.0, normalise: bool = False) -> Floats:
    """TIS: `min(w, high)` per token. `normalise` scales the batch to mean 1. CODE: verl (2.0)."""
    _check(None, high)
    return _mean_one(np.minimum(gap.ratio(), high), normalise)


def token_mask(gap: Gap, *, low: float | None = 0.5, high: float | None = 5.0) -> Floats:
    """IcePop: `w` within [low, high], else 0. CODE: verl, TRL; the default bounds are MEM."""
    _check(low, high)
    return _inside(gap.ratio(), gap.ratio(), low, high)


def sequence_truncate(
    gap: Gap, *, high: float = 2.0, per: Per = "trajectory", normalise: bool = False
) -> Floats:
    """`min(prod w, high)` for every token of a trajectory, or of a turn. CODE: verl.

    Products vanish or explode over the thousands of tokens of an agent: prefer `per="turn"` or
    `geometric_mask`.
    """
    _check(None, high)
    whole_N = np.exp(np.clip(gap.over(gap.log_N, "sum", per), -LIMIT, LIMIT))
    return _mean_one(np.minimum(whole_N, high), normalise)


def sequence_mask(
    gap: Gap, *, low: float | None = None, high: float | None = 3.0, per: Per = "trajectory"
) -> Floats:
    """MIS: `prod w` within [low, high], else 0, for every token. CODE: TRL's default (3.0)."""
    _check(low, high)
    whole_N = np.exp(np.clip(gap.over(gap.log_N, "sum", per), -LIMIT, LIMIT))
    return _inside(whole_N, whole_N, low, high)


def geometric_mask(
    gap: Gap, *, low: float | None = 0.5, high: float | None = 2.0, per: Per = "trajectory"
) -> Floats:
    """Token weights where the geometric mean of the trajectory (or turn) is within [low, high].

    CODE: OpenRLHF's seq-mask-tis; the default bounds are OURS.
    """
    _check(low, high)
    mean_N = np.exp(np.clip(gap.over(gap.log_N, "mean", per), -LIMIT, LIMIT))
    return _inside(gap.ratio(), mean_N, low, high)


def reject(
    gap: Gap,
    *,
    high: float,
    low: float | None = None,
    by: Literal["k1", "k2", "k3"] = "k3",
    over: Literal["token", "sum", "mean", "max"] = "mean",
    per: Per = "trajectory",
) -> Floats:
    """1 where the divergence is within bounds, else 0: verl's rejection, without a weight.

    The divergence of sampler and trainer is estimated from the sampler's tokens. k1 has either
    sign and so needs `low` too. CODE: verl.
    """
    if by == "k1" and low is None:
        raise ConfigError('reject with by = "k1" needs low as well as high: k1 has either sign')
    _check(low, high)
    log_N = np.clip(gap.log_N, -LIMIT, LIMIT)
    values_N = {"k1": -log_N, "k2": log_N**2 / 2, "k3": np.exp(log_N) - 1 - log_N}[by]
    if over != "token":
        values_N = gap.over(values_N, over, per)
    return _inside(np.ones_like(log_N), values_N, low, high)


MISMATCHES: dict[str, Callable[..., Floats]] = {
    "geometric_mask": geometric_mask,
    "icepop": token_mask,
    "mis": sequence_mask,
    "reject": reject,
    "sequence_mask": sequence_mask,
    "sequence_truncate": sequence_truncate,
    "tis": token_truncate,
    "token_mask": token_mask,
    "token_truncate": token_truncate,
}


def mismatch_column(batch: Batch, trainer_BT: Floats, weigh: Callable[[Gap], Floats]) -> Floats:
    """The weights [B, T] of a batch whose `logprob_BT` is the sampler's; 0 off the mask."""
    at = batch.weight_BT != 0
    number_BT = np.broadcast_to(batch.row_trajectory_B[:, None], at.shape)
    gap = Gap((trainer_BT - batch.logprob_BT)[at], number_BT[at], batch.turn_BT[at])
    out_BT = np.zeros(at.shape)
    out_BT[at] = weigh(gap)
    return out_BT


def _inside(weight_N: Floats, value_N: Floats, low: float | None, high: float | None) -> Floats:
    kept_N = np.ones(len(value_N), dtype=bool)
    if low is not None:
        kept_N &= value_N >= low
    if high is not None:
        kept_N &= value_N <= high
    return np.where(kept_N, weight_N, 0.0)


def _mean_one(weight_N: Floats, normalise: bool) -> Floats:
    mean = weight_N.mean() if normalise and len(weight_N) else 0.0
    return weight_N / mean if mean > 0 else weight_N


def _check(low: float | None, high: float | None) -> None:
    if (low is not None and high is not None and low > high) or (high is not None and high <= 0):
        raise ConfigError(
            f"bounds must be low <= high and high above 0, not low={low}, high={high}"
        )
