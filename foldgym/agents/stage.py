"""What a scaffold plays on: the world, the task, and lineages that share one trajectory."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, TypeVar

from foldgym.agents.cast import Cast
from foldgym.agents.conversation import Limits, converse
from foldgym.agents.guides import lead
from foldgym.agents.kit import Loan, Voice
from foldgym.agents.ledger import Ledger
from foldgym.agents.renderers import Renderer
from foldgym.agents.transcript import Transcript
from foldgym.memory import FullHistory
from foldgym.seeding import derive_seed, generator
from foldgym.types import (
    Budget,
    EnvHandle,
    Guide,
    Json,
    Memory,
    Message,
    Opening,
    Proposal,
    Sampling,
    Snapshot,
    Stop,
    Tool,
)

T = TypeVar("T")


class Scaffold(Protocol):
    """A program over lineages: who speaks when, and what the world hears.

    `roles` are the names of its lineages without their numbers ("draft" for "draft/0").
    """

    @property
    def roles(self) -> tuple[str, ...]: ...  # noqa: D102
    async def run(self, stage: Stage) -> Stop: ...  # noqa: D102


def role_of(lineage: str) -> str:
    """`"draft/2"` is a "draft"."""
    return lineage.partition("/")[0]


@dataclass(slots=True)
class Stage:
    """One episode for a scaffold. `memory` makes the run's memory, `untrained` roles only speak.

    What a scaffold writes into `facts` goes to the trajectory's facts, its `proposals` to the store
    with those of the memories.
    """

    env: EnvHandle
    opening: Opening
    cast: Cast
    renderer: Renderer
    memory: Callable[[], Memory]
    sampling: Sampling
    budget: Budget
    limits: Limits
    seed: int
    guide: Guide = field(default_factory=Guide)
    untrained: frozenset[str] = frozenset()
    store: Snapshot = field(default_factory=Snapshot)
    ledger: Ledger = field(default_factory=Ledger)
    facts: dict[str, Json] = field(default_factory=dict[str, Json])
    proposals: list[Proposal] = field(default_factory=list[Proposal])
    talks: list[Transcript] = field(default_factory=list[Transcript])
    started: float = field(default_factory=time.monotonic)
    led: bool = False

    async def lineage(
        self,
        name: str = "main",
        *,
        memory: Memory | None = None,
        prompt: Sequence[Message] | None = None,
        tools: Sequence[Tool] | None = None,
        by: Literal["policy", "aux"] = "policy",
        trainable: bool = True,
        budget: Budget | None = None,
        max_tokens: int = 0,
    ) -> Transcript:
        """A conversation of its own: log, memory and segments; numbers of turns are shared.

        It opens with the task's prompt and tools unless others are given, remembers everything
        unless a memory is given, and is spoken by the policy and trained. A name may be opened
        again: the lineage then starts afresh, in a new segment.
        """
        task, offered = self.opening
        if prompt is not None:
            task = replace(task, prompt=tuple(prompt))
        sampling = self.sampling
        talk = Transcript(
            Opening(task, tuple(offered if tools is None else tools)),
            memory or FullHistory(),
            self.renderer,
            self.cast,
            replace(sampling, max_tokens=max_tokens) if max_tokens else sampling,
            budget or self.budget,
            self.ledger,
            self.voice(name, by, trainable),
            Loan(self.store, self.cast.scorer),
        )
        self.talks.append(talk)
        await talk.begin()
        return talk

    def voice(
        self, name: str, by: Literal["policy", "aux"] = "policy", trainable: bool = True
    ) -> Voice:
        """A lineage that only answers on the side (`Transcript.aside`)."""
        trainable = trainable and by == "policy" and role_of(name) not in self.untrained
        return Voice(name, by, trainable)

    async def lead(self, talk: Transcript, env: EnvHandle | None = None) -> Stop | None:
        """Plays what the request's guide plays before the first sampled turn, if nobody did yet."""
        if self.led:
            return None
        self.led = True
        return await lead(env or self.env, talk, self.guide, self.seed)

    async def converse(
        self,
        talk: Transcript,
        env: EnvHandle | None = None,
        turns: int = 0,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> Stop:
        """Plays `talk` against the world, or against `env` around it, until the episode stops.

        What the request's guide plays comes first. `turns` allows that many at most (0: as many
        as are left); `Stop.MAX_TURNS` then says that these are used up. `before` is awaited before
        every turn.
        """
        env = env or self.env
        stop = await self.lead(talk, env)
        if stop is not None:
            return stop
        left = self.limits.max_turns - talk.acted
        return await converse(
            env,
            talk,
            replace(
                self.limits,
                max_turns=min(turns, left) if turns else left,
                max_seconds=self.seconds_left,
            ),
            before,
        )

    async def together(self, jobs: Sequence[Awaitable[T]]) -> list[T]:
        """Runs jobs at once, each on lineages of its own; results in the order of `jobs`."""
        return await self.cast.together(jobs)

    @property
    def seconds_left(self) -> float:
        """Of the limit on wall-clock seconds."""
        return self.limits.max_seconds - (time.monotonic() - self.started)

    def rng(self, *parts: int | str) -> random.Random:
        """A random stream of the scaffold's own, the same whenever the episode is repeated."""
        return generator(derive_seed(self.seed, "scaffold"), *parts)

    async def end(self) -> None:
        """Tells every memory that the episode is over."""
        for talk in self.talks:
            await talk.end()

    def proposal(self) -> Proposal | None:
        """What memories and scaffold want of the store, as one."""
        made = [*self.proposals, *(talk.proposal for talk in self.talks if talk.proposal)]
        if not made:
            return None
        return Proposal(
            tuple(pair for each in made for pair in each.put),
            tuple(key for each in made for key in each.drop),
            tuple(key for each in made for key in each.used),
            self.store.address,
        )
