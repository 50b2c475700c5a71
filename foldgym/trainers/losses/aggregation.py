"""How much a token weighs: aggregation over trajectories with global denominators.

Rows are segments, but nothing here knows rows: a trajectory weighs the same however often it was
folded, and however a batch is later split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from foldgym.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from foldgym.types import Floats

Aggregation = Literal[
    "token-mean",
    "seq-mean-token-mean",
    "seq-mean-token-sum",
    "seq-mean-token-sum-norm",
    "dr-grpo",
]
AGGREGATIONS: tuple[str, ...] = get_args(Aggregation)
CONSTANT = ("seq-mean-token-sum-norm", "dr-grpo")  # these divide by `norm`


def scales(mode: str, tokens_N: Floats, norm: float | None = None) -> Floats:
    """The factor [N] for every token of trajectory n, given its number of trained tokens.

    With S_n the sum of a trajectory's token losses, N+ those with any token, L = `norm`:

    * `token-mean`: sum S / sum tokens (DAPO)
    * `seq-mean-token-mean`: mean over N+ of S_n / tokens_n (GRPO)
    * `seq-mean-token-sum`: mean over N+ of S_n
    * `seq-mean-token-sum-norm`: sum S / L, not divided by N (verl)
    * `dr-grpo`: sum S / (N L), N counting trajectories without tokens too (TRL)

    The last two need the constant `norm`, usually the most tokens an episode may sample: the
    longest sample of a batch would make the step size depend on chance. Sums over nothing are 0.
    """
    if mode not in AGGREGATIONS:
        raise UnknownName("aggregation", mode, AGGREGATIONS)
    if (norm is None) == (mode in CONSTANT):
        raise ConfigError(
            f"aggregation {mode!r} needs the constant `norm`, the most tokens an episode may sample"
            if norm is None
            else f"aggregation {mode!r} has no use for norm={norm}; leave it out"
        )
    if norm is not None and not norm > 0:
        raise ConfigError(f"norm must be positive, not {norm}")
    filled_N = tokens_N > 0
    count, total = max(1, int(filled_N.sum())), max(float(tokens_N.sum()), 1e-300)
    constant = norm or 1.0
    if mode == "token-mean":
        return filled_N / total
    if mode == "seq-mean-token-mean":
        return np.divide(1.0 / count, tokens_N, out=np.zeros_like(tokens_N), where=filled_N)
    if mode == "seq-mean-token-sum":
        return filled_N / count
    if mode == "seq-mean-token-sum-norm":
        return filled_N / constant
    return filled_N / (constant * len(tokens_N)) if len(tokens_N) else tokens_N
