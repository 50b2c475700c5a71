"""A task that was never played before, every time."""

from __future__ import annotations

from foldgym.seeding import derive_seed
from foldgym.trainers.samplers.counts import normalised
from foldgym.trainers.samplers.slots import Arm, Desk, Pick, Stateless


class Fresh(Stateless):
    """The seed of a task derives from the run's seed, the step and the place in the step.

    So no seed is played twice in a run, and a resumed run plans what it would have planned.
    """

    fixed = False

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def arms(self, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        """All of them are live."""
        return arms

    def draw(self, arm: Arm, place: int, desk: Desk) -> Pick:
        """A new task of the arm."""
        return Pick(arm, derive_seed(self._seed, "task", desk.step, place))

    def pool(self, want: int, desk: Desk) -> list[Pick]:
        """`want` candidates, arms drawn by weight."""
        weights = normalised({arm.name: arm.weight for arm in desk.arms})
        arms = {arm.name: arm for arm in desk.arms}
        names = desk.rng.choices(list(weights), list(weights.values()), k=want)
        return [
            Pick(arms[name], derive_seed(self._seed, "pool", desk.rng.getrandbits(62)))
            for name in names
        ]
