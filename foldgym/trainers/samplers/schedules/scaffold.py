"""RuscaRL: part of the grading criteria is shown, less to later members and less over time."""

from __future__ import annotations

from foldgym.errors import ConfigError
from foldgym.rewards.scaffold import scaffold_ratio
from foldgym.trainers.samplers.slots import Desk, Knobs, Stateless
from foldgym.types import Guide


class Scaffold(Stateless):
    """Shows `round(ratio * K)` of the K texts in `task.metadata["criteria"]`, chosen at random.

    The members are trained on the prompt they saw (`participate_training=True` of the reference):
    on-policy. The reference's default trains them on the bare prompt, which no importance weight
    corrects; here a prompt and its sampled ids are never parted. Helped members do not enter
    statistics. `total` is the number of steps over which x goes from 0 to 1.
    Source: RuscaRL, code read; `start` .2, `steepness` 125 verified (350 steps, G = 8).
    """

    def __init__(self, total: int, start: float = 0.2, steepness: float = 125.0) -> None:
        if total < 1 or steepness <= 0:
            raise ConfigError(f"scaffold needs total >= 1, steepness > 0: {total}, {steepness}")
        self._total, self._start, self._steepness = total, start, steepness

    def knobs(self, desk: Desk) -> Knobs:
        """A guide per member."""
        step = max(1, desk.step)

        def guides(n: int) -> tuple[Guide, ...]:
            return tuple(
                Guide(reveal=scaffold_ratio(i, n, step, self._total, self._start, self._steepness))
                for i in range(n)
            )

        return Knobs(guides=guides)
