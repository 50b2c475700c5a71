"""ALP-GMM: settings from where the policy's success changes fastest, up or down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.selectors.mixture import Mixture, best
from foldgym.trainers.samplers.selectors.weighted import Weighted
from foldgym.trainers.samplers.slots import Desk, Pick
from foldgym.trainers.samplers.stats import Result
from foldgym.types import Json

if TYPE_CHECKING:
    from foldgym.types import Floats

_LEAST = 5  # earlier tasks there must be before the nearest of them says anything


class AlpGmm(Weighted):
    """Settings of the environment are drawn from a Gaussian mixture over absolute progress.

    `space` gives each setting its bounds, integers for whole numbers: `{rooms = [3, 12]}`. The
    progress of a task is |r - r of the nearest earlier one| within the last 500 (none before five).
    Every `every` groups mixtures of 2 to 10 parts are fitted to the last `every` vectors [settings,
    progress] and chosen by AIC; a setting is drawn uniformly with probability `random`, else from a
    part in proportion to its mean progress, clipped to the bounds. The first `every` are random.
    Arms are drawn by weight; each setting overrides the arm's own.
    Source: TeachMyAgent, code read; `every` 250, `random` .2, buffer 500, 2 to 10 parts and AIC
    verified. An episode of the paper is a group of ours. The mixture is our own, in numpy.
    """

    def __init__(
        self, space: dict[str, tuple[float, float]], every: int = 250, random: float = 0.2
    ) -> None:
        if not space or any(low >= high for low, high in space.values()):
            raise ConfigError(f"alp_gmm needs a space of settings with low < high, not {space}")
        if every < 10 or not 0 <= random <= 1:
            raise ConfigError(f"alp_gmm needs every >= 10 and random in [0, 1]: {every}, {random}")
        self._space = dict(sorted(space.items()))
        self._every, self._random = every, random
        self._past: list[list[float]] = []  # [settings in 0..1, r, progress]
        self._seen = 0
        self._mixture: Mixture | None = None

    def pick(self, want: int, place: int, desk: Desk) -> list[Pick]:
        """Arms by weight, settings by progress."""
        rng = np.random.default_rng(desk.rng.getrandbits(63))
        return [
            replace(pick, kwargs=self._settings(self._point(rng)))
            for pick in super().pick(want, place, desk)
        ]

    def _point(self, rng: np.random.Generator) -> Floats:
        """A point of the unit cube."""
        size = len(self._space)
        if self._mixture is None or rng.random() < self._random:
            return rng.random(size)
        progress_K = np.maximum(self._mixture.mean_KD[:, -1], 0.0)
        if progress_K.sum() <= 0:
            return rng.random(size)
        part = int(rng.choice(len(progress_K), p=progress_K / progress_K.sum()))
        drawn = rng.multivariate_normal(self._mixture.mean_KD[part], self._mixture.cov_KDD[part])
        return np.clip(drawn[:size], 0.0, 1.0)

    def _settings(self, point_D: Floats) -> dict[str, Json]:
        settings: dict[str, Json] = {}
        for (name, (low, high)), x in zip(self._space.items(), point_D, strict=True):
            whole = float(low).is_integer() and float(high).is_integer()
            # a whole number gets an equal share of the cube, ends included
            span = high - low + 1 if whole else high - low
            value = low + float(x) * span
            settings[name] = min(int(high), int(value)) if whole else value
        return settings

    def observe(self, results: Sequence[Result], desk: Desk) -> dict[str, float]:
        """Measures progress; fits anew when it is time."""
        for result in results:
            point = [
                (float(result.kwargs[name]) - low) / (high - low)
                for name, (low, high) in self._space.items()
                if name in result.kwargs
            ]
            if len(point) < len(self._space):
                continue
            self._past.append([*point, result.p, self._progress(point, result.p)])
            self._past = self._past[-500:]
            self._seen += 1
            if self._seen % self._every == 0:
                recent = np.array(self._past[-self._every :])
                points_ND = np.delete(recent, -2, axis=1)
                self._mixture = best(points_ND, 10, np.random.default_rng(desk.rng.getrandbits(63)))
        recent = [row[-1] for row in self._past[-self._every :]]
        return {"sampler/alp": sum(recent) / len(recent) if recent else 0.0}

    def _progress(self, point: list[float], r: float) -> float:
        if len(self._past) <= _LEAST:
            return 0.0
        past = np.array(self._past)
        nearest = int(((past[:, : len(point)] - point) ** 2).sum(axis=1).argmin())
        return abs(r - float(past[nearest, -2]))

    def state(self) -> dict[str, Json]:
        """The record and the mixture."""
        mixture = self._mixture
        parts = [] if mixture is None else [mixture.weight_K, mixture.mean_KD, mixture.cov_KDD]
        return {"past": self._past, "seen": self._seen, "mixture": [x.tolist() for x in parts]}

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._past, self._seen = list(state["past"]), state["seen"]
        parts = [np.array(part) for part in state["mixture"]]
        self._mixture = Mixture(*parts) if parts else None
