"""How far the policy has moved on since a token was sampled.

A version is a number of updates. The staleness of a token is the version that is about to be
updated less the one that sampled it, that of an episode is its first sampled token's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from foldgym.types import Group, Trajectory


def age(group: Group, version: int) -> int:
    """The staleness of the oldest token of a group; 0 if none was sampled."""
    return max((version - v for t in group.trajectories for v in sampled_versions(t)), default=0)


def sampled_versions(trajectory: Trajectory) -> Iterator[int]:
    """The version of every token that is trained on."""
    for segment in trajectory.segments:
        if segment.trainable:
            for turn, version in zip(segment.turn_ids, segment.versions, strict=True):
                if turn >= 0:
                    yield version


def lags(groups: Sequence[Group], version: int) -> dict[str, float]:
    """Mean and largest staleness of a batch's tokens, and the share of tokens of each age.

    `staleness/mixed` is the share of episodes that more than one version sampled.
    """
    counts: dict[int, int] = {}
    mixed, episodes = 0, 0
    for trajectory in (t for group in groups for t in group.trajectories):
        seen = list(sampled_versions(trajectory))
        for each in seen:
            counts[version - each] = counts.get(version - each, 0) + 1
        mixed, episodes = mixed + (len(set(seen)) > 1), episodes + 1
    total = sum(counts.values())
    if not total:
        return {}
    return {
        "staleness/mean": sum(lag * n for lag, n in counts.items()) / total,
        "staleness/max": float(max(counts)),
        "staleness/mixed": mixed / episodes,
        **{f"staleness/share_{lag}": counts[lag] / total for lag in sorted(counts)},
    }
