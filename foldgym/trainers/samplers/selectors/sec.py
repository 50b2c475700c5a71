"""SEC: a bandit over arms whose reward is how much an arm's rollouts teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.counts import floored, softmax
from foldgym.trainers.samplers.selectors.by_arm import ByArm
from foldgym.trainers.samplers.slots import Desk
from foldgym.trainers.samplers.stats import Result
from foldgym.types import Json


class Sec(ByArm):
    """`P(c) ~ exp(Q[c] / tau)`; then `Q[c] = alpha r_c + (1 - alpha) Q[c]` for arms drawn only.

    `r_c` is the mean |A| of the arm's rollouts, with the population's std, so it lies in [0, 1] for
    binary scores and so does Q. Worked: alpha .5, r = (1, 0), tau .5 gives P = (.7311, .2689).
    Source: Self-Evolving Curriculum, arXiv 2505.14970 (abstract); `alpha` and `tau` are MEM, the
    paper tunes tau in .2 to 1. All solved and all failed both give r = 0, so an arm that was too
    hard at first comes back only through tau; the floor of 1 % (OURS) keeps it alive.
    """

    def __init__(self, alpha: float = 0.5, tau: float = 0.5) -> None:
        if not 0 < alpha <= 1 or tau <= 0:
            raise ConfigError(f"sec needs 0 < alpha <= 1 and tau > 0, not {alpha} and {tau}")
        self._alpha, self._tau = alpha, tau
        self._q: dict[str, float] = {}

    def probs(self, desk: Desk) -> dict[str, float]:
        """Boltzmann over Q; arms never drawn have Q = 0."""
        scores = {arm.name: self._q.get(arm.name, 0.0) for arm in desk.arms}
        return floored(softmax(scores, self._tau), desk.floor)

    def observe(self, results: Sequence[Result], desk: Desk) -> dict[str, float]:
        """One step of Q per arm that was drawn."""
        drawn: dict[str, list[float]] = {}
        for result in results:
            drawn.setdefault(result.arm, []).extend(result.adv)
        for arm, adv in drawn.items():
            old = self._q.get(arm, 0.0)
            self._q[arm] = self._alpha * sum(adv) / len(adv) + (1 - self._alpha) * old
        return {f"sampler/q/{arm}": q for arm, q in sorted(self._q.items())}

    def state(self) -> dict[str, Json]:
        """Q."""
        return {"q": dict(self._q)}

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self._q = dict(state["q"])
