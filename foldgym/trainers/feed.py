"""The bounded queue between those who play and the one who learns.

What is asked of the sampler is played, judged and kept until the learner takes it, a step's worth
at a time. At most `staleness` steps are played ahead (AReaL's rule, `replay.capacity`). With 0
that is the synchronous loop: what a step is short of is planned, played and judged as a whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from foldgym.agents.tasks import cancelled
from foldgym.errors import Bug
from foldgym.records import dumps, group_table, loads, read_groups
from foldgym.trainers.replay import capacity
from foldgym.trainers.samplers.settle import settle
from foldgym.trainers.staleness import age, sampled_versions
from foldgym.types import Group, Json, Request, Sampler

# Plays requests for a step; the numbers after the step tell this play from the step's others.
Play = Callable[[Sequence[Request], int, tuple[int, ...]], Awaitable[list[Group]]]
Order = Literal["asked", "finished"]


@dataclass(frozen=True, slots=True)
class Lot:
    """What came of requests that were judged together; `number` is its place in line."""

    number: int
    accepted: tuple[Group, ...]
    rejected: tuple[Group, ...]
    played: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """A step's lots; `dropped` groups had become too old, `queued` ones wait for later steps."""

    lots: tuple[Lot, ...]
    dropped: int = 0
    queued: int = 0

    @property
    def accepted(self) -> list[Group]:
        """The groups that are learned from."""
        return [group for lot in self.lots for group in lot.accepted]

    @property
    def rejected(self) -> list[Group]:
        """The groups that are not."""
        return [group for lot in self.lots for group in lot.rejected]

    @property
    def played(self) -> list[Group]:
        """All groups as they were played, before anything was merged or left out."""
        return [group for lot in self.lots for group in lot.played]


