"""Guesses of how often a task will be solved, before anybody has tried it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from foldgym.trainers.samplers.slots import Pick
from foldgym.types import Json


class Predictor(Protocol):
    """`V(x)`: write one of these to let a value model choose tasks."""

    def predict(self, picks: Sequence[Pick]) -> list[float]:
        """Success rate in [0, 1] per task."""
        ...

    def learn(self, picks: Sequence[Pick], rates: Sequence[float]) -> None:
        """Moves towards the mean scores of the step's own unaided rollouts, and of no others."""
        ...

    def state(self) -> dict[str, Json]:
        """Everything learned, as JSON."""
        ...

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        ...


class KnobPredictor:
    """Logistic regression on the arm and on the task's numeric settings.

    It sees what a run file can say of a task, not its text, so it costs nothing and tells tasks
    apart only where their settings differ. `rate` is the step of plain gradient descent on the
    log loss; a setting x enters as `x / (1 + |x|)`, so that no scale dominates.
    """

    def __init__(self, rate: float = 1.0) -> None:
        self._rate = rate
        self._weights: dict[str, float] = {}

    def predict(self, picks: Sequence[Pick]) -> list[float]:
        """1/2 where nothing is known."""
        return [self._p(pick) for pick in picks]

    def learn(self, picks: Sequence[Pick], rates: Sequence[float]) -> None:
        """One gradient step per group."""
        for pick, rate in zip(picks, rates, strict=True):
            error = rate - self._p(pick)
            for name, x in _features(pick).items():
                self._weights[name] = self._weights.get(name, 0.0) + self._rate * error * x

    def _p(self, pick: Pick) -> float:
        features = _features(pick).items()
        z = math.fsum(self._weights.get(name, 0.0) * x for name, x in features)
        return 1 / (1 + math.exp(-min(30.0, max(-30.0, z))))

    def state(self) -> dict[str, Json]:
        """The weights."""
        return {"weights": dict(self._weights)}

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._weights = dict(state["weights"])


def _features(pick: Pick) -> dict[str, float]:
    numbers = {
        f"setting {name}": value / (1 + abs(value))
        for name, value in {**pick.arm.kwargs, **pick.kwargs}.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    return {f"arm {pick.arm.name}": 1.0, **numbers}


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Pearson's; 0 where either side does not vary."""
    if len(xs) < 2 or max(xs) == min(xs) or max(ys) == min(ys):
        return 0.0
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    top = math.fsum((x - mx) * (y - my) for x, y in zip(xs, ys, strict=True))
    below = math.fsum((x - mx) ** 2 for x in xs) * math.fsum((y - my) ** 2 for y in ys)
    return top / math.sqrt(below) if below > 0 else 0.0
