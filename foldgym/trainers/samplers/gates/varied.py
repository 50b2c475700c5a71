"""DAPO's gate: a group in which nothing differs teaches nothing."""

from __future__ import annotations

from foldgym.trainers.samplers.dapo import degenerate
from foldgym.trainers.samplers.slots import Gate


def varied(metric: str = "score") -> Gate:
    """Keeps a group whose `metric` differs between members, or that has one member (see `dapo`)."""
    return lambda group: degenerate(group, metric)
