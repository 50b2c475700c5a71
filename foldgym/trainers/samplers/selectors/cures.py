"""CurES: tasks by the posterior spread of their outcome."""

from __future__ import annotations

import math

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.selectors.explore import arm_shares, explored
from foldgym.trainers.samplers.slots import Desk, Pick, Stateless

_ALL = 1 << 30


def cures_score(p: float, t: float) -> float:
    """`exp(sqrt(p (1 - p)) / t)`.

    The released code has `t = (accepted + 1) / 0.01`, at least 100, which makes all scores equal
    within half a percent; with t between .05 and .5 the score does what it is for.
    """
    return math.exp(math.sqrt(p * (1 - p)) / t)


class Cures(Stateless):
    """Draws tasks without replacement in proportion to `cures_score` of the posterior mean.

    The posterior is `Beta(solved + 1, failed + 1)` with counts that fade as the policy changes, so
    a task nobody tried has p = 1/2 and is tried. Weighted draws use `u ** (1 / w)` keys.
    Source: CurES, code read; `t` .2 corrects the released temperature (spec B5, hazard a).
    """

    by_task = True

    def __init__(self, t: float = 0.2) -> None:
        if t <= 0:
            raise ConfigError(f"cures needs t > 0, not {t}")
        self._t = t

    def _weighed(self, desk: Desk) -> list[tuple[float, Pick]]:
        weighed: list[tuple[float, Pick]] = []
        for pick in desk.source.pool(_ALL, desk):
            stat = desk.stats.get(pick.key, desk.version)
            weighed.append((cures_score(0.5 if stat is None else stat.mean, self._t), pick))
        return weighed

    def probs(self, desk: Desk) -> dict[str, float]:
        """The arms' shares of all scores."""
        weighed = self._weighed(desk)
        return arm_shares([pick for _, pick in weighed], [w for w, _ in weighed], desk)

    def pick(self, want: int, place: int, desk: Desk) -> list[Pick]:
        """The tasks with the largest keys."""
        keyed = [(math.log(desk.rng.random()) / w, pick) for w, pick in self._weighed(desk)]
        keyed.sort(key=lambda pair: -pair[0])
        return explored([pick for _, pick in keyed], want, place, desk)
