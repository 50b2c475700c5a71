"""IGPO: every turn by what it gained, the last by the outcome, summed backwards over turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from foldgym.errors import ConfigError
from foldgym.trainers.advantages.credit import per_turn, turn_rewards
from foldgym.trainers.advantages.turns import acting, pooled, with_folds
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats

Mode = Literal["joint", "separate"]


def igpo(
    groups: Sequence[Group],
    *,
    mode: Mode = "separate",
    gamma: float = 1.0,
    norm_std: bool = True,
    w_ig: float = 1.0,
    w_outcome: float = 1.0,
    eps: float = 1e-6,
) -> Credits:
    """`A_k = z_k + gamma A_{k+1}` over turns; z are the group's standardised turn rewards.

    A turn's reward is its entry of `Reward.turns` (an information gain, or any other); the last
    acting turn earns the outcome on top. `"joint"` standardises all of a group together,
    `"separate"` gains and outcomes each by themselves, with the population's deviation. Without
    any turn rewards only outcomes are standardised, and every turn has its discounted share.
    Folds are no turns here: a fold has the advantage of the turn that it leads to.

    `w_ig` and `w_outcome` multiply z. Source: IGPO's code, where they multiply the rewards: in
    the separate mode the division by the deviation then cancels them. With gamma 1 early turns
    add up more terms, so |A| grows with the number of turns.
    """
    credits: list[tuple[tuple[Floats, ...], ...]] = []
    for group in groups:
        rows: list[list[float]] = []
        for trajectory, reward, earned_K in zip(
            group.trajectories, group.rewards, turn_rewards(group), strict=True
        ):
            row = pooled(trajectory, earned_K) if reward.turns else []
            rows.append([float(x) for x in row] if len(row) else [reward.total])
        z = normalised_turns(rows, mode, norm_std, eps)
        values = discounted(z, gamma, w_ig, w_outcome)
        out: list[tuple[Floats, ...]] = []
        for trajectory, row in zip(group.trajectories, values, strict=True):
            missing = len(acting(trajectory)) - len(row)
            early = [row[0] * gamma**k for k in range(missing, 0, -1)]
            out.append(per_turn(trajectory, with_folds(trajectory, [*early, *row]).tolist()))
        credits.append(tuple(out))
    return tuple(credits)


def igpo_curriculum(
    groups: Sequence[Group],
    step: int,
    *,
    total: int,
    mode: Mode = "separate",
    gamma: float = 1.0,
    norm_std: bool = True,
    eps: float = 1e-6,
) -> Credits:
    """IGPO with weights that move linearly over `total` steps: gains 1 to 0.5, outcome 0.5 to 1.

    Raises `ConfigError` for a total below 1.
    """
    if total < 1:
        raise ConfigError(f"algorithm.advantage.total: must be at least 1 step, not {total}")
    done = min(1.0, max(0.0, step / total))
    return igpo(
        groups,
        mode=mode,
        gamma=gamma,
        norm_std=norm_std,
        w_ig=1.0 - 0.5 * done,
        w_outcome=0.5 + 0.5 * done,
        eps=eps,
    )


def normalised_turns(
    rows: Sequence[Sequence[float]], mode: Mode, norm_std: bool = True, eps: float = 1e-6
) -> list[list[float]]:
    """Turn rewards of one group, the last of each row its outcome, to z of the same shape.

    `z = (r - mean) / (sqrt(var + 1e-8) + eps)`, or `r - mean` without the deviation. A statistic
    over one value uses a deviation of 1, so a lone value gives 0.
    """
    where = [(i, k) for i, row in enumerate(rows) for k in range(len(row))]
    last = [k == len(rows[i]) - 1 for i, k in where]
    value_N = np.array([rows[i][k] for i, k in where], dtype=np.float64)
    last_N = np.array(last, dtype=bool)
    parts = [np.ones(len(where), bool)] if mode == "joint" else [last_N, ~last_N]
    z_N = np.zeros(len(where))
    for part_N in parts:
        if not part_N.any():
            continue
        x = value_N[part_N]
        deviation = np.sqrt(x.var() + 1e-8) + eps if norm_std and len(x) > 1 else 1.0
        z_N[part_N] = 0.0 if x.max() == x.min() else (x - x.mean()) / deviation
    z = iter(z_N.tolist())
    return [[next(z) for _ in row] for row in rows]


def discounted(
    z: Sequence[Sequence[float]], gamma: float, w_ig: float = 1.0, w_outcome: float = 1.0
) -> list[list[float]]:
    """`A_k = w z_k + gamma A_{k+1}` along each row; the last entry is weighted as the outcome."""
    out: list[list[float]] = []
    for row in z:
        values: list[float] = []
        ahead = 0.0
        for k in range(len(row) - 1, -1, -1):
            ahead = row[k] * (w_outcome if k == len(row) - 1 else w_ig) + gamma * ahead
            values.append(ahead)
        out.append(values[::-1])
    return out
