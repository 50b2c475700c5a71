"""Starts near the goal: the environment's expert plays the first turns, fewer and fewer of them."""

from __future__ import annotations

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.slots import Desk, Knobs, Stateless
from foldgym.types import Guide


class Prefill(Stateless):
    """The first `start` turns are given, one less every `every` steps, in the end none.

    The state that the agent begins in is one that can be reached, since it was. Turns played by the
    expert are context and count towards a turn limit. All members of a group get the same lead; as
    long as there is one the group counts as helped, so selectors learn nothing from it.
    Source: QWeb's curriculum of sub-instructions (text), where fields of a form are filled in
    advance; turns instead of fields, and both numbers, are OURS.
    """

    def __init__(self, start: int = 3, every: int = 20) -> None:
        if start < 1 or every < 1:
            raise ConfigError(f"prefill needs start >= 1 and every >= 1, not {start} and {every}")
        self._start, self._every = start, every

    def knobs(self, desk: Desk) -> Knobs:
        """The lead of this step, as a guide for everybody."""
        turns = max(0, self._start - max(0, desk.step - 1) // self._every)
        return Knobs(guides=lambda n: (Guide(lead=turns),) * n)
