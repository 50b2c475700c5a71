"""Groups as JSON objects and back: a request, what was played of it, and what failed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from foldgym.errors import DataError
from foldgym.records.trajectories import from_table, read_turn, to_table, turn_table
from foldgym.types import Group, Guide, Json, Request, Reward, Trajectory

if TYPE_CHECKING:
    from collections.abc import Sequence


def group_table(group: Group) -> dict[str, Json]:
    """A group as one JSON object. Raises `DataError` for facts that JSON cannot hold."""
    request = group.request
    members = zip(group.trajectories, group.rewards, strict=True)
    return {
        "request": {
            "env": request.env,
            "seed": request.seed,
            "n": request.n,
            "options": dict(request.options),
            "arm": request.arm,
            "kwargs": dict(request.kwargs),
            "max_turns": request.max_turns,
            "max_context": request.max_context,
            "guides": [_guide_table(guide) for guide in request.guides],
            "reason": request.reason,
        },
        "members": [to_table(trajectory, reward) for trajectory, reward in members],
        "failures": [to_table(trajectory) for trajectory in group.failures],
    }


def read_group(table: Mapping[str, Json]) -> Group:
    """The inverse of `group_table`. Raises `DataError`."""
    request = dict(table["request"])
    guides = tuple(_read_guide(guide) for guide in request.pop("guides", ()))
    members = [_scored(member) for member in table["members"]]
    return Group(
        Request(**request, guides=guides),
        tuple(trajectory for trajectory, _ in members),
        tuple(reward for _, reward in members),
        tuple(from_table(failure).trajectory for failure in table.get("failures", ())),
    )


def read_groups(tables: Sequence[Mapping[str, Json]]) -> tuple[Group, ...]:
    """Several of them."""
    return tuple(map(read_group, tables))


def _scored(table: Mapping[str, Json]) -> tuple[Trajectory, Reward]:
    record = from_table(table)
    if record.reward is None:
        raise DataError(f"trajectory {record.trajectory.id} of a group has no reward")
    return record.trajectory, record.reward


def _guide_table(guide: Guide) -> dict[str, Json]:
    return {
        "hint": guide.hint,
        "reveal": guide.reveal,
        "lead": guide.lead,
        "prefix": [turn_table(turn, "a guide") for turn in guide.prefix],
    }


def _read_guide(table: Mapping[str, Json]) -> Guide:
    prefix = tuple(map(read_turn, table["prefix"]))
    return Guide(table["hint"], table["reveal"], table["lead"], prefix)