class Feed:
    """Groups for a learner that takes `groups` of them a step, for `steps` steps.

        async with feed:
            taken = await feed.take(version)    # the version that is about to be updated
            ...                                 # an update, published
            await feed.rest()                   # only for a checkpoint: nothing is under way
            feed.done(version)                  # the version published: now more may be asked for

    A step is over with `done`; what follows it is asked for by the next `take`, and whenever a lot
    ends. In the `order` "asked" the learner takes lots as they were asked for and waits for the
    slowest; in the order "finished" it takes whatever is there, which favours short episodes. What
    has become older than `staleness` is never handed out: it counts as rejected, and others are
    asked for in its place. Whatever fails raises in `take` or `rest`.
    """

    def __init__(
        self,
        sampler: Sampler,
        play: Play,
        groups: int,
        steps: int,
        staleness: int = 0,
        order: Order = "asked",
    ) -> None:
        self._sampler, self._play, self._order = sampler, play, order
        self._groups, self._steps, self.staleness = groups, steps, staleness
        self._taken = self._done = self._version = 0  # steps, steps, published updates
        self._step = self._plays = self._asked = 0  # newest step planned; its plays; all lots
        self._lots: list[Lot] = []
        self._running: dict[int, int] = {}  # groups asked for, by the number of the lot
        self._tasks: set[asyncio.Task[None] | None] = set()
        self._news = asyncio.Event()
        self._failure: BaseException | None = None
        self._still = True
        self._busy, self._since = 0.0, 0.0

    # ------------------------------------------------------------ the learner's side

    async def take(self, version: int) -> Taken:
        """The next step's lots, with at least `groups` accepted groups."""
        dropped = 0
        self._still = False
        while True:
            if self._failure is not None:
                raise self._failure
            if self.staleness:
                dropped += self._retire(version)
            self._ask()
            count = self._enough()
            if count:
                break
            if not self._running:
                raise Bug("nothing is played and nothing may be asked for")
            await self._wait()
        lots, self._lots = tuple(self._lots[:count]), self._lots[count:]
        self._taken += 1
        return Taken(lots, dropped, self.queued)

    def done(self, version: int) -> None:
        """The step is over, and rollouts are sampled by `version` from now on."""
        self._done, self._version = self._taken, version

    async def rest(self) -> None:
        """Asks for nothing more, until the next `take`, and waits for what is under way."""
        self._still = True
        while self._running and self._failure is None:
            await self._wait()
        if self._failure is not None:
            raise self._failure

    @property
    def queued(self) -> int:
        """Accepted groups that nobody has taken."""
        return sum(len(lot.accepted) for lot in self._lots)

    @property
    def left(self) -> tuple[Lot, ...]:
        """Everything that nobody has taken."""
        return tuple(self._lots)

    @property
    def seconds(self) -> float:
        """How long anything has been under way since the start."""
        return self._busy + (time.perf_counter() - self._since if self._running else 0.0)

    async def __aenter__(self) -> Feed:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._still = True
        await cancelled(self._tasks)

    # ------------------------------------------------------------ asking

    def _ask(self) -> None:
        """Plans and starts whatever may be played now.

        A step that cannot be filled any more is filled up at once; otherwise half a step's groups
        are planned together at the least, since a sampler counts how often it is asked.
        """
        size = self._groups
        while not self._still and self._failure is None:
            running = sum(self._running.values())
            coming = self.queued + running
            known = self._taken * size + coming
            room = capacity(
                max_staleness=self.staleness,
                version=self._done,
                batch=size,
                accepted=known - running,
                running=running,
                max_concurrent=(self.staleness + 1) * size,
            )
            room = min(room, self._steps * size - known, size)
            if room < 1 or (running and 2 * room < size):
                return
            step = max(self._step, known // size + 1)
            if step != self._step:
                self._step, self._plays = step, 0
            requests = self._sampler.plan(step, room)
            for part in [[each] for each in requests] if self.staleness else [requests]:
                self._start(part)

    def _start(self, requests: list[Request]) -> None:
        if not self._running:
            self._since = time.perf_counter()
        number, self._asked = self._asked, self._asked + 1
        self._running[number] = len(requests)
        place = self._plays
        if self.staleness:
            self._plays += 1
        task = asyncio.create_task(self._settle(number, requests, self._step, place))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, number))

    async def _settle(self, number: int, requests: list[Request], step: int, place: int) -> None:
        """Plays and judges one lot."""
        born, played, again = self._version, list[Group](), 0

        async def play(wanted: Sequence[Request]) -> list[Group]:
            nonlocal again
            if self.staleness:
                mark, again = (place, again), again + 1
            else:  # one lot at a time
                mark, self._plays = (self._plays,), self._plays + 1
            groups = await self._play(wanted, step, mark)
            played.extend(groups)
            return groups

        accepted, rejected = await settle(self._sampler, requests, play)
        if self.staleness:
            _check(played, born)
        self._lots.append(Lot(number, tuple(accepted), tuple(rejected), tuple(played)))

    def _ended(self, number: int, task: asyncio.Task[None]) -> None:
        del self._running[number]
        self._tasks.discard(task)
        if not self._running:
            self._busy += time.perf_counter() - self._since
        self._news.set()
        if task.cancelled():
            return
        try:
            task.result()
            self._ask()
        except BaseException as failure:  # raised again where somebody waits
            self._failure = self._failure or failure

    # ------------------------------------------------------------ handing out

    def _enough(self) -> int:
        """How many lots make up a step; 0 if there are too few."""
        if self._order == "asked":
            self._lots.sort(key=lambda lot: lot.number)
        first = min(self._running, default=self._asked) if self._order == "asked" else self._asked
        found = 0
        for count, lot in enumerate(self._lots, 1):
            if lot.number > first:
                return 0
            found += len(lot.accepted)
            if found >= self._groups:
                return count
        return 0

    def _retire(self, version: int) -> int:
        """Takes too old groups out of what is accepted; returns how many."""
        dropped = 0
        for place, lot in enumerate(self._lots):
            old = [age(group, version) > self.staleness for group in lot.accepted]
            if any(old):
                pairs = list(zip(lot.accepted, old, strict=True))
                gone = tuple(group for group, is_old in pairs if is_old)
                kept = tuple(group for group, is_old in pairs if not is_old)
                self._lots[place] = replace(lot, accepted=kept, rejected=lot.rejected + gone)
                dropped += len(gone)
        return dropped

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    # ------------------------------------------------------------ saved with the run

    def state(self) -> dict[str, Json]:
        """What is queued, and where the plan stands; only after `rest`."""
        if self._running:
            raise Bug(f"{sum(self._running.values())} groups are under way and cannot be saved")
        kinds = ("accepted", "rejected", "played")
        lots = [
            {"number": lot.number}
            | {kind: [group_table(group) for group in getattr(lot, kind)] for kind in kinds}
            for lot in self._lots
        ]
        lots = [dumps(lot) for lot in lots]  # as lines: facts may hold numbers that JSON lacks
        return {"step": self._step, "plays": self._plays, "asked": self._asked, "lots": lots}

    def load(self, state: Mapping[str, Json] | None, step: int, version: int) -> None:
        """The inverse of `state`, after `step` steps. Groups that are too old now are dropped.

        There is no state in a checkpoint from before there was a queue.
        """
        self._taken = self._done = step
        self._version = version
        if state is None:
            return
        self._step, self._plays, self._asked = state["step"], state["plays"], state["asked"]
        kinds = ("accepted", "rejected", "played")
        self._lots = [
            Lot(lot["number"], *(read_groups(lot[kind]) for kind in kinds))
            for lot in map(loads, state["lots"])
        ]
        self._retire(version)


def _check(groups: Sequence[Group], born: int) -> None:
    """Raises `Bug` if an engine sampled by weights that were not its own any more."""
    for trajectory in (t for group in groups for t in group.trajectories):
        oldest = min(sampled_versions(trajectory), default=born)
        if oldest < born:
            raise Bug(
                f"trajectory {trajectory.id} was begun after version {born} was published, but its "
                f"engine says that version {oldest} sampled it; it cannot be told how old it is"
            )
