"""What is known of tasks and arms: success, its uncertainty, and how much they teach.

Unknown is explicit (None), never 0. Only unaided attempts count: an attempt that was guided says
nothing about how hard its task is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.slots import arm_of
from foldgym.types import Group, Json, Trajectory


@dataclass(frozen=True, slots=True)
class Result:
    """The unaided attempts of one group: `scores` in [0, 1], their |A|, and what was said."""

    arm: str
    seed: int
    kwargs: Mapping[str, Json]
    scores: tuple[float, ...]
    adv: tuple[float, ...]
    version: int
    texts: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        """The name of the task in the statistics; the same as `Pick.key`."""
        return f"{self.arm}#{self.seed}"

    @property
    def p(self) -> float:
        """Mean score."""
        return sum(self.scores) / len(self.scores)


def score_of(trajectory: Trajectory, metric: str = "score") -> float:
    """A measured fact in [0, 1]: what was verified, not the shaped reward.

    Raises `ConfigError` naming the facts there are.
    """
    value = trajectory.facts.get(metric)
    if not isinstance(value, (bool, int, float)):
        numbers = [
            n for n, fact in trajectory.facts.items() if isinstance(fact, (bool, int, float))
        ]
        raise ConfigError(
            f"sampler.metric: {trajectory.env} measures no number {metric!r}; "
            f"choose one of: {', '.join(numbers) or 'none'}"
        )
    return min(1.0, max(0.0, float(value)))


def guided(trajectory: Trajectory) -> bool:
    """Whether the attempt had help (`types.Guide`)."""
    return trajectory.counters.get("guided", 0) > 0


def abs_advantages(scores: Sequence[float]) -> tuple[float, ...]:
    """`|x - mean| / std` with the population's std; all 0 where nothing differs.

    For a binary group their mean is `2 sqrt(p (1 - p))`: .6614 for one success in eight.
    """
    mean = sum(scores) / len(scores)
    std = (sum((x - mean) ** 2 for x in scores) / len(scores)) ** 0.5
    if max(scores) == min(scores):
        return (0.0,) * len(scores)
    return tuple(abs(x - mean) / std for x in scores)


def result_of(group: Group, metric: str = "score") -> Result | None:
    """What a group says of its task; None when nobody tried it unaided."""
    alone = [t for t in group.trajectories if not guided(t)]
    if not alone:
        return None
    request = group.request
    scores = tuple(score_of(t, metric) for t in alone)
    versions = [v for t in alone for s in t.segments for v in s.versions]
    return Result(
        arm_of(request),
        request.seed,
        dict(request.kwargs),
        scores,
        abs_advantages(scores),
        max(versions, default=0),
        tuple(spoken(t) for t in alone),
    )


def spoken(trajectory: Trajectory) -> str:
    """All that the agent said and did in an episode, as words."""
    said: list[str] = []
    for turn in trajectory.turns:
        said.append(turn.message.text)
        said += [f"{call.name} {call.arguments}" for call in turn.message.tool_calls]
    return " ".join(part for part in said if part)


@dataclass(frozen=True, slots=True)
class Stat:
    """`p` and `adv` are moving averages; `wins` and `losses` fade with every policy version."""

    p: float
    adv: float
    wins: float
    losses: float
    attempts: int
    version: int
    step: int

    @property
    def mean(self) -> float:
        """Posterior mean of the success rate under a uniform prior, `Beta(wins+1, losses+1)`."""
        return (self.wins + 1) / (self.wins + self.losses + 2)


@dataclass(slots=True)
class StatStore:
    """Statistics by name, of arms (`"easy"`) and, with `tasks`, of tasks (`"easy#17"`).

    `decay` fades Beta counts per policy version between observations, so old successes give way;
    `alpha` is the weight of the newest mean. Defaults .9 and .5: OURS (spec 5.5 names neither).
    """

    decay: float = 0.9
    alpha: float = 0.5
    tasks: bool = False
    table: dict[str, Stat] = field(default_factory=dict[str, Stat])

    def get(self, key: str, version: int | None = None) -> Stat | None:
        """The entry, faded to `version`; None where nothing is known."""
        stat = self.table.get(key)
        if stat is None or version is None or version <= stat.version:
            return stat
        fade = self.decay ** (version - stat.version)
        return replace(stat, wins=stat.wins * fade, losses=stat.losses * fade, version=version)

    def p(self, key: str) -> float | None:
        """The recent success rate; None where nothing is known."""
        stat = self.table.get(key)
        return None if stat is None else stat.p

    def observe(self, results: Sequence[Result], step: int) -> None:
        """Takes in the unaided attempts of finished groups."""
        for result in results:
            for key in (result.arm, result.task) if self.tasks else (result.arm,):
                self.table[key] = self._next(self.get(key, result.version), result, step)

    def _next(self, old: Stat | None, result: Result, step: int) -> Stat:
        n, wins = len(result.scores), sum(result.scores)
        adv = sum(result.adv) / n
        if old is None:
            return Stat(result.p, adv, wins, n - wins, n, result.version, step)
        keep = 1.0 - self.alpha
        return Stat(
            keep * old.p + self.alpha * result.p,
            keep * old.adv + self.alpha * adv,
            old.wins + wins,
            old.losses + n - wins,
            old.attempts + n,
            max(old.version, result.version),
            step,
        )

    def state(self) -> dict[str, Json]:
        """All entries as JSON."""
        return {key: asdict(stat) for key, stat in self.table.items()}

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        self.table = {key: Stat(**row) for key, row in state.items()}
