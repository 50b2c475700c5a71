"""`foldgym train`: the update loop, what it is made of, and how it resumes.

runs/NAME/
    run.toml                the run file with every default that has an effect
    metrics.jsonl           one line a step, the same whenever the run is repeated
    timings.jsonl           seconds of the same steps
    trajectories.jsonl      every episode (schema: `foldgym.records`)
    checkpoints/step-N/     see `foldgym.trainers.checkpoint`
    store.json              what the memory keeps, as of the newest checkpoint
    engine/                 logs and served weights of an engine that runs elsewhere
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from foldgym.agents.engines.models import load_policy
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.evaluate import evaluate, tasks
from foldgym.agents.rollout import Rollout, Score, rollout
from foldgym.config import Run, TrainRun, dump, load, plug
from foldgym.errors import ConfigError, DataError, NotFinite
from foldgym.memory import Store
from foldgym.rewards import Rubric, make_rubric
from foldgym.seeding import derive_seed
from foldgym.trainers import checkpoint, compose
from foldgym.trainers.accelerated import check_launch
from foldgym.trainers.answers import AnswerReader
from foldgym.trainers.clock import Clock
from foldgym.trainers.crediting import Crediting, imitating
from foldgym.trainers.crew import Bystander, Crew, Trainee, join, rank, together
from foldgym.trainers.desk import Aside, Desk, Inline
from foldgym.trainers.feed import Feed, Taken
from foldgym.trainers.judging import check_rewards, scored, unscored
from foldgym.trainers.leaks import answer_reader, check_answers
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import scales
from foldgym.trainers.losses.kl import kl_loss
from foldgym.trainers.metrics import (
    METRICS,
    TIMINGS,
    TRAJECTORIES,
    RunLog,
    headline,
    sampled_ids,
    spent,
    summary,
)
from foldgym.trainers.openings import Openings
from foldgym.trainers.optim import Optim
from foldgym.trainers.replay import Replay
from foldgym.trainers.samplers import SAMPLERS
from foldgym.trainers.sinks import open_sinks
from foldgym.trainers.staleness import lags
from foldgym.trainers.values import ValueHead, ValuePredictor
from foldgym.trainers.wiring import (
    Actor,
    Worlds,
    engaged,
    how_to_play,
    load_actor,
    load_aux,
    load_weights,
    policy_folder,
    store_of,
    worlds,
)
from foldgym.types import Group, Request, Sampler

RUN_FILE, CHECKPOINTS, STORE = "run.toml", "checkpoints", "store.json"
Progress = Callable[[int, int, str], None]  # steps done, steps in all, the numbers to watch


@dataclass(slots=True)
class Job:
    """Everything a run is made of; `step` counts the updates already made."""

    run: TrainRun
    folder: Path
    actor: Actor
    mix: Worlds
    held_out: Worlds
    how: Rollout
    rubric: Rubric
    score: Score
    sampler: Sampler
    learner: TorchLearner
    credit: Crediting
    log: RunLog
    answers: AnswerReader | None = None
    store: Store | None = None
    step: int = 0
    desk: Desk = field(init=False)
    feed: Feed = field(init=False)

    def __post_init__(self) -> None:
        plan = self.run.train
        self.desk = Aside() if plan.mode == "async" else Inline()
        play = partial(played, self)
        self.feed = Feed(self.sampler, play, plan.groups, plan.steps, plan.ahead, plan.order)

    @property
    def playing(self) -> Rollout:
        """How to play now: with the store as it is."""
        return replace(self.how, store=self.store.head) if self.store else self.how


async def improve(job: Job, progress: Progress | None = None) -> None:
    """The loop: take groups, give credit, update, publish, write down.

    Who plays, and how far ahead, is the feed's business; where the learner works is the desk's.
    """
    plan = job.run.train
    async with job.desk, job.feed:
        for step in range(job.step + 1, plan.steps + 1):
            clock = Clock(lambda: job.feed.seconds)
            taken = await collect(job, step)
            clock.lap("wait")
            metrics = summary(taken.accepted, taken.played)
            if plan.ahead:
                metrics |= lags(taken.accepted, job.actor.policy.version)
                metrics["staleness/dropped"] = float(taken.dropped)
            if job.store is not None:
                metrics |= job.store.merge(taken.played)
            if not plan.ahead:
                await job.actor.rest()
            metrics |= await job.desk.do(partial(learn, job, taken.accepted))
            metrics |= job.sampler.update(taken.accepted, taken.rejected)
            clock.lap("update")
            metrics |= await job.actor.publish()
            clock.lap("publish")
            if plan.eval_every and (step % plan.eval_every == 0 or step == plan.steps):
                metrics |= await held_out(job)
                clock.lap("evaluate")
            due = step == plan.steps or step % (plan.checkpoint_every or step + 1) == 0
            if due:
                await job.feed.rest()
                clock.lap("rest")
            more = {"queued": taken.queued, **spent(job.how.aux)}
            seconds = clock.laps | clock.overlap | more
            job.log.step(step, metrics, seconds, sampled_ids(taken.played))
            job.step = step
            if due:
                save(job)
            job.feed.done(job.actor.policy.version)
            if progress:
                progress(step, plan.steps, headline(metrics))


async def collect(job: Job, step: int) -> Taken:
    """The groups of a step, written down as they were judged; also those before a failure."""
    try:
        taken = await job.feed.take(job.actor.policy.version)
    except Exception:
        job.log.lots(step, job.feed.left)
        raise
    job.log.lots(step, taken.lots)
    return taken


async def played(
    job: Job, requests: Sequence[Request], step: int, mark: tuple[int, ...]
) -> list[Group]:
    """Plays requests of a step and gives rewards. They read the store as it is now.

    `mark` tells the step's plays apart; with the step it makes the seed of every episode.
    """
    seed = derive_seed(job.run.seed, "rollout", step, *mark)
    sampler, how = job.actor.sampler, job.playing
    groups = await rollout(requests, job.mix.open, sampler, how, seed, job.score)
    if job.rubric.needs:
        limit = job.run.optim.microbatch_tokens
        reader, answers = job.learner.reader, job.answers
        work = partial(scored, groups, job.rubric, step - 1, reader, limit, answers)
        groups = await job.desk.do(work)
    return groups


def learn(job: Job, groups: Sequence[Group]) -> dict[str, float]:
    """Credit and the update."""
    batch, found = job.credit.batch(groups, job.step)
    return found | job.learner.update(batch)


async def held_out(job: Job) -> dict[str, float]:
    """Success, score and turns on the same held-out tasks every time."""
    run = job.run
    requests = [
        request
        for env in job.held_out.weights
        for request in tasks(env, run.train.eval_episodes, run.seed)
    ]
    seed = derive_seed(run.seed, "evaluate")
    report, _ = await evaluate(
        requests, job.held_out.open, job.actor.judged, job.playing, seed, job.score
    )
    found: dict[str, float] = {}
    for env, result in report.envs.items():
        found[f"eval/{env}/success"] = result.success.mean
        found[f"eval/{env}/score"] = result.score.mean
        found[f"eval/{env}/turns"] = result.turns.mean
    return found


# ---------------------------------------------------------------- starting and resuming


def train(run: TrainRun, progress: Progress | None = None) -> Path:
    """Runs a run file to its end and returns the run's folder.

    Raises `ConfigError` if the folder already holds a run, and any `UserError` of a wrong part
    before the folder is touched.
    """
    with together(f"continue with --resume {run.output}"):
        if rank():
            return follow(run)
        folder = new_folder(run)
        job = build(run, folder)
        write_run(run, folder)
        return _drive(job, progress, begins=True)


def resume(folder: Path, progress: Progress | None = None, overrides: Sequence[str] = ()) -> Path:
    """Continues a run from its newest checkpoint as if it had never stopped.

    On a CPU the result is equal bit for bit. A run killed before its first checkpoint starts
    again. `overrides` change the run file, to make it longer say; what has its state in the
    checkpoint stays what it is.
    """
    run = load(TrainRun, folder / RUN_FILE, overrides)
    if any(word.partition("=")[0].strip() == "output" for word in overrides):
        raise ConfigError(f"output: has no effect: the run goes on in {folder}; remove it")
    try:
        found = checkpoint.load(checkpoint.latest(folder / CHECKPOINTS))
    except checkpoint.NoCheckpoint:
        found = None
    with together(f"continue with --resume {folder}"):
        if rank():
            return follow(run, found)
        job = build(run, folder, found)
        if overrides:
            write_run(run, folder)
        return _drive(job, progress, begins=found is None)


def build(run: TrainRun, folder: Path, found: checkpoint.Checkpoint | None = None) -> Job:
    """All parts of a run, in the state of the checkpoint if there is one."""
    compose.check(run)
    mix, held = worlds(run.envs, learning=True), worlds(run.envs, "val")
    crew, run = _joined(run)
    algorithm, parts, replay = run.algorithm, compose.parts_of(run), compose.replay_of(run)
    scales(algorithm.aggregation, np.zeros(0), algorithm.norm)  # refuses a wrong pair now
    torch.manual_seed(derive_seed(run.seed, "torch"))
    actor = engaged(
        load_actor(run.policy, run.lora, derive_seed(run.seed, "lora"), found and found.path),
        run,
        folder,
    )
    rubric = make_rubric(run.reward)
    check_rewards(rubric)
    learner = learner_of(parts, actor.policy, crew, found)
    head = value_head(parts, learner) if "value" in parts.asks else None
    aux = None if run.aux is None else load_aux(run.aux, actor.renderer)
    how = how_to_play(run.rollout, run.memory, actor.renderer, mix.max_turns, run.scaffold, aux)
    how = replace(how, concurrency=mix.at_once(how.concurrency))
    if run.train.ahead:
        how = replace(how, places=asyncio.Semaphore(how.concurrency))
    sampler = sampler_of(parts, mix, how, learner)
    answers = answer_reader(rubric, mix, how, actor, run.seed)
    if answers is not None and found is None:  # what a policy became is no reason to refuse it
        check_answers(rubric, mix, how, answers, run.seed)
    store = store_of(run.store, how, filled=found is None)
    if store is not None and run.train.ahead and not store.frozen:
        raise ConfigError(
            f"train.staleness: {type(how.memory()).__name__} keeps a store, and what is played "
            "ahead would read it before the steps in between have written; set train.staleness = 0"
        )
    if found is not None:
        _restore(found, sampler, learner, head, replay, store)
    job = Job(
        run,
        folder,
        actor,
        mix,
        held,
        how,
        rubric,
        unscored if rubric.needs else rubric.score,
        sampler,
        learner,
        Crediting(parts, learner, sampler, replay, head),
        RunLog(
            folder,
            found.state["offsets"] if found else None,
            run.train.trajectories,
            sinks=open_sinks(run.log, folder, run.model_dump()),
            meter=learner.meter(run.log.peak_flops),
        ),
        answers,
        store,
    )
    if found is not None:
        job.step = found.step
        actor.policy.advance(found.state["version"])
        job.feed.load(found.state.get("feed"), found.step, actor.policy.version)
        torch.set_rng_state(found.tensors["rng"])
    return job


def _restore(
    found: checkpoint.Checkpoint,
    sampler: Sampler,
    learner: TorchLearner,
    head: ValueHead | None,
    replay: Replay | None,
    store: Store | None,
) -> None:
    """Gives every part its state. Raises `ConfigError` for one that is not of its kind."""
    state, tensors = found.state, found.tensors
    parts: list[tuple[str, Any, Any]] = [
        ("sampler", sampler, state["sampler"]),
        ("optim", learner, tensors["learner"]),
        ("value", head, tensors["value"]),
        ("replay", replay, state["replay"]),
        ("store", store, state["store"]),
    ]
    for section, part, saved in parts:
        try:
            if part is not None:
                part.load(saved)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as problem:
            raise ConfigError(
                f"[{section}]: does not fit the state in {found.path}, so it cannot change in a "
                f"run that has begun ({type(problem).__name__}: {problem}); change it back, or "
                "start a new run with this checkpoint as policy.path"
            ) from problem


def follow(run: TrainRun, found: checkpoint.Checkpoint | None = None) -> Path:
    """What a rank does that does not play: it learns as rank 0 says, until the run is over."""
    compose.check(run)
    crew, run = _joined(run)
    crew.serve(learner_of(compose.parts_of(run), Bystander(), crew, found))
    return Path(run.output)


def _joined(run: TrainRun) -> tuple[Crew, TrainRun]:
    """The crew of this process, and the run with the device that is its own."""
    check_launch(run.policy.dtype, run.policy.device, run.optim.checkpointing)
    crew, device = join(run.policy.device)
    policy = run.policy.model_copy(update={"device": device})
    return crew, run.model_copy(update={"policy": policy})


def learner_of(
    parts: compose.Parts,
    policy: TorchPolicy | Bystander,
    crew: Crew | None = None,
    found: checkpoint.Checkpoint | None = None,
) -> TorchLearner:
    """The learner of a run file, with the policy that the run started from as the reference."""
    run, kl = parts.run, parts.run.algorithm.kl
    trainee: Any = policy
    if crew is not None and not crew.alone:
        place = found and found.path
        saved = load_weights(run.policy, run.lora, derive_seed(run.seed, "lora"), place)
        trainee = Trainee(crew, saved.model, policy)
    steps = run.train.steps * run.optim.epochs * run.optim.minibatches
    reference = None
    if parts.needs_reference:
        reference = model = trainee.model  # with adapters: its own base
        if not run.lora.rank:
            first = load_policy(policy_folder(run.policy.path), model.device, model.dtype)
            reference = first.model.requires_grad_(False)
    return TorchLearner(
        trainee,
        imitating(parts.loss) if run.replay.use == "spear" else parts.loss,
        Optim(**run.optim.model_dump(), total=steps),
        temperature=run.rollout.temperature,
        kl=kl_loss(kl.use) if parts.kl_in_loss else None,
        kl_coef=kl.coef,
        reference=reference,
        seed=derive_seed(run.seed, "learner"),
        crew=crew,
        **compose.learner_options(parts),
    )


def sampler_of(parts: compose.Parts, mix: Worlds, how: Rollout, learner: TorchLearner) -> Sampler:
    """The sampler of a run; one that reads a value head gets its own, on the policy as it is."""
    run = parts.run
    make = plug("sampler", run.sampler, SAMPLERS, "sampler")
    seed = derive_seed(run.seed, "sampler")
    if not parts.chooses_by_value:
        return make(mix.weights, seed, run.train.group_size)

    def value() -> ValuePredictor:
        return ValuePredictor(value_head(parts, learner), Openings(mix.open, how))

    return make(mix.weights, seed, run.train.group_size, value=value)


def value_head(parts: compose.Parts, learner: TorchLearner) -> ValueHead:
    """An untrained value head as `[value]` describes it."""
    section = parts.run.value
    return ValueHead(
        learner.reader,
        **section.model_dump(exclude={"use"}),
        gamma=parts.run.algorithm.advantage.kwargs.get("gamma", 1.0),
        max_tokens=parts.run.optim.microbatch_tokens,
    )


def save(job: Job) -> Path:
    """A checkpoint of the step just made."""
    actor, replay, head = job.actor, job.credit.replay, job.credit.head
    if job.store is not None:
        job.store.save(job.folder / STORE)
    return checkpoint.save(
        job.folder / CHECKPOINTS,
        job.step,
        lambda path: actor.write(path, {"step": job.step}),
        {
            "sampler": job.sampler.state(),
            "offsets": job.log.offsets(),
            "version": actor.policy.version,
            "replay": None if replay is None else replay.state(),
            "store": None if job.store is None else job.store.state(),
            "feed": job.feed.state(),
        },
        {
            "learner": job.learner.state(),
            "value": None if head is None else head.state(),
            "rng": torch.get_rng_state(),
        },
        job.run.train.keep,
    )


def _drive(job: Job, progress: Progress | None, begins: bool) -> Path:
    async def run() -> None:
        async with job.actor:
            await improve(job, progress)

    crew = job.learner.crew
    try:
        if begins and job.run.train.checkpoint_every:
            save(job)
        asyncio.run(run())
        crew.dismiss()
    except NotFinite:  # everybody has it, and waits for what comes next
        crew.dismiss()
        raise
    finally:
        job.log.close()
    return job.folder


def new_folder(run: Run) -> Path:
    """The run's output folder, as long as no run is in it."""
    folder = Path(run.output)
    if (folder / RUN_FILE).exists():
        raise ConfigError(
            f"output: {folder} already holds a run; continue it with --resume {folder}, "
            "or choose another folder"
        )
    for place in (METRICS, TIMINGS, TRAJECTORIES, CHECKPOINTS):
        left = folder / place
        if any(left.iterdir()) if left.is_dir() else left.is_file() and left.stat().st_size:
            raise ConfigError(
                f"output: {left} is there already, of a run or something else whose {RUN_FILE} is "
                "gone; move it away, or choose another folder"
            )
    return folder


def write_run(run: Run, folder: Path) -> None:
    """Writes `run.toml`, there completely or not at all."""
    half = folder / f".{RUN_FILE}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        half.write_text(dump(run), encoding="utf-8")
        half.replace(folder / RUN_FILE)
    except OSError as problem:
        raise DataError(f"cannot write {folder / RUN_FILE}: {problem.strerror}") from None
