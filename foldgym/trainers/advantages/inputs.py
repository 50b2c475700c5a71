"""Numbers per token beside the rewards: flat over a trajectory's sampled ids, and what fills them.

Flat is in the order of turns: lineages speak by turns, each in segments of its own.

An estimator says what it needs by its parameters: those after `groups` that have no default.

* `reference`, `entropy`, `value`: columns, shaped like credit, of log-probs under a frozen model,
  of entropies in nats under the policy, and of a value head
* `step`: the training step

`estimate` asks a provider for each and refuses to go on without; nothing is ever assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from foldgym.errors import Bug, ConfigError, NotFinite
from foldgym.rewards.rubric import needs
from foldgym.trainers.advantages.credit import sampled
from foldgym.types import Credit, Credits, Group, Trajectory

if TYPE_CHECKING:
    from foldgym.types import Floats, Ints

Provider = Callable[[Sequence[Group]], Any]


def estimate(
    advantage: Callable[..., Credits],
    groups: Sequence[Group],
    providers: Mapping[str, Provider] | None = None,
) -> Credits:
    """`advantage(groups, ...)` with everything that it needs.

    Raises `ConfigError` that names what this run does not provide.
    """
    check_provided(advantage, providers or {})
    return advantage(groups, **{name: (providers or {})[name](groups) for name in needs(advantage)})


def check_provided(advantage: Callable[..., Credits], providers: Mapping[str, Provider]) -> None:
    """Raises `ConfigError` if an advantage needs something that nothing provides."""
    missing = [name for name in needs(advantage) if name not in providers]
    if missing:
        known = ", ".join(sorted(providers)) or "nothing"
        raise ConfigError(
            f"algorithm.advantage: needs {', '.join(missing)}, and this run provides {known}"
        )


def by_turn(trajectory: Trajectory) -> Ints:
    """Places [N] of the sampled ids of all segments together, in the order of their turns."""
    turns = [turn_T[turn_T >= 0] for turn_T in map(sampled, trajectory.segments)]
    turn_N = np.concatenate(turns) if turns else np.zeros(0, dtype=np.int64)
    return np.argsort(turn_N, kind="stable")


def flat(trajectory: Trajectory, column: Credit, name: str = "column") -> Floats:
    """The values [N] of a column at the sampled ids, in the order of their turns.

    Raises `Bug` for a column of another shape, and `NotFinite` for a value that is not finite;
    both name the trajectory.
    """
    if len(column) != len(trajectory.segments):
        raise Bug(
            f"{name} has {len(column)} parts for the {len(trajectory.segments)} segments of "
            f"trajectory {trajectory.id}"
        )
    parts: list[Floats] = []
    for place, (segment, values) in enumerate(zip(trajectory.segments, column, strict=True)):
        turn_T, values_T = sampled(segment), np.asarray(values, dtype=np.float64)
        if values_T.shape != turn_T.shape:
            raise Bug(
                f"{name} of segment {place} of trajectory {trajectory.id} has shape "
                f"{values_T.shape}, not {turn_T.shape}"
            )
        parts.append(values_T[turn_T >= 0])
    values_N = (np.concatenate(parts) if parts else np.zeros(0))[by_turn(trajectory)]
    if not np.isfinite(values_N).all():
        raise NotFinite(f"{name} of trajectory {trajectory.id} is not finite at a sampled id")
    return values_N


def unflat(trajectory: Trajectory, values_N: Floats) -> Credit:
    """The inverse of `flat`: 0 wherever nothing was sampled."""
    order_N = by_turn(trajectory)
    if len(order_N) != len(values_N):
        raise Bug(
            f"{len(values_N)} values for the {len(order_N)} sampled ids of trajectory "
            f"{trajectory.id}"
        )
    placed_N = np.zeros(len(values_N))
    placed_N[order_N] = values_N
    credit: list[Floats] = []
    start = 0
    for segment in trajectory.segments:
        mask_T = sampled(segment) >= 0
        out_T = np.zeros(len(mask_T))
        stop = start + int(mask_T.sum())
        out_T[mask_T] = placed_N[start:stop]
        credit.append(out_T)
        start = stop
    return tuple(credit)


def turn_of_tokens(trajectory: Trajectory) -> Ints:
    """The turn [N] that sampled each id, in the order of `flat`."""
    turns = [turn_T[turn_T >= 0] for turn_T in map(sampled, trajectory.segments)]
    return np.sort(np.concatenate(turns)) if turns else np.zeros(0, dtype=np.int64)


def sampler_logprobs(trajectory: Trajectory) -> Floats:
    """The sampler's log-probs [N], in the order of `flat`."""
    column = tuple(np.asarray(segment.logprobs) for segment in trajectory.segments)
    return flat(trajectory, column, "log-prob")
