"""From trajectories and their credit to rows of numbers, and from one batch to micro-batches.

A row is a segment. Weights are computed over trajectories before any row exists, so a trajectory
weighs once however often it folded, and parts of a batch add up to the whole exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from foldgym.errors import Bug, NotFinite
from foldgym.trainers.advantages.credit import sampled
from foldgym.trainers.losses.aggregation import scales
from foldgym.types import Batch, Credit, Credits, Group, Segment, Trajectory

if TYPE_CHECKING:
    from foldgym.types import Floats, Ints

Zero = Literal["keep", "skip", "exclude"]
Whole = Literal["row", "trajectory", "group", "batch"]


@dataclass(frozen=True, slots=True)
class _Row:
    segment: Segment
    turn_T: Ints
    share_T: Floats  # weight before aggregation: of trained ids, and `context_weight` of others
    credit_T: Floats
    trajectory: int
    group: int


def make_batch(
    groups: Sequence[Group],
    credits: Credits | None = None,
    aggregation: str = "token-mean",
    *,
    norm: float | None = None,
    zero: Zero = "keep",
    context_weight: float = 0.0,
    weigh: Callable[[Segment], float] | None = None,
) -> Batch:
    """Rows are the trainable segments with at least one sampled id, in order.

    `credits[group][trajectory]` is one array [T] per segment; None means an advantage of 1, which
    is behaviour cloning. `aggregation` and `norm`: see `losses.aggregation.scales`.

    `zero` says what becomes of trajectories without credit:

    * `"keep"`: rows like all others.
    * `"skip"`: their rows are left out and still count in the denominators. Exact, and cheaper,
      for a loss that is 0 where the advantage is 0; wrong with a KL or entropy term.
    * `"exclude"`: groups without any credit leave the denominators too, as in DAPO, so that the
      step does not shrink as tasks get solved.

    `context_weight` also trains ids nobody sampled, at this weight against 1 for sampled ones
    (useful when cloning from scratch). It is the one option that depends on how a trajectory was
    cut, since a segment repeats context.

    `weigh` says how much the sampled ids of a segment count against others of its trajectory (1):
    in its loss, and in the denominators too, so that a trajectory weighs what it did.

    Raises `NotFinite` for a sampled id without a finite log-prob or credit, and `Bug` for credit
    of the wrong shape, a failed trajectory, or a sampled id that nothing precedes. All of them
    name the trajectory.
    """
    rows: list[_Row] = []
    names: list[str] = []
    for number, group in enumerate(groups):
        given = None if credits is None else credits[number]
        if given is not None and len(given) != len(group.trajectories):
            raise Bug(f"{len(given)} credits for the {len(group.trajectories)} of group {number}")
        if zero == "exclude" and given is not None and not any(map(_any, given)):
            continue
        for member, trajectory in enumerate(group.trajectories):
            credit = None if given is None else given[member]
            rows += _rows(trajectory, credit, context_weight, weigh, len(names), number)
            names.append(trajectory.id)
    sizes_N = np.zeros(len(names))
    for row in rows:
        sizes_N[row.trajectory] += row.share_T.sum()
    scale_N = scales(aggregation, sizes_N, norm)
    if zero != "keep":
        idle = np.ones(len(names), dtype=bool)
        for row in rows:
            idle[row.trajectory] &= not row.credit_T.any()
        rows = [row for row in rows if not idle[row.trajectory]]
    return _stack(rows, scale_N, tuple(names))


def _any(credit: Credit) -> bool:
    return any(part.any() for part in credit)


def _rows(
    trajectory: Trajectory,
    credit: Credit | None,
    context_weight: float,
    weigh: Callable[[Segment], float] | None,
    number: int,
    group: int,
) -> list[_Row]:
    """The rows of one trajectory, every promise about it checked."""
    if trajectory.failed:
        raise Bug(f"trajectory {trajectory.id} failed ({trajectory.error}) and must not be trained")
    if credit is not None and len(credit) != len(trajectory.segments):
        raise Bug(
            f"trajectory {trajectory.id} has {len(trajectory.segments)} segments, "
            f"but credit for {len(credit)}"
        )
    rows: list[_Row] = []
    for place, segment in enumerate(trajectory.segments):
        where = f"segment {place} of trajectory {trajectory.id}"
        turn_T = sampled(segment)
        trained_T = turn_T >= 0
        credit_T = np.ones(len(turn_T)) if credit is None else np.asarray(credit[place], float)
        if credit_T.shape != turn_T.shape:
            raise Bug(f"{where} has {len(turn_T)} ids, but credit of shape {credit_T.shape}")
        if not trained_T.any():
            continue
        if trained_T[0]:
            raise Bug(f"{where} begins with a sampled id, so nothing could have predicted it")
        for name, values_T in (("log-prob", np.asarray(segment.logprobs)), ("credit", credit_T)):
            bad = np.flatnonzero(trained_T & ~np.isfinite(values_T))
            if bad.size:
                raise NotFinite(f"{where}: the sampled id at {bad[0]} has no finite {name}")
        share_T = np.where(trained_T, weigh(segment) if weigh else 1.0, context_weight)
        share_T[0] = 0.0
        for picture in segment.pictures:  # nobody has to foretell a placeholder
            share_T[picture.at : _past(segment, picture.at)] = 0.0
        masked_T = credit_T if credit is None else np.where(trained_T, credit_T, 0.0)
        rows.append(_Row(segment, turn_T, share_T, masked_T, number, group))
    return rows


def _past(segment: Segment, at: int) -> int:
    """Where the run of equal ids that begins at `at` is over."""
    ids = segment.token_ids
    return next((end for end in range(at, len(ids)) if ids[end] != ids[at]), len(ids))


def _stack(rows: list[_Row], scale_N: Floats, names: tuple[str, ...]) -> Batch:
    """Right-padded columns."""
    length_B = np.array([len(row.turn_T) for row in rows], dtype=np.int64)
    shape = (len(rows), int(length_B.max(initial=0)))
    ids_BT, turn_BT = np.zeros(shape, np.int64), np.full(shape, -1, np.int64)
    version_BT = np.full(shape, -1, np.int64)
    logprob_BT, advantage_BT, weight_BT = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for i, row in enumerate(rows):
        to = len(row.turn_T)
        ids_BT[i, :to] = row.segment.token_ids
        turn_BT[i, :to] = row.turn_T
        version_BT[i, :to] = row.segment.versions
        logprob_BT[i, :to] = np.where(row.turn_T >= 0, row.segment.logprobs, 0.0)
        advantage_BT[i, :to] = row.credit_T
        weight_BT[i, :to] = row.share_T * scale_N[row.trajectory]
    return Batch(
        ids_BT,
        turn_BT,
        logprob_BT,
        version_BT,
        advantage_BT,
        weight_BT,
        length_B,
        np.array([row.trajectory for row in rows], dtype=np.int64),
        np.array([row.group for row in rows], dtype=np.int64),
        names,
        pictures=tuple(row.segment.pictures for row in rows)
        if any(row.segment.pictures for row in rows)
        else (),
    )


# ---------------------------------------------------------------- parts of a batch


def take(batch: Batch, rows: Sequence[int]) -> Batch:
    """These rows in this order, trimmed to their own longest; weights and numbers stay."""
    index = np.asarray(rows, dtype=np.int64)
    to = int(batch.length_B[index].max(initial=0))
    extra: Mapping[str, Floats] = {name: x[index, :to] for name, x in batch.extra.items()}
    return replace(
        batch,
        ids_BT=batch.ids_BT[index, :to],
        turn_BT=batch.turn_BT[index, :to],
        logprob_BT=batch.logprob_BT[index, :to],
        version_BT=batch.version_BT[index, :to],
        advantage_BT=batch.advantage_BT[index, :to],
        weight_BT=batch.weight_BT[index, :to],
        length_B=batch.length_B[index],
        row_trajectory_B=batch.row_trajectory_B[index],
        row_group_B=batch.row_group_B[index],
        extra=extra,
        pictures=tuple(batch.pictures[row] for row in index) if batch.pictures else (),
    )


def split(batch: Batch, max_tokens: int, whole: Whole = "row") -> list[list[int]]:
    """Row numbers of micro-batches of at most `max_tokens` padded ids each.

    `whole` names what a loss must see together: a sequence-level ratio needs `"trajectory"`, a
    loss over a group `"group"`. A unit longer than `max_tokens` gets a micro-batch of its own.
    Long rows come first, so that running out of memory happens at once.
    """
    parts: list[list[int]] = []
    longest = 0
    for unit in sorted(unit_rows(batch, whole), key=lambda unit: -batch.length_B[unit].max()):
        if parts and (len(parts[-1]) + len(unit)) * longest <= max_tokens:
            parts[-1] += unit
        else:
            parts.append(list(unit))
            longest = int(batch.length_B[unit].max())
    return parts


def minibatches(batch: Batch, count: int, rng: random.Random) -> list[Batch]:
    """A random partition of whole groups for `count` optimiser steps.

    Weights are multiplied by the number of parts: each part's gradient then is an unbiased
    estimate of the whole batch's, whatever the aggregation. Groups that weigh nothing are in no
    part, since a part of nothing else would be a step without a gradient.
    """
    units = [unit for unit in unit_rows(batch, "group") if batch.weight_BT[unit].any()]
    rng.shuffle(units)
    parts = [units[start::count] for start in range(min(count, len(units)))]
    if len(parts) < 2:
        return [batch]
    chosen = [take(batch, sorted(row for unit in part for row in unit)) for part in parts]
    return [replace(part, weight_BT=part.weight_BT * len(parts)) for part in chosen]


def unit_rows(batch: Batch, whole: Whole) -> list[list[int]]:
    """Row numbers of what must stay together."""
    if whole == "row":
        return [[row] for row in range(batch.rows)]
    if whole == "batch":
        return [list(range(batch.rows))] if batch.rows else []
    key_B = batch.row_trajectory_B if whole == "trajectory" else batch.row_group_B
    return [np.flatnonzero(key_B == key).tolist() for key in np.unique(key_B)]
