"""The sessions of one episode: one per lineage, all known to its engine as one episode's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from foldgym.agents.tasks import gather_or_cancel
from foldgym.errors import MemoryFault
from foldgym.seeding import derive_seed
from foldgym.types import (
    Branching,
    Completion,
    EnvHandle,
    Policy,
    Prompt,
    Sampling,
    Scorer,
    Session,
    Source,
)

T = TypeVar("T")


@dataclass(slots=True)
class _Queue:
    """What one lineage asks at once: sessions `taken`, how many are `asking`, the `newest`."""

    taken: set[int] = field(default_factory=set[int])
    asking: int = 0
    newest: asyncio.Future[None] | None = None


class Cast:
    """Opens the first lineage's session at once and the others when they first speak.

    The first session has the random stream of `seed`, every other one that of `seed` and its
    lineage's name. `aux` answers lineages and memories that ask by="aux".
    """

    def __init__(
        self, policy: Policy, seed: int, env: EnvHandle, aux: Policy | None = None
    ) -> None:
        self._policy, self._seed, self._env, self._aux = policy, seed, env, aux
        self._main = policy.open(seed, env)
        self._free = True  # nobody speaks through the first session yet
        self._sessions: dict[tuple[str, Source], Session] = {}
        self._queues: dict[tuple[str, Source], _Queue] = {}
        self._busy = 1

    @property
    def scorer(self) -> Scorer | None:
        """The policy, if it reads probabilities."""
        return self._policy if isinstance(self._policy, Scorer) else None

    async def sample(
        self, lineage: str, by: Source, prompt: Prompt, sampling: Sampling
    ) -> Completion:
        """A completion for a lineage; one that asks several times at once has as many sessions.

        Completions come back in the order in which they were asked for, whichever is there first:
        what is done with them, and who speaks through which session next, depends on no timing.
        Raises `MemoryFault` if there is nobody to ask by="aux".
        """
        queue = self._queues.setdefault((lineage, by), _Queue())
        place = next(place for place in count() if place not in queue.taken)
        session = self._session(lineage, by, place)
        counted = not isinstance(session, Aside)
        earlier, mine = queue.newest, asyncio.get_running_loop().create_future()
        queue.newest = mine
        queue.taken.add(place)
        self._expect(1 if counted and queue.asking else 0)
        queue.asking += 1
        try:
            try:
                await asyncio.sleep(0)  # whoever asks at the same time stands in line by now
                said = await session.sample(prompt, sampling)
            finally:
                queue.asking -= 1
                self._expect(-1 if counted and queue.asking else 0)
            if earlier is not None and not earlier.done():
                await earlier
            return said
        finally:
            queue.taken.discard(place)
            if not mine.done():
                mine.set_result(None)

    async def together(self, jobs: Sequence[Awaitable[T]]) -> list[T]:
        """Runs jobs at once, each on lineages of its own; results in the order of `jobs`.

        An engine that waits for whole episodes learns how many of their sessions will ask.
        When one job fails the others are cancelled.
        """
        if not jobs:
            return []
        left = len(jobs)
        self._expect(left - 1)

        async def one(job: Awaitable[T]) -> T:
            nonlocal left
            try:
                return await job
            finally:
                left -= 1
                if left:  # the last one's place is taken by whoever waits for all of them
                    self._expect(-1)

        return await gather_or_cancel([one(job) for job in jobs])

    def close(self) -> None:
        """Closes every session."""
        for session in [self._main, *self._sessions.values()]:
            session.close()

    def _expect(self, more: int) -> None:
        self._busy += more
        if more and isinstance(self._main, Branching):
            self._main.expect(self._busy)

    def _session(self, lineage: str, by: Source, place: int) -> Session:
        name = f"{lineage}#{place}" if place else lineage
        if (name, by) not in self._sessions:
            self._sessions[name, by] = self._open(name, by)
        return self._sessions[name, by]

    def _open(self, lineage: str, by: Source) -> Session:
        if by == "aux" and self._aux is not self._policy:
            if self._aux is None:
                raise MemoryFault(
                    f"lineage {lineage!r} asks an auxiliary policy, but the rollout has no `aux`"
                )
            return Aside(self._aux.open(derive_seed(self._seed, "aux", lineage), self._env))
        if by == "policy" and self._free:
            self._free = False
            return self._main
        seed = derive_seed(self._seed, "lineage" if by == "policy" else "aux", lineage)
        if isinstance(self._main, Branching):
            return self._main.branch(seed)
        return self._policy.open(seed, self._env)


class Aside:
    """A session that speaks now and then: its engine does not wait for it in between."""

    def __init__(self, inner: Session) -> None:
        self._inner = inner
        self._expect(0)

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        """As the inner session."""
        self._expect(1)
        try:
            return await self._inner.sample(prompt, sampling)
        finally:
            self._expect(0)

    def close(self) -> None:
        """Closes the inner session."""
        self._inner.close()

    def _expect(self, busy: int) -> None:
        if isinstance(self._inner, Branching):
            self._inner.expect(busy)
