"""PCL: of a pool of candidates, the tasks that a value model expects to be half solved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from foldgym.config import resolve
from foldgym.errors import ConfigError
from foldgym.trainers.samplers.counts import floored
from foldgym.trainers.samplers.selectors.explore import explored
from foldgym.trainers.samplers.selectors.predictors import KnobPredictor, Predictor, correlation
from foldgym.trainers.samplers.slots import Desk, Pick
from foldgym.trainers.samplers.stats import Result
from foldgym.types import Json

PREDICTORS: dict[str, Any] = {"knobs": KnobPredictor}


def nearest_half(values: Sequence[float], count: int) -> list[int]:
    """Places of the `count` values nearest to 1/2; ties go to the earlier place."""
    return sorted(range(len(values)), key=lambda i: (abs(values[i] - 0.5), i))[:count]


class Pcl:
    """From a random pool of `pool * m` distinct tasks the m with the smallest |V(x) - 1/2|.

    V learns from the step's own groups. It is trusted while its correlation with what came out,
    over the last `window` groups, is at least `trust`; otherwise (and before there are that many)
    the pool's first m are taken, which is uniform. `predictor` is "knobs" (settings), "value" (a
    value head on the task's prompt; `value` makes it, which a run does where it has one) or
    "module:Class" with the methods of `Predictor`.
    Source: PCL (text). `pool` 4, `window` 64 and `trust` .1 are OURS, and so is the fallback's
    threshold: the source only asks for one. Brier score and correlation are logged.
    """

    by_task = False

    def __init__(
        self,
        pool: int = 4,
        predictor: str = "knobs",
        window: int = 64,
        trust: float = 0.1,
        value: Callable[[], Predictor] | None = None,
    ) -> None:
        if pool < 1 or window < 2:
            raise ConfigError(f"pcl needs pool >= 1 and window >= 2, not {pool} and {window}")
        self._pool, self._window, self._trust = pool, window, trust
        if predictor == "value" and value is None:
            raise ConfigError(
                'sampler.selector.predictor: "value" reads a value head, and nothing provides one; '
                'set value.use = "linear"'
            )
        table = PREDICTORS if value is None else {**PREDICTORS, "value": value}
        self._v: Predictor = resolve("predictor", predictor, table)()
        self._past: list[list[float]] = []  # [predicted, realised]

    @property
    def trusted(self) -> bool:
        """Whether V has shown that it knows something."""
        return len(self._past) >= self._window and self._agreement() >= self._trust

    def _agreement(self) -> float:
        return correlation([said for said, _ in self._past], [came for _, came in self._past])

    def probs(self, desk: Desk) -> dict[str, float]:
        """Uniform: arms are not chosen, tasks are; random places keep every arm at its floor."""
        return floored({arm.name: 1 / len(desk.arms) for arm in desk.arms}, desk.floor)

    def pick(self, want: int, place: int, desk: Desk) -> list[Pick]:
        """The chosen ones, and a few random places."""
        pool = desk.source.pool(want * self._pool, desk)
        if self.trusted:
            as_played = [replace(pick, kwargs={**desk.kwargs, **pick.kwargs}) for pick in pool]
            pool = [pool[i] for i in nearest_half(self._v.predict(as_played), want)]
        return explored(pool, want, place, desk)

    def observe(self, results: Sequence[Result], desk: Desk) -> dict[str, float]:
        """Scores V before it learns."""
        arms = {arm.name: arm for arm in desk.arms}
        known = [result for result in results if result.arm in arms]
        picks = [Pick(arms[result.arm], result.seed, result.kwargs) for result in known]
        said = self._v.predict(picks)
        new = [[guess, result.p] for guess, result in zip(said, known, strict=True)]
        self._past = [*self._past, *new][-self._window :]
        self._v.learn(picks, [result.p for result in known])
        brier = sum((x - y) ** 2 for x, y in self._past) / len(self._past) if self._past else 0.0
        return {"sampler/pcl/brier": brier, "sampler/pcl/correlation": self._agreement()}

    def state(self) -> dict[str, Json]:
        """The predictor and its record."""
        return {"v": self._v.state(), "past": self._past}

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._v.load(state["v"])
        self._past = list(state["past"])
