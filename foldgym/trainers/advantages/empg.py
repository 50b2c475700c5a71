"""EMPG: confident steps are moved more, uncertain ones less, and clear next steps are sought."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foldgym.trainers.advantages.base import Base, base_values
from foldgym.trainers.advantages.credit import per_turn
from foldgym.trainers.advantages.inputs import flat, turn_of_tokens
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats


class Modulated(NamedTuple):
    """Per trajectory one array over its steps; `final` is `modulated` minus its batch mean."""

    scale: list[Floats]
    modulated: list[Floats]
    final: list[Floats]


def empg(
    groups: Sequence[Group],
    entropy: Credits,
    *,
    k: float = 1.0,
    k_f: float = 1.0,
    zeta: float = 0.1,
    base: Base = "grpo",
    bonus_on_ties: bool = True,
) -> Credits:
    """`A_i g(H_k) + zeta f(H_{k+1})`, minus the mean over all steps of the batch.

    A step is a turn that sampled anything, folds included; H is the mean of `entropy` over its
    ids, scaled to [0, 1] over the batch. g has mean 1; the bonus for a clear next step is not
    paid to the last. `entropy` is a column in nats over the full vocabulary, under the policy that
    sampled. Source: EMPG (formula through a copy of the paper's listing). The bonus also moves
    groups whose members all scored the same; `bonus_on_ties=False` (ours) spares them.
    """
    values: list[float] = []
    zetas: list[float] = []
    steps: list[list[int]] = []
    entropies: list[list[float]] = []
    for group, columns in zip(groups, entropy, strict=True):
        advantages_G = base_values(group, base)
        bonus = zeta if bonus_on_ties or advantages_G.any() else 0.0
        for trajectory, value, column in zip(
            group.trajectories, advantages_G.tolist(), columns, strict=True
        ):
            entropy_N, turn_N = flat(trajectory, column, "entropy"), turn_of_tokens(trajectory)
            steps.append(sorted(set(turn_N.tolist())))
            entropies.append([float(entropy_N[turn_N == turn].mean()) for turn in steps[-1]])
            values.append(value)
            zetas.append(bonus)
    final = iter(zip(steps, modulated(values, entropies, k, k_f, zetas).final, strict=True))
    credits: list[tuple[tuple[Floats, ...], ...]] = []
    for group in groups:
        out: list[tuple[Floats, ...]] = []
        for trajectory in group.trajectories:
            turns, row = next(final)
            turn_K = np.zeros(len(trajectory.turns))
            turn_K[turns] = row
            out.append(per_turn(trajectory, turn_K.tolist()))
        credits.append(tuple(out))
    return tuple(credits)


def modulated(
    advantages: Sequence[float],
    entropies: Sequence[Sequence[float]],
    k: float = 1.0,
    k_f: float = 1.0,
    zeta: float | Sequence[float] = 0.1,
) -> Modulated:
    """Advantages [N] and entropies [N][K_n] of one batch; a trajectory may have no steps.

    With h the entropy min-max scaled over all steps: `g = exp(-k h) / mean exp(-k h)` and
    `f = exp(-k_f h)`.
    """
    rows = [np.asarray(row, dtype=np.float64) for row in entropies]
    zeta_N = np.broadcast_to(np.asarray(zeta, dtype=np.float64), len(rows))
    every = np.concatenate(rows) if rows else np.zeros(0)
    if not len(every):
        empty = [np.zeros(0) for _ in rows]
        return Modulated(empty, empty, empty)
    low, span = every.min(), every.max() - every.min() + 1e-8
    mean = np.exp(-k * (every - low) / span).mean() + 1e-8
    scales: list[Floats] = []
    results: list[Floats] = []
    for value, row, bonus in zip(advantages, rows, zeta_N, strict=True):
        h = (row - low) / span
        scales.append(np.exp(-k * h) / mean)
        ahead = np.append(np.exp(-k_f * h[1:]), 0.0)[: len(h)]
        results.append(value * scales[-1] + bonus * ahead)
    centre = np.concatenate(results).mean()
    return Modulated(scales, results, [row - centre for row in results])
