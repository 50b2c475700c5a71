"""What a memory gained and what it lost: the same tasks with it, without any, and with an oracle.

Settings (memory spec 4.11): *oracle*, all that the task rests on in the prompt and a context as
large as the policy takes; *own*, the memory under test; *none*, the task and the newest turn alone.
gain = own - none and loss = oracle - own, paired over the same tasks and random streams.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from foldgym.agents import drift as drifting
from foldgym.agents import recall
from foldgym.agents.counting import costs
from foldgym.agents.evaluate import EnvReport, Report, compare, report
from foldgym.agents.rollout import Episode, OpenEnv, Rollout, Score, rollout
from foldgym.agents.scaffolds.around import Around
from foldgym.agents.stage import Stage
from foldgym.agents.statistics import Difference, Estimate, proportion
from foldgym.memory import FullHistory, SlidingWindow
from foldgym.seeding import derive_seed
from foldgym.types import (
    Budget,
    EnvHandle,
    Group,
    Json,
    Memory,
    Message,
    Opening,
    Policy,
    Request,
    Scorer,
    Trajectory,
)

ORACLE, NONE = "oracle", "none"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A memory under test; `budget` is its own but for `max_context`, which the report sets."""

    label: str
    make: Callable[[], Memory]
    budget: Budget


@dataclass(frozen=True, slots=True)
class Recall:
    """Questions asked, the share answered rightly (interval over tasks), and (right, asked) by age.

    Ages are in turns and in folds; `no_room` of the questions did not fit and count as not right.
    """

    rate: Estimate
    asked: int
    no_room: int
    by_age: Mapping[int, tuple[int, int]]
    by_folds: Mapping[int, tuple[int, int]]

    def to_table(self) -> dict[str, Json]:
        """The same as a JSON object."""

        def counts(by: Mapping[int, tuple[int, int]]) -> dict[str, Json]:
            return {str(age): {"right": by[age][0], "asked": by[age][1]} for age in by}

        return {
            "rate": self.rate.to_table(),
            "asked": self.asked,
            "no_room": self.no_room,
            "by_age": counts(self.by_age),
            "by_folds": counts(self.by_folds),
        }


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting in one context. What a policy or a world does not offer is None.

    `kept` is fold fidelity: of the facts that were said and are needed, the share that stands word
    for word in the view right after a fold; `kept_at_last` is that of the view of the last turn.
    """

    setting: str
    context: int
    report: EnvReport
    costs: Mapping[str, float]
    recall: Recall | None = None
    kept: Estimate | None = None
    kept_at_last: Estimate | None = None
    drift: Mapping[str, Json] | None = None
    gain: Difference | None = None
    loss: Difference | None = None

    def to_table(self) -> dict[str, Json]:
        """The same as a JSON object."""
        numbers = (self.recall, self.kept, self.kept_at_last, self.gain, self.loss)
        names = ("recall", "kept", "kept_at_last", "gain", "loss")
        return {
            "setting": self.setting,
            "context": self.context if self.context < 1 << 40 else None,
            **self.report.to_table(),
            "costs": dict(self.costs),
            **{n: each and each.to_table() for n, each in zip(names, numbers, strict=True)},
            "drift": self.drift and dict(self.drift),
        }


@dataclass(frozen=True, slots=True)
class MemoryReport:
    """All cells of one environment: own[label][context], none[context], and the oracle's if any."""

    env: str
    own: Mapping[str, Mapping[int, Cell]]
    none: Mapping[int, Cell]
    oracle: Cell | None

    @property
    def cells(self) -> list[Cell]:
        """Every cell, the oracle first."""
        own = [cell for by_context in self.own.values() for cell in by_context.values()]
        return [*([self.oracle] if self.oracle else []), *self.none.values(), *own]

    def to_table(self) -> dict[str, Json]:
        """The same as a JSON object."""

        def table(cells: Mapping[int, Cell]) -> dict[str, Json]:
            return {str(context): cell.to_table() for context, cell in cells.items()}

        return {
            "oracle": self.oracle and self.oracle.to_table(),
            "none": table(self.none),
            "own": {label: table(cells) for label, cells in self.own.items()},
        }


@dataclass(frozen=True, slots=True)
class Trial:
    """Who plays which tasks of one environment, and how; memory and context come with each cell.

    `oracle_context` is the largest context that the policy can take. At most `probes` questions are
    asked for the last turn of an episode and after each fold; drift is measured in `drift` episodes
    of a cell, with `policy` as the scorer (0: not at all).
    """

    requests: Sequence[Request]
    open_env: OpenEnv
    policy: Policy
    how: Rollout
    score: Score
    seed: int
    oracle_context: int
    probes: int = 4
    scorer: Scorer | None = None
    drift: int = 0
    progress: Callable[[Trajectory], None] | None = None
    keep: Callable[[str, int, Sequence[Group]], None] | None = None


