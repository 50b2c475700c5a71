"""A POET-style source: mastered settings have children, one step harder or easier in one knob."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.slots import Arm, Desk
from foldgym.trainers.samplers.sources.archive import novelty
from foldgym.trainers.samplers.sources.fresh import Fresh
from foldgym.trainers.samplers.stats import Result
from foldgym.types import Json


class Poet(Fresh):
    """Live settings of each arm grow from the middle of `knobs`, one child per `every` steps.

    `knobs` gives every setting its ordered levels: `{rooms = [3, 5, 8], low = [1, 50]}`. All arms
    begin with the first level of every knob. A setting may have children once its recent success is
    at least `parent`. Of all untried neighbours of all such settings the most novel one (distance
    of levels to the 5 nearest settings ever live) becomes live. A child that after `trial` groups
    has a success rate outside [low, high] fails the minimal criterion and is retired. Beyond
    `active` live settings the oldest is retired. Retired settings stay in the archive and never
    come back; when nothing is live any more the newest one is.

    POET ranks novelty by how several solvers fare (`archive.TaskArchive` does); one policy has no
    second opinion, so novelty is over levels here. There is one agent, hence no transfer.
    Source: Enhanced POET, code read; `active` 100 and k = 5 verified, the rest is OURS.
    """

    def __init__(
        self,
        seed: int,
        knobs: dict[str, list[Any]],
        every: int = 10,
        parent: float = 0.5,
        low: float = 0.05,
        high: float = 1.0,
        trial: int = 4,
        active: int = 100,
    ) -> None:
        super().__init__(seed)
        if not knobs or any(len(levels) < 2 for levels in knobs.values()):
            raise ConfigError(f"poet needs knobs with at least two levels each, not {knobs}")
        if every < 1 or trial < 1 or active < 1 or not 0 <= low < high <= 1:
            raise ConfigError(
                "poet needs every, trial and active of at least 1, and 0 <= low < high <= 1"
            )
        self._knobs = dict(sorted(knobs.items()))
        self._every, self._parent, self._low, self._high = every, parent, low, high
        self._trial, self._active = trial, active
        self._archive: list[list[int]] = [[0] * len(knobs)]  # levels, in the order of becoming live
        self._live: list[list[int]] = [[0] * len(knobs)]
        self._groups: dict[str, int] = {}
        self._solved: list[str] = []

    def arms(self, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        """Every arm with every live setting, named `arm{"rooms": 5}`."""
        grown = [
            Arm(
                _name(arm.name, self._kwargs(at)),
                arm.env,
                {**arm.kwargs, **self._kwargs(at)},
                arm.weight,
            )
            for arm in arms
            for at in self._live
        ]
        return tuple(sorted(grown, key=lambda arm: arm.name))

    def _kwargs(self, at: Sequence[int]) -> dict[str, Json]:
        return {name: self._knobs[name][i] for name, i in zip(self._knobs, at, strict=True)}

    def observe(self, results: Sequence[Result], desk: Desk) -> dict[str, float]:
        """Counts groups; retires, and every so often breeds."""
        for result in results:
            for at in self._live:
                if result.arm.endswith(_name("", self._kwargs(at))):
                    key = json.dumps(at)
                    self._groups[key] = self._groups.get(key, 0) + 1
        rates = [self._rate(at, desk) for at in self._live]
        for at, p in zip(self._live, rates, strict=True):
            key = json.dumps(at)
            if p is not None and p >= self._parent and key not in self._solved and any(at):
                self._solved.append(key)
        kept = [
            at
            for at, p in zip(self._live, rates, strict=True)
            if p is None
            or self._groups.get(json.dumps(at), 0) < self._trial
            or self._low <= p <= self._high
        ]
        self._live = kept or self._live[-1:]
        if desk.step % self._every == 0:
            self._breed(desk)
        return {
            "sampler/poet/live": float(len(self._live)),
            "sampler/poet/archive": float(len(self._archive)),
            "sampler/poet/annecs": float(len(self._solved)),
        }

    def _rate(self, at: Sequence[int], desk: Desk) -> float | None:
        """Recent success of a setting, over all arms that have been tried with it."""
        ending = _name("", self._kwargs(at))
        known = [stat.p for key, stat in desk.stats.table.items() if key.endswith(ending)]
        return sum(known) / len(known) if known else None

    def _breed(self, desk: Desk) -> None:
        tops = [len(levels) - 1 for levels in self._knobs.values()]
        children: list[list[int]] = []
        for at in self._live:
            p = self._rate(at, desk)
            if p is None or p < self._parent:
                continue
            for knob, top in enumerate(tops):
                for step in (1, -1):
                    child = [*at[:knob], at[knob] + step, *at[knob + 1 :]]
                    if 0 <= child[knob] <= top and child not in [*self._archive, *children]:
                        children.append(child)
        if not children:
            return
        scale = np.array([max(1, top) for top in tops], dtype=np.float64)
        past = [np.array(at) / scale for at in self._archive]
        chosen = max(children, key=lambda at: (novelty(np.array(at) / scale, past), at))
        self._archive.append(chosen)
        self._live = [*self._live, chosen][-self._active :]

    def state(self) -> dict[str, Json]:
        """Live and archived settings."""
        return {
            "archive": [list(at) for at in self._archive],
            "live": [list(at) for at in self._live],
            "groups": dict(self._groups),
            "solved": list(self._solved),
        }

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._archive, self._live = list(state["archive"]), list(state["live"])
        self._groups, self._solved = dict(state["groups"]), list(state["solved"])


def _name(arm: str, kwargs: Mapping[str, Json]) -> str:
    return arm + json.dumps(kwargs, sort_keys=True)
