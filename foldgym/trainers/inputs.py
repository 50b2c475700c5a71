"""What advantages may ask of a run beside trajectories: columns per id, and the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.trainers.advantages.credit import sampled
from foldgym.trainers.advantages.inputs import Provider
from foldgym.trainers.batch import make_batch
from foldgym.trainers.reading import Reader
from foldgym.types import Batch, Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats, Ints


def providers(
    reader: Reader,
    step: int,
    max_tokens: int,
    reference: Reader | None = None,
    value: Callable[[Batch], Floats] | None = None,
) -> dict[str, Provider]:
    """What `advantages.estimate` may be asked for in this step of a run.

    `entropy` in nats and at the sampling temperature under the current policy, which before the
    update is the one that sampled; `reference` and `value` only where there is such a model.
    """
    given: dict[str, Provider] = {
        "step": lambda groups: step,
        "entropy": lambda groups: column(groups, lambda b: reader.scores(b, max_tokens)[1]),
    }
    if reference is not None:
        given["reference"] = lambda groups: column(
            groups, lambda b: reference.logprobs(b, max_tokens)
        )
    if value is not None:
        given["value"] = lambda groups: column(groups, value)
    return given


def column(groups: Sequence[Group], read: Callable[[Batch], Floats]) -> Credits:
    """A column [B, T] that `read` makes of a batch, cut back into the segments of the groups.

    Segments without a sampled id of their own are no rows of a batch and get zeros.
    """
    batch = make_batch(groups)
    values_BT = read(batch)
    row = iter(range(batch.rows))

    def part(turn_T: Ints) -> Floats:
        if not (turn_T >= 0).any():
            return np.zeros(len(turn_T))
        return values_BT[next(row), : len(turn_T)]

    return tuple(
        tuple(tuple(part(sampled(s)) for s in trajectory.segments) for trajectory in g.trajectories)
        for g in groups
    )
