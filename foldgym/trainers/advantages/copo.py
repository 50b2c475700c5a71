"""COPO: where the answers of a group agree, judge the task; where they differ, the members."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from foldgym.trainers.advantages.credit import broadcast, totals
from foldgym.trainers.advantages.grpo import normalised
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats


class Blend(NamedTuple):
    """One group: `blended = w_local * local + (1 - w_local) * everyone`."""

    entropy: float
    w_local: float
    local: Floats
    everyone: float
    blended: Floats


def copo(
    groups: Sequence[Group],
    *,
    gamma: float = 20.0,
    rho: float = 1.5,
    eps: float = 1e-6,
    fact: str = "answer",
) -> Credits:
    """GRPO inside a group and a batch-wide advantage of the group, by `sigmoid(gamma (H - rho))`.

    H is the entropy in nats of the final answers `facts[fact]`; an episode without one answers
    with nothing. Source: COPO, through a secondary note (base of the logarithm and ddof are not
    verified; the paper blends losses, which is the same only where nothing is clipped). The
    batch-wide part raises every answer to an easy task: it is no baseline, so this is biased.
    """
    filled = [group for group in groups if group.trajectories]
    answers = [[str(t.facts.get(fact, "")) for t in g.trajectories] for g in filled]
    blends = iter(blend([totals(g) for g in filled], answers, gamma, rho, eps))
    return tuple(
        tuple(
            broadcast(trajectory, float(value))
            for trajectory, value in zip(group.trajectories, next(blends).blended, strict=True)
        )
        if group.trajectories
        else ()
        for group in groups
    )


def blend(
    rewards: Sequence[Sequence[float] | Floats],
    answers: Sequence[Sequence[str]],
    gamma: float = 20.0,
    rho: float = 1.5,
    eps: float = 1e-6,
) -> list[Blend]:
    """Rewards and answers of all groups of a batch, none of them empty, to one `Blend` each."""
    if not rewards:
        return []
    means = np.array([np.mean(row) for row in rewards], dtype=np.float64)
    everyone = normalised(means, True, ddof=1, eps=eps, singleton="zero")
    out: list[Blend] = []
    for row, said, value in zip(rewards, answers, everyone.tolist(), strict=True):
        entropy = answer_entropy(said)
        w = 1.0 / (1.0 + math.exp(min(700.0, -gamma * (entropy - rho))))
        local = normalised(np.asarray(row, dtype=np.float64), True, 1, 1e-6, "zero")
        out.append(Blend(entropy, w, local, value, w * local + (1.0 - w) * value))
    return out


def answer_entropy(answers: Sequence[str]) -> float:
    """Entropy in nats of how often each distinct answer was given."""
    shares = [count / len(answers) for count in Counter(answers).values()]
    return -sum(share * math.log(share) for share in shares)
