"""A fixed set of tasks that comes back, so that each of them has a history."""

from __future__ import annotations

from foldgym.errors import ConfigError
from foldgym.seeding import derive_seed
from foldgym.trainers.samplers.slots import Arm, Desk, Pick, Stateless


class Fixed(Stateless):
    """`size` tasks per arm, for what needs statistics per task (Knapsack, CurES, ADCL, VAS)."""

    fixed = True

    def __init__(self, seed: int, size: int = 256) -> None:
        if size < 1:
            raise ConfigError(f"sampler.source.size must be at least 1, not {size}")
        self._seed, self._size = seed, size

    def arms(self, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        """All of them are live."""
        return arms

    def draw(self, arm: Arm, place: int, desk: Desk) -> Pick:
        """A random task of the arm's set."""
        return self._task(arm, desk.rng.randrange(self._size))

    def pool(self, want: int, desk: Desk) -> list[Pick]:
        """`want` distinct tasks at random, all of them (in the order of their names) when fewer."""
        places = [(arm, i) for arm in desk.arms for i in range(self._size)]
        chosen = places if want >= len(places) else desk.rng.sample(places, want)
        return [self._task(arm, i) for arm, i in chosen]

    def _task(self, arm: Arm, number: int) -> Pick:
        return Pick(arm, derive_seed(self._seed, "fixed", arm.name, number))