async def evaluate_memories(
    trial: Trial, contestants: Sequence[Contestant], contexts: Sequence[int]
) -> MemoryReport:
    """Every contestant in every context, without a memory in every context, and with an oracle.

    Raises `DataError` when the environment lost every episode of a cell.
    """

    def open_told(request: Request) -> EnvHandle:
        return _Told(trial.open_env(request))

    oracle = None
    if await has_oracle(trial):
        told = replace(trial, open_env=open_told)
        budget = replace(trial.how.budget, max_context=trial.oracle_context)
        oracle = await _cell(told, Contestant(ORACLE, FullHistory, budget))
    nothing = Contestant(NONE, lambda: SlidingWindow(1), trial.how.budget)
    none = {each: await _cell(trial, _within(nothing, each)) for each in contexts}
    own: dict[str, dict[int, Cell]] = {}
    for contestant in contestants:
        mine = own[contestant.label] = {}
        for context in contexts:
            cell = await _cell(trial, _within(contestant, context))
            gain = _paired(none[context], cell, trial.seed)
            loss = _paired(cell, oracle, trial.seed) if oracle else None
            mine[context] = replace(cell, gain=gain, loss=loss)
    return MemoryReport(trial.requests[0].env, own, none, oracle)


async def has_oracle(trial: Trial) -> bool:
    """Whether the world says what its first task rests on."""
    env = trial.open_env(trial.requests[0])
    try:
        await env.reset(trial.requests[0].seed, trial.requests[0].options)
        return any(each.needed for each in await env.evidence())
    finally:
        await env.close()


def _within(contestant: Contestant, context: int) -> Contestant:
    budget = contestant.budget
    reserve = min(budget.reserve, context - 1)
    return replace(contestant, budget=replace(budget, max_context=context, reserve=reserve))


def _paired(a: Cell, b: Cell, seed: int) -> Difference:
    """Success of b - a over the tasks that both have scored."""
    env = a.report.env
    return compare(
        Report(a.setting, seed, {env: a.report}), Report(b.setting, seed, {env: b.report}), seed
    ).envs[env]


async def _cell(trial: Trial, contestant: Contestant) -> Cell:
    recorder = recall.Recorder(trial.probes)
    own = contestant.label not in (ORACLE, NONE)
    fresh = drifting.FreshContexts(trial.drift if own and trial.scorer else 0)

    async def watch(episode: Episode, stage: Stage) -> None:
        await recorder(episode, stage)
        await fresh(episode, stage)

    how = replace(trial.how, memory=contestant.make, budget=contestant.budget, watch=watch)
    groups = await rollout(
        trial.requests, trial.open_env, trial.policy, how, trial.seed, trial.score, trial.progress
    )
    context = contestant.budget.max_context
    if trial.keep:
        trial.keep(contestant.label, context, groups)
    played = [trajectory for group in groups for trajectory in group.trajectories]
    measured = report(groups, trial.seed, name=contestant.label).envs[trial.requests[0].env]
    answered = await recall.ask(
        [recorder.found[each.id] for each in played],
        trial.policy,
        how.renderer,
        how.sampling,
        trial.seed,
        how.concurrency,
    )
    found = {each.id: which for each, which in zip(played, answered, strict=True)}
    by_task = [[found[each.id] for each in group.trajectories] for group in groups]
    seed = derive_seed(trial.seed, contestant.label, context)
    drift = None
    if fresh.found and trial.scorer:
        scored = [each for each in played if each.id in fresh.found]
        drift = drifting.summarise(scored, fresh.found, trial.scorer)
    return Cell(
        contestant.label,
        context,
        measured,
        costs(played),
        _recall(by_task, seed),
        _share([[pair for each in task for pair in each.kept] for task in by_task], seed),
        _share([[pair for each in task for pair in each.kept_at_last] for task in by_task], seed),
        drift,
    )


def _recall(by_task: Sequence[Sequence[recall.Recollection]], seed: int) -> Recall | None:
    tasks = [[question for each in task for question in each.questions] for task in by_task]
    asked = [question for task in tasks for question in task]
    rate = _share([[(int(each.right), 1) for each in task] for task in tasks], seed)
    if rate is None:
        return None
    return Recall(
        rate,
        len(asked),
        sum(question.prompt is None for question in asked),
        _counts((question.age, question.right) for question in asked),
        _counts((question.folds, question.right) for question in asked),
    )


def _share(tasks: Sequence[Sequence[tuple[int, int]]], seed: int) -> Estimate | None:
    """The mean share over the tasks that have one, from (part, whole) pairs; None without any."""
    sums = [(sum(a for a, _ in pairs), sum(b for _, b in pairs)) for pairs in tasks]
    counts = [(part, whole) for part, whole in sums if whole]
    return proportion(counts, derive_seed(seed, "share")) if counts else None


def _counts(answers: Iterable[tuple[int, bool]]) -> dict[int, tuple[int, int]]:
    found: dict[int, tuple[int, int]] = {}
    for key, right in answers:
        before = found.get(key, (0, 0))
        found[key] = (before[0] + right, before[1] + 1)
    return dict(sorted(found.items()))


class _Told(Around):
    """An environment whose question comes with all that its task rests on."""

    async def reset(self, seed: int, options: Mapping[str, Json]) -> Opening:
        """The evidence is one more message of the prompt, a line each."""
        opening = await self.inner.reset(seed, options)
        lines = [each.text for each in await self.inner.evidence() if each.needed]
        if not lines:
            return opening
        prompt = (*opening.task.prompt, Message("user", "\n".join(lines)))
        return opening._replace(task=replace(opening.task, prompt=prompt))
