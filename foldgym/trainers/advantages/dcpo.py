"""MemAct's DCPO: an episode that edits its memory is many rows, and still one reward."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.trainers.advantages.credit import broadcast, totals
from foldgym.trainers.advantages.grpo import normalised
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats


def dcpo(groups: Sequence[Group], *, ddof: int = 1, eps: float = 1e-6) -> Credits:
    """GRPO with statistics over distinct episodes, copied to all their segments.

    Source: MemAct's dynamic context policy optimisation. Our groups hold trajectories and not
    rows, so members that share an id are one episode here, as rows of it are in the source;
    without such members this is GRPO. A lone episode gets 0 (the reference: its raw reward).
    """
    return tuple(
        tuple(
            broadcast(trajectory, float(value))
            for trajectory, value in zip(
                group.trajectories,
                episode_advantages(
                    totals(group).tolist(), [t.id for t in group.trajectories], ddof, eps
                ),
                strict=True,
            )
        )
        for group in groups
    )


def episode_advantages(
    scores: Sequence[float], episodes: Sequence[Hashable], ddof: int = 1, eps: float = 1e-6
) -> Floats:
    """Advantages [rows] of one group; an episode's first row speaks for it in the statistics."""
    first: dict[Hashable, float] = {}
    for name, score in zip(episodes, scores, strict=True):
        first.setdefault(name, score)
    names = list(first)
    values_G = normalised(np.array([first[n] for n in names]), True, ddof, eps, "zero")
    table = dict(zip(names, values_G.tolist(), strict=True))
    return np.array([table[name] for name in episodes])
