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
    kwargs: Mapping[str, Json] = field(default_factory=dict[str, Json])  # that schedules set now


class Slot(Protocol):
    """What every slot with a memory has: it learns in `observe` only, and all of it is saved."""

    def observe(self, results: Sequence[Result], desk: Desk) -> dict[str, float]:
        """Takes in the unaided attempts of a finished step; returns numbers to log."""
        ...

    def state(self) -> dict[str, Json]:
        """Everything learned, as JSON."""
        ...

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        ...


class Source(Slot, Protocol):
    """Where tasks come from."""

    @property
    def fixed(self) -> bool:
        """Whether tasks come back, so that each of them has statistics."""
        ...

    def arms(self, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        """The live arms, given those of the run."""
        ...

    def draw(self, arm: Arm, place: int, desk: Desk) -> Pick:
        """One task of an arm, for the `place`-th group of the step."""
        ...

    def pool(self, want: int, desk: Desk) -> list[Pick]:
        """Up to `want` distinct candidates."""
        ...


class Schedule(Slot, Protocol):
    """What level, horizon or budget now."""

    def knobs(self, desk: Desk) -> Knobs:
        """What holds in this step."""
        ...


class Selector(Slot, Protocol):
    """Which tasks next."""

    @property
    def by_task(self) -> bool:
        """Whether it chooses by what is known of single tasks, so that they must come back."""
        ...

    def probs(self, desk: Desk) -> dict[str, float]:
        """Probability of every live arm: sums to 1, each at least `desk.floor`."""
        ...

    def pick(self, want: int, place: int, desk: Desk) -> list[Pick]:
        """Exactly `want` tasks; `place` counts those that the step already has."""
        ...


class Allocator(Protocol):
    """How many rollouts each task gets."""

    @property
    def by_task(self) -> bool:
        """Whether it needs statistics of single tasks."""
        ...

    def split(self, picks: Sequence[Pick], total: int, desk: Desk) -> list[int]:
        """One part per pick, each at least 1; they sum to `total`."""
        ...


class Rescue(Protocol):
    """What to play when a group went badly."""

    def next(self, group: Group, tried: int, desk: Desk) -> Retry | None:
        """The next attempt, after `tried` earlier ones on this task; None: nothing more."""
        ...


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
