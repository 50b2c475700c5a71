"""What a loss that learns from success itself gets in place of an advantage."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.errors import ConfigError
from foldgym.trainers.advantages.credit import broadcast
from foldgym.types import Credits, Group, Trajectory


def labels(groups: Sequence[Group], *, fact: str = "success") -> Credits:
    """1 on every sampled id of a trajectory that succeeded, else 0: what a "label" loss takes.

    Raises `ConfigError` for a world that does not measure `success`.
    """

    def label(trajectory: Trajectory) -> float:
        if fact not in trajectory.facts:
            raise ConfigError(
                f"algorithm.loss: needs to know what succeeded, and {trajectory.env} measures no "
                f"{fact!r}; it measures: {', '.join(sorted(trajectory.facts)) or 'nothing'}"
            )
        return float(bool(trajectory.facts[fact]))

    return tuple(tuple(broadcast(t, label(t)) for t in group.trajectories) for group in groups)
