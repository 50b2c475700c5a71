"""Filtered behaviour cloning: only the episodes that succeeded."""

from __future__ import annotations

from foldgym.trainers.advantages.filters import truncated
from foldgym.trainers.samplers.slots import Trim
from foldgym.trainers.samplers.stats import score_of


def successes(metric: str = "score", above: float = 0.0) -> Trim:
    """Keeps members with `metric > above` that no limit ended: a time-out is not a success.

    Source: TTI, code read (`trajectory_reward > 0`). With equal rewards a group advantage is 0, so
    this wants an advantage that does not compare.
    """
    return lambda group: [
        i
        for i, t in enumerate(group.trajectories)
        if score_of(t, metric) > above and not truncated(t)
    ]


def replay_weights(sites: list[str]) -> list[float]:
    """Probabilities of kept trajectories, oldest first: newer ones and rarer sites come more often.

    `0.5 recency + 0.5 rarity`, recency in proportion to the place from 1, rarity to 1 over the
    site's count, each normalised. Sites (a, a, a, b) give (.1333, .1833, .2333, .45).
    Source: TTI, code read; used when more are kept than are trained on (512 there), drawn without
    replacement.
    """
    places = range(1, len(sites) + 1)
    rarity = [1 / sites.count(site) for site in sites]
    return [
        0.5 * place / sum(places) + 0.5 * rare / sum(rarity)
        for place, rare in zip(places, rarity, strict=True)
    ]
