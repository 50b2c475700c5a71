"""The slots of a sampler: what each is asked, and the small nouns they pass to one another.

A slot is any object with the methods below; `curriculum` puts one of each together. State must be
JSON; randomness comes from `Desk.rng`, whose stream depends on run seed, slot, step and round only,
so a resumed run draws what it would have drawn.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from foldgym.types import Credits, Group, Guide, Json, Request, Retry

if TYPE_CHECKING:
    from foldgym.trainers.samplers.stats import Result, StatStore


@dataclass(frozen=True, slots=True)
class Arm:
    """`Arm("easy", "foldgym/KeyDoor-v0", {"rooms": 3})`: an environment and a setting of it."""

    name: str
    env: str
    kwargs: Mapping[str, Json] = field(default_factory=dict[str, Json])
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Pick:
    """One task: an arm, a seed, and settings over those of the arm."""

    arm: Arm
    seed: int
    kwargs: Mapping[str, Json] = field(default_factory=dict[str, Json])

    @property
    def key(self) -> str:
        """The name of the task in the statistics."""
        return f"{self.arm.name}#{self.seed}"


@dataclass(frozen=True, slots=True)
class Knobs:
    """What a schedule sets now; 0 and empty leave the run's own value."""

    kwargs: Mapping[str, Json] = field(default_factory=dict[str, Json])
    max_turns: int = 0
    max_context: int = 0
    guides: Callable[[int], tuple[Guide, ...]] | None = None  # for a group of that size


@dataclass(frozen=True, slots=True)
class Desk:
    """What every slot may read. `arms` stand in the order of their names, so order is no input."""

    step: int
    version: int  # of the newest weights seen
    arms: tuple[Arm, ...]
    stats: StatStore
    source: Source
    rng: random.Random
    floor: float = 0.01  # least probability of a live arm


class Source(Protocol):
    """Where tasks come from. `arms` may change what is live; `pool` lists distinct candidates."""

    @property
    def fixed(self) -> bool: ...  # whether tasks come back, so that they have statistics
    def arms(self, arms: tuple[Arm, ...]) -> tuple[Arm, ...]: ...
    def draw(self, arm: Arm, place: int, desk: Desk) -> Pick: ...
    def pool(self, want: int, desk: Desk) -> list[Pick]: ...
    def feedback(self, results: Sequence[Result], desk: Desk) -> dict[str, float]: ...
    def state(self) -> dict[str, Json]: ...
    def load(self, state: Mapping[str, Json]) -> None: ...


class Schedule(Protocol):
    """What level, horizon or budget now."""

    def knobs(self, desk: Desk) -> Knobs: ...
    def observe(self, results: Sequence[Result], desk: Desk) -> dict[str, float]: ...
    def state(self) -> dict[str, Json]: ...
    def load(self, state: Mapping[str, Json]) -> None: ...


class Selector(Protocol):
    """Which tasks next. `probs` sum to one over live arms; `pick` returns exactly `want`."""

    @property
    def by_task(self) -> bool: ...  # whether it chooses among tasks that must come back
    def probs(self, desk: Desk) -> dict[str, float]: ...
    def pick(self, want: int, place: int, desk: Desk) -> list[Pick]: ...
    def observe(self, results: Sequence[Result], desk: Desk) -> dict[str, float]: ...
    def state(self) -> dict[str, Json]: ...
    def load(self, state: Mapping[str, Json]) -> None: ...


class Allocator(Protocol):
    """How many rollouts each; the parts sum to `total` and are at least 1."""

    @property
    def by_task(self) -> bool: ...
    def split(self, picks: Sequence[Pick], total: int, desk: Desk) -> list[int]: ...


class Rescue(Protocol):
    """A group went badly: what to play next, `tried` attempts into it. None: nothing more."""

    def next(self, group: Group, tried: int, desk: Desk) -> Retry | None: ...


Gate = Callable[[Group], str]  # why a group is rejected; empty to keep it
Trim = Callable[[Group], Sequence[int]]  # members that stay, before the advantages
Weighter = Callable[[Group], float]  # factor of a group's credit, in [0, 1]
Thin = Callable[[Sequence[Group], Credits, Desk], list[list[int]]]  # members that stay, after them


class Stateless:
    """The methods of a slot that remembers nothing."""

    def observe(self, results: Sequence[Result], desk: Desk) -> dict[str, float]:
        """Nothing to learn."""
        return {}

    def state(self) -> dict[str, Json]:
        """Nothing to save."""
        return {}

    def load(self, state: Mapping[str, Json]) -> None:
        """Nothing to restore."""


def arm_of(request: Request) -> str:
    """The arm whose statistics a request counts for."""
    return request.arm or request.env
