"""Turn leave-one-out: every turn by what came after it, against what came after others' turns.

Why it is unbiased. Let `h` be all that member i has seen before it chooses turn k, and `b` a
number that depends only on `h`, on k and on the *other* members. They are independent of i given
the task, so with i's turn `a ~ pi(a | h)`

    E[ b grad log pi(a | h) | h, others ] = b grad sum_a pi(a | h) = 0,

whichever turn this is and however many i or the others have: a baseline shifts nothing. And
`E[grad log pi(a | h) r_l] = 0` for what was earned before k, so the return-to-go suffices (gamma
1). Hence `sum_k A_k grad log pi` has the mean of the policy gradient. Two habits break this: a
mean over the members that *reached* turn k with i among them (b then contains i's own return, and
the longest member is compared with itself and gets 0), and dividing by a deviation that i's own
return is part of.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from foldgym.trainers.advantages.anchors import anchors, canonicaliser
from foldgym.trainers.advantages.credit import per_turn, returns_to_go, totals, turn_rewards
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats

Ended = Literal["hold", "zero"]


def turn_loo(
    groups: Sequence[Group], *, gamma: float = 1.0, ended: Ended = "hold", anchor: str = ""
) -> Credits:
    """`A_k = G_k - mean of G_k over the other members`, on all ids that turn k sampled.

    G is the return-to-go over turns, folds included; the outcome is earned by the last turn. A
    member that ended before turn k stands with its last return (`"hold"`: with an outcome alone
    this is RLOO) or with 0, what it still earns (`"zero"`). With `anchor` (see `gigpo`) the others
    are compared at the same observation instead where they ever met it.

    Ours; the module says why it is unbiased. That holds for gamma 1 and an aggregation by a
    constant or by sums: a batch's own token count in a denominator correlates with the actions.
    A group of one has no others and gets 0.
    """
    canonical = canonicaliser(anchor) if anchor else None
    credits: list[tuple[tuple[Floats, ...], ...]] = []
    for group in groups:
        rewards_G = totals(group)
        returns = [
            returns_to_go(earned_K, gamma) if len(earned_K) else np.array([reward])
            for earned_K, reward in zip(turn_rewards(group), rewards_G.tolist(), strict=True)
        ]
        baselines = others_at_turn(returns, ended)
        if canonical is not None:
            seen = [anchors(t, canonical) for t in group.trajectories]
            baselines = others_at_anchor(returns, seen, baselines)
        credits.append(
            tuple(
                per_turn(t, (g_K - b_K)[: len(t.turns)].tolist())
                for t, g_K, b_K in zip(group.trajectories, returns, baselines, strict=True)
            )
        )
    return tuple(credits)


def others_at_turn(returns: Sequence[Floats], ended: Ended = "hold") -> list[Floats]:
    """Baselines [G][K_i] from returns-to-go [G][K_i], at least one each: the others' mean at k.

    Without others the baseline is the return itself, so that the advantage is 0.
    """
    if len(returns) < 2:
        return [np.array(row) for row in returns]
    longest = max(map(len, returns))
    fill = [row[-1] if ended == "hold" else 0.0 for row in returns]
    table_GK = np.array(
        [
            np.append(row, np.full(longest - len(row), last))
            for row, last in zip(returns, fill, strict=True)
        ]
    )
    out: list[Floats] = []
    for i, row in enumerate(returns):
        others_GK = np.delete(table_GK, i, axis=0)[:, : len(row)]
        # the mean of equal floats need not equal them
        equal_K = others_GK.max(axis=0) == others_GK.min(axis=0)
        out.append(np.where(equal_K, others_GK[0], others_GK.mean(axis=0)))
    return out


def others_at_anchor(
    returns: Sequence[Floats],
    seen: Sequence[Sequence[Hashable]],
    otherwise: Sequence[Floats],
) -> list[Floats]:
    """Baselines [G][K_i]: the mean return of the other members' visits of the same anchor.

    An anchor that no other member met keeps the baseline of `otherwise`.
    """
    out: list[Floats] = []
    for i, names in enumerate(seen):
        row = np.array(otherwise[i])
        for k, name in enumerate(names):
            met = [
                float(returns[j][place])
                for j in range(len(seen))
                if j != i
                for place, other in enumerate(seen[j])
                if other == name
            ]
            if met:
                row[k] = met[0] if max(met) == min(met) else sum(met) / len(met)
        out.append(row)
    return out
