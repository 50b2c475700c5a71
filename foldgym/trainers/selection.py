"""Token selection: which tokens of a batch enter the policy loss.

Denominators stay those of all tokens. To add one, write the function and a line in `SELECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from foldgym.errors import ConfigError

if TYPE_CHECKING:
    from foldgym.types import Batch, Floats, Ints


def top_percent(advantage_N: Floats, entropy_N: Floats, percent: float) -> Ints:
    """Indices, ascending, of the top `percent` of tokens by `|A| * entropy`.

    At least one, `int(N * percent / 100)` of them; ties go to the lower index (OURS).
    """
    count = len(advantage_N)
    size = min(count, max(1, int(count * percent / 100)))
    order = np.argsort(-np.abs(advantage_N) * entropy_N, kind="stable")
    return np.sort(order[:size])


def d3s(
    batch: Batch,
    entropy_BT: Floats,
    step: int,
    *,
    percent: tuple[float, float] = (20.0, 100.0),
    steps: int,
) -> Floats:
    """1 [B, T] at the tokens with the most `|A| * entropy`, else 0.

    `percent` goes linearly from its first value to its second over `steps` updates: aggressive
    first, everything at the end (without this it overfits, says the paper). Entropy is over the
    full vocabulary under the policy at the start of the update. The paper's starting values were
    not found; these are OURS. Source: D3S (NOTE).
    """
    if not (0 < percent[0] <= 100 and 0 < percent[1] <= 100) or steps < 1:
        raise ConfigError(
            f"d3s needs percentages in (0, 100] and steps of at least 1, not {percent} and {steps}"
        )
    share = min(1.0, step / steps)
    now = (1 - share) * percent[0] + share * percent[1]
    at = np.flatnonzero(batch.weight_BT)
    out = np.zeros(batch.weight_BT.size)
    if at.size:
        kept = top_percent(batch.advantage_BT.ravel()[at], entropy_BT.ravel()[at], now)
        out[at[kept]] = 1.0
    return out.reshape(batch.weight_BT.shape)


SELECTIONS: dict[str, Callable[..., Floats]] = {"d3s": d3s}
