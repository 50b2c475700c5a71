"""Balanced online filtering: only tasks that are neither too hard nor too easy."""

from __future__ import annotations

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.slots import Gate
from foldgym.trainers.samplers.stats import guided, score_of
from foldgym.types import Group


def band(low: float = 0.1, high: float = 0.9, metric: str = "score") -> Gate:
    """Keeps a group whose mean `metric` lies in [low, high]; the step is refilled until full.

    How much a task can teach grows with p (1 - p), so 1/2 is best. The mean is over unaided
    attempts; a group of helped ones is judged as a whole.
    Source: online difficulty filtering (text). The balanced band [.1, .9] is the recommendation of
    spec 5.9, .2 to .8 is MEM; a one-sided band is the "skewed" variant. Each round asks for exactly
    what is missing, so fast episodes are not preferred.
    """
    if not 0 <= low < high <= 1:
        raise ConfigError(f"band needs 0 <= low < high <= 1, not {low} and {high}")

    def gate(group: Group) -> str:
        members = [t for t in group.trajectories if not guided(t)] or group.trajectories
        p = sum(score_of(t, metric) for t in members) / len(members)
        if p < low:
            return f"mean {metric} below {low:g}"
        return f"mean {metric} above {high:g}" if p > high else ""

    return gate
