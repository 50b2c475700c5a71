"""Tasks one after the other, with a memory that learns from each: how success grows with position.

Strict order, one writer: task k reads the store that tasks 1 .. k - 1 left, and no reward decides
what is kept (memory spec A6, A11). The order matters, so several are played, each from the same
store. `evaluate` with a store in its `Rollout` is the frozen counterpart: nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from foldgym.agents.evaluate import succeeded
from foldgym.agents.rollout import OpenEnv, Rollout, Score, rollout
from foldgym.errors import ConfigError
from foldgym.memory import Store
from foldgym.seeding import derive_seed, generator
from foldgym.types import Group, Json, Policy, Request, Trajectory


@dataclass(frozen=True, slots=True)
class Stream:
    """`orders[o][k]` is the success at position k of order o, the mean of that task's samples.

    None where every sample failed for a reason of ours. `items[o]` is what was kept at the end.
    """

    orders: tuple[tuple[float | None, ...], ...]
    items: tuple[int, ...]

    def at(self, first: float, last: float) -> float | None:
        """Mean success between two shares of the way: `at(0.5, 1)` is the second half."""
        size = len(self.orders[0])
        between = range(round(first * size), round(last * size))
        found = [row[k] for row in self.orders for k in between]
        scored = [value for value in found if value is not None]
        return fmean(scored) if scored else None

    def to_table(self) -> dict[str, Json]:
        """The same as a JSON object, with the mean by position and of both halves."""
        columns = [
            [x for x in column if x is not None] for column in zip(*self.orders, strict=True)
        ]
        return {
            "orders": [list(row) for row in self.orders],
            "by_position": [fmean(column) if column else None for column in columns],
            "first_half": self.at(0, 0.5),
            "second_half": self.at(0.5, 1),
            "items": list(self.items),
        }


async def stream(
    requests: Sequence[Request],
    open_env: OpenEnv,
    policy: Policy,
    how: Rollout,
    seed: int,
    score: Score,
    store: Store,
    *,
    orders: int = 1,
    progress: Callable[[Trajectory], None] | None = None,
) -> tuple[Stream, list[Group]]:
    """Plays the tasks one by one in several orders; the groups are those of the first, as given.

    An episode's random stream depends on its task, not on its position. `store` ends as the first
    order left it. Raises `ConfigError` for a store whose writers are chosen by reward.
    """
    if not store.label_free:
        raise ConfigError(
            'a stream of test tasks must not look at their rewards: let "all" or "majority" write '
            f"to the store, not {store.writers!r}"
        )
    start = store.state()
    rows: list[tuple[float | None, ...]] = []
    sizes: list[int] = []
    first: list[Group] = []
    for order in range(orders):
        here = store if order == 0 else store.empty()
        if order:
            here.load(start)
        places = list(range(len(requests)))
        if order:
            generator(seed, "order", order).shuffle(places)
        row: list[float | None] = []
        for place in places:
            reading = replace(how, store=here.head)
            task = [requests[place]]
            stream_of = derive_seed(seed, "stream", place)
            groups = await rollout(task, open_env, policy, reading, stream_of, score, progress)
            here.merge(groups)
            outcomes = [float(succeeded(t)) for t in groups[0].trajectories]
            row.append(fmean(outcomes) if outcomes else None)
            first += groups if order == 0 else []
        rows.append(tuple(row))
        sizes.append(len(here.head.items))
    return Stream(tuple(rows), tuple(sizes)), first
