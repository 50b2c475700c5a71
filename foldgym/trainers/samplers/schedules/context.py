"""A context budget that shrinks: to folding what a token budget is to thinking."""

from __future__ import annotations

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.slots import Desk, Knobs, Stateless


def decayed(step: int, start: int, end: int, gamma: float, every: int) -> int:
    """`max(end, int(start * gamma ** (step // every)))`, steps from 0.

    Train Long, Think Short uses this form for its token budget (MEM).
    """
    return max(end, int(start * gamma ** (step // every)))


class ContextBudget(Stateless):
    """`max_context` from `start` down to `end` tokens, times `gamma` every `every` steps.

    Generous first, so that tasks are learned; tight later, so that folding is. Only lowers the
    run's own `memory.max_context`; `end` must leave room beyond `memory.reserve`.
    Source: spec 5.9 recommends 16K, 8K, 4K, which is gamma .5; `every` is OURS.
    """

    def __init__(
        self, start: int = 16384, end: int = 4096, gamma: float = 0.5, every: int = 50
    ) -> None:
        if not 1 <= end <= start or not 0 < gamma < 1 or every < 1:
            raise ConfigError(
                "context needs 1 <= end <= start, 0 < gamma < 1 and every >= 1, "
                f"not {end}, {start}, {gamma}, {every}"
            )
        self._start, self._end, self._gamma, self._every = start, end, gamma, every

    def knobs(self, desk: Desk) -> Knobs:
        """The budget of this step."""
        step = max(0, desk.step - 1)
        return Knobs(max_context=decayed(step, self._start, self._end, self._gamma, self._every))
