"""Tasks x policy to a report with intervals, and two reports on the same tasks to a difference."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foldgym.agents.rollout import OpenEnv, Rollout, Score, rollout
from foldgym.agents.statistics import (
    Difference,
    Estimate,
    bootstrap,
    paired,
    pass_at_k,
    pass_hat_k,
    proportion,
)
from foldgym.errors import DataError
from foldgym.seeding import derive_seed
from foldgym.types import Group, Json, Policy, Request, Trajectory

SCHEMA = 1
_OUTCOMES = frozenset({"score", "success", "turns", "errors", "answer"})
_MOST_VALUES = 12


@dataclass(frozen=True, slots=True)
class EnvReport:
    """How a policy did in one environment. Failures of ours are counted apart, never as 0.

    `failures` are attempts that failed, `lost` seats that no retry filled. `by[fact][value]` is the
    success rate among tasks where the fact had that value. `outcomes[task seed]` are the scored
    samples' successes; comparisons pair on them. Tokens, turns and seconds are means per episode.
    """

    env: str
    tasks: int
    samples: int
    episodes: int
    failures: int
    lost: int
    success: Estimate
    score: Estimate
    reward: Estimate
    turns: Estimate
    pass_at: Mapping[int, float]
    pass_hat: Mapping[int, float]
    stops: Mapping[str, int]
    errors: Mapping[str, int]
    tokens: Mapping[str, float]
    seconds: float
    by: Mapping[str, Mapping[str, Estimate]] = field(
        default_factory=dict[str, Mapping[str, Estimate]]
    )
    outcomes: Mapping[int, tuple[float, ...]] = field(default_factory=dict[int, tuple[float, ...]])

    def to_table(self) -> dict[str, Json]:
        """The same as a JSON object."""
        return {
            "env": self.env,
            "tasks": self.tasks,
            "samples": self.samples,
            "episodes": self.episodes,
            "failures": self.failures,
            "lost": self.lost,
            "success": self.success.to_table(),
            "score": self.score.to_table(),
            "reward": self.reward.to_table(),
            "turns": self.turns.to_table(),
            "pass@k": {str(k): value for k, value in self.pass_at.items()},
            "pass^k": {str(k): value for k, value in self.pass_hat.items()},
            "stops": dict(self.stops),
            "errors": dict(self.errors),
            "tokens": dict(self.tokens),
            "seconds": self.seconds,
            "by": {
                fact: {value: estimate.to_table() for value, estimate in values.items()}
                for fact, values in self.by.items()
            },
            "outcomes": {str(seed): list(values) for seed, values in self.outcomes.items()},
        }


@dataclass(frozen=True, slots=True)
class Report:
    """One policy, one seed, any number of environments."""

    policy: str
    seed: int
    envs: Mapping[str, EnvReport]

    def to_table(self) -> dict[str, Json]:
        """The same as a JSON object."""
        return {
            "schema": SCHEMA,
            "policy": self.policy,
            "seed": self.seed,
            "envs": {name: report.to_table() for name, report in self.envs.items()},
        }


def tasks(
    env: str,
    episodes: int,
    seed: int,
    samples: int = 1,
    options: Mapping[str, Json] | None = None,
) -> list[Request]:
    """`episodes` tasks of an environment, `samples` episodes of each, the same for every policy."""
    return [
        Request(env, derive_seed(seed, "evaluate", env, number), samples, dict(options or {}))
        for number in range(episodes)
    ]


async def evaluate(
    requests: Sequence[Request],
    open_env: OpenEnv,
    policy: Policy,
    how: Rollout,
    seed: int,
    score: Score,
    *,
    name: str = "policy",
    by: Sequence[str] | None = None,
    progress: Callable[[Trajectory], None] | None = None,
) -> tuple[Report, list[Group]]:
    """Plays every request and summarises. Same requests, policy and seed: the same report.

    `by` names facts (or task metadata) to break success down by; None takes those with a few
    different values. Raises `DataError` when an environment lost every episode.
    """
    groups = await rollout(requests, open_env, policy, how, seed, score, progress)
    return report(groups, seed, name=name, by=by), groups


def report(
    groups: Sequence[Group], seed: int, *, name: str = "policy", by: Sequence[str] | None = None
) -> Report:
    """The report of groups already played."""
    order = dict.fromkeys(group.request.env for group in groups)
    return Report(
        name,
        seed,
        {env: _env([g for g in groups if g.request.env == env], seed, by) for env in order},
    )


def succeeded(trajectory: Trajectory) -> bool:
    """`facts["success"]`; without it, a score of at least 1."""
    facts = trajectory.facts
    return bool(facts["success"]) if "success" in facts else float(facts.get("score", 0.0)) >= 1.0


def _env(groups: Sequence[Group], seed: int, by: Sequence[str] | None) -> EnvReport:
    env = groups[0].request.env
    scored = [group for group in groups if group.trajectories]
    everything = [trajectory for group in scored for trajectory in group.trajectories]
    failed = [trajectory for group in groups for trajectory in group.failures]
    seats = sum(group.request.n for group in groups)
    if not everything:
        last = failed[-1].error if failed else "nothing was played"
        raise DataError(f"{env}: all {seats} episodes failed, the last by {last}")
    counts = [_count(group) for group in scored]

    def mean(what: str, value: Callable[[Trajectory], float]) -> Estimate:
        per_task = [_mean([value(t) for t in group.trajectories]) for group in scored]
        return bootstrap(per_task, derive_seed(seed, env, what))

    samples = max(group.request.n for group in groups)
    return EnvReport(
        env=env,
        tasks=len(groups),
        samples=samples,
        episodes=len(everything),
        failures=len(failed),
        lost=seats - len(everything),
        success=proportion(counts, derive_seed(seed, env, "success")),
        score=mean("score", lambda t: float(t.facts.get("score", 0.0))),
        reward=bootstrap(
            [_mean([reward.total for reward in group.rewards]) for group in scored],
            derive_seed(seed, env, "reward"),
        ),
        turns=mean("turns", _turns),
        pass_at=_per_k(counts, samples, pass_at_k),
        pass_hat=_per_k(counts, samples, pass_hat_k),
        stops=_histogram(trajectory.stop.value for trajectory in everything),
        errors=_histogram(trajectory.error.partition(":")[0] for trajectory in failed),
        tokens={
            kind: _mean([t.counters.get(f"{kind}_tokens", 0.0) for t in everything])
            for kind in ("sampled", "prompt")
        },
        seconds=_mean([trajectory.seconds for trajectory in everything]),
        by=_breakdown(scored, derive_seed(seed, env, "by"), by),
        outcomes={
            group.request.seed: tuple(float(succeeded(t)) for t in group.trajectories)
            for group in scored
        },
    )


def _turns(trajectory: Trajectory) -> float:
    return float(sum(turn.purpose == "act" for turn in trajectory.turns))


def _count(group: Group) -> tuple[int, int]:
    return sum(map(succeeded, group.trajectories)), len(group.trajectories)


def _per_k(
    counts: Sequence[tuple[int, int]], samples: int, estimator: Callable[[int, int, int], float]
) -> dict[int, float]:
    """By k = 1, 2, 4, ... and `samples`, over the tasks that have that many scored samples."""
    ks = sorted({1, samples, *(2**power for power in range(1, samples.bit_length()))})
    found: dict[int, float] = {}
    for k in ks if samples > 1 else ():
        values = [estimator(n, successes, k) for successes, n in counts if n >= k]
        if values:
            found[k] = _mean(values)
    return found


def _breakdown(
    groups: Sequence[Group], seed: int, by: Sequence[str] | None
) -> dict[str, dict[str, Estimate]]:
    """Success by the value that a fact has for a whole task."""
    tables = [_facts(group) for group in groups]
    names = dict.fromkeys(key for table in tables for key in table)
    found: dict[str, dict[str, Estimate]] = {}
    for name in names if by is None else by:
        kinds = {table[name] for table in tables if name in table}
        if by is None and not 2 <= len(kinds) <= _MOST_VALUES:
            continue
        found[name] = {
            str(kind): proportion(
                [_count(g) for g, t in zip(groups, tables, strict=True) if t.get(name) == kind],
                derive_seed(seed, name, str(kind)),
            )
            for kind in sorted(kinds, key=lambda kind: (str(type(kind)), kind))
        }
    return found


def _facts(group: Group) -> dict[str, Any]:
    """Plain facts and metadata on which all samples of a task agree, outcomes left out."""
    tables = [{**t.task.metadata, **t.facts} for t in group.trajectories]
    return {
        key: value
        for key, value in tables[0].items()
        if isinstance(value, (bool, int, str))
        and key not in _OUTCOMES
        and all(table.get(key) == value for table in tables)
    }


def _histogram(names: Any) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


# ---------------------------------------------------------------- two policies


@dataclass(frozen=True, slots=True)
class Comparison:
    """`b - a` per environment, on the tasks that both have scored."""

    a: str
    b: str
    envs: Mapping[str, Difference]
    unpaired: Mapping[str, int]

    def to_table(self) -> dict[str, Json]:
        """The same as a JSON object."""
        return {
            "schema": SCHEMA,
            "a": self.a,
            "b": self.b,
            "envs": {name: difference.to_table() for name, difference in self.envs.items()},
            "unpaired": dict(self.unpaired),
        }


def compare(a: Report, b: Report, seed: int = 0) -> Comparison:
    """Paired comparison of two reports; a task's samples are averaged first.

    Raises `DataError` when the reports share no task of an environment.
    """
    differences: dict[str, Difference] = {}
    unpaired: dict[str, int] = {}
    for env in dict.fromkeys([*a.envs, *b.envs]):
        here = a.envs[env].outcomes if env in a.envs else {}
        there = b.envs[env].outcomes if env in b.envs else {}
        both = [task for task in here if task in there]
        if not both:
            raise DataError(
                f"{env}: {a.policy} and {b.policy} were not evaluated on the same tasks; "
                "evaluate both with the same seed"
            )
        unpaired[env] = len(set(here) ^ set(there))
        differences[env] = paired(
            [_mean(here[task]) for task in both],
            [_mean(there[task]) for task in both],
            derive_seed(seed, env, "compare"),
        )
    return Comparison(a.policy, b.policy, differences, unpaired)
