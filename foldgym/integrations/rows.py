"""Played groups as the rows of TRL's `rollout_func`, and what a row is worth.

TRL wants a fixed number of rows for a task, has one reward for a row and subtracts the mean of the
rows of a task. A row is one prompt and one completion that only ever grew, which is a segment; so
a trajectory that folded is several rows, and rows are not trajectories any more. Two answers:

* `"refuse"`: every trajectory must be one segment.
* `"rows"`: every segment is a row and gets its trajectory's advantage, computed over trajectories;
  one spare row, of which nothing is trained, takes minus the sum, so the mean that TRL subtracts
  is 0. Further spare rows have no reward and TRL leaves them out of everything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from foldgym.errors import ConfigError
from foldgym.trainers.advantages.grpo import normalised
from foldgym.types import Group, Segment, Trajectory

Segments = Literal["refuse", "rows"]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a TRL batch: what was sampled in it and whose it is (None: a spare one)."""

    segment: Segment | None
    trajectory: Trajectory | None


def rows_of(group: Group, size: int, segments: Segments) -> list[Row]:
    """The `size` rows of one task. Raises `ConfigError` if the trajectories need others."""
    rows: list[Row] = []
    for trajectory in (*group.trajectories, *group.failures):
        trained = [segment for segment in trajectory.segments if segment.trained]
        if trajectory.failed:
            trained = []
        if segments == "refuse" and len(trained) > 1:
            raise ConfigError(
                f"trajectory {trajectory.id} folded into {len(trained)} segments, and TRL has one "
                "row, one reward and one vote in the baseline for it; set segments='rows' (and "
                "episodes below num_generations), use a memory that only grows, or foldgym train"
            )
        rows += [Row(segment, trajectory) for segment in trained or [None]]
    spare = size - len(rows)
    if spare < (segments == "rows"):
        raise ConfigError(
            f"task {group.request.seed} of {group.request.env}: {len(group.trajectories)} "
            f"trajectories have {len(rows)} segments, and num_generations = {size} leaves room "
            "for one less; raise num_generations or lower episodes"
        )
    return rows + [Row(None, None)] * spare


def columns(rows: Sequence[Row], pad_id: int, stop_id: int) -> dict[str, list[Any]]:
    """TRL's columns. A row of which nothing is trained is one pad id and one end id, masked."""
    found: dict[str, list[Any]] = {
        name: [] for name in ("prompt_ids", "completion_ids", "logprobs", "env_mask")
    }
    for row in rows:
        ids, logprobs, mask, start = [pad_id, stop_id], [0.0, 0.0], [0, 0], 1
        if row.segment is not None:
            ids, logprobs = [*row.segment.token_ids], [*row.segment.logprobs]
            mask = [int(turn >= 0) for turn in row.segment.turn_ids]
            start = mask.index(1)
        found["prompt_ids"].append(ids[:start])
        found["completion_ids"].append(ids[start:])
        found["logprobs"].append(logprobs[start:])
        found["env_mask"].append(mask[start:])
    return found


def worth(rows: Sequence[Row], totals: Mapping[int, float], scale: bool) -> list[float | None]:
    """Rewards for the rows of one task in mode `"rows"`: see above.

    `totals` are the rewards by `id(trajectory)`; `scale` divides by their standard deviation.
    """
    order = list(totals)
    credit_G = normalised(np.array([totals[key] for key in order]), scale, 1, 1e-6, "zero")
    credit = dict(zip(order, credit_G.tolist(), strict=True))
    found = [
        None if row.trajectory is None or row.segment is None else credit[id(row.trajectory)]
        for row in rows
    ]
    balance = -math.fsum(value for value in found if value is not None)
    found[found.index(None)] = balance
    return found
