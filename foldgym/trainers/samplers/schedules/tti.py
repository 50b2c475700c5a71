"""TTI: the number of turns grows during training."""

from __future__ import annotations

from typing import Literal

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.slots import Desk, Knobs, Stateless


def script_horizon(iteration: int) -> int:
    """10, 20, 20, then 30: what both shipped scripts do. Iterations count from 1."""
    return 10 if iteration <= 1 else 20 if iteration <= 3 else 30


def multiplicative_horizon(iteration: int, h_min: int = 10, h_max: int = 30) -> int:
    """`clip(h_min * i, h_min, h_max)`: the paper's rule (MEM); at i = 3 the script has 20."""
    return min(h_max, max(h_min, h_min * iteration))


class Tti(Stateless):
    """`max_turns` by iteration, an iteration being `every` steps.

    The horizon only grows, and only lowers the run's own limit. `rule = "script"` ignores `low`
    and `high`. Starting long wastes rollouts on wandering; that is the reason for the schedule.
    Source: Thinking vs Doing, code read; 10 to 30 verified, the multiplicative rule MEM, `every` is
    OURS (the paper's iteration is 512 rollouts). Evaluation is not touched.
    """

    def __init__(
        self,
        every: int = 10,
        low: int = 10,
        high: int = 30,
        rule: Literal["script", "multiplicative"] = "multiplicative",
    ) -> None:
        if every < 1 or not 1 <= low <= high:
            raise ConfigError(f"tti needs every >= 1 and 1 <= low <= high: {every}, {low}, {high}")
        self._every, self._low, self._high, self._script = every, low, high, rule == "script"

    def knobs(self, desk: Desk) -> Knobs:
        """The horizon of the step's iteration."""
        iteration = max(0, desk.step - 1) // self._every + 1
        if self._script:
            return Knobs(max_turns=script_horizon(iteration))
        return Knobs(max_turns=multiplicative_horizon(iteration, self._low, self._high))
