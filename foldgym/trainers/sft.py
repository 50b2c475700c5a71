"""`foldgym sft`: behaviour cloning of scripted experts or recorded trajectories.

The batch code is that of reinforcement learning: credit 1 on every sampled id. Demonstrations are
played afresh for every batch, so the model sees no episode twice, and through the memory of the
run file: what it shows is what is learned from, and the notes that it has written are learned too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from foldgym.agents.engines.models import init_model, write_policy
from foldgym.agents.engines.scripted import ExpertPolicy
from foldgym.agents.engines.tokenizer import CHATML_CONTROLS, CONTROLS, train_tokenizer
from foldgym.agents.renderers import Renderer, make_renderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.agents.tasks import run_to_end
from foldgym.config import SftRun
from foldgym.errors import ConfigError, DataError
from foldgym.memory import FullHistory
from foldgym.records import RecordReader
from foldgym.seeding import derive_seed, generator
from foldgym.trainers import checkpoint
from foldgym.trainers.accelerated import check_launch
from foldgym.trainers.batch import make_batch
from foldgym.trainers.clock import Clock
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.listener import Listener
from foldgym.trainers.losses import policy_gradient
from foldgym.trainers.metrics import RunLog, headline, summary
from foldgym.trainers.optim import Optim
from foldgym.trainers.recordings import cloneable
from foldgym.trainers.samplers import uniform
from foldgym.trainers.sinks import open_sinks
from foldgym.trainers.train import CHECKPOINTS, Progress, new_folder, write_run
from foldgym.trainers.wiring import (
    Actor,
    Worlds,
    budget_of,
    check_notes,
    load_actor,
    make_actor,
    memory_of,
    worlds,
)
from foldgym.types import Budget, Group, Request, Reward, Trajectory

Demonstrate = Callable[[int], list[Group]]  # the demonstrations of one step
_SHOWN = ("loss", "nll", "entropy", "grad_norm", "lr", "tokens", "skipped_updates")
_ENDLESS = 1 << 30  # tokens; an expert is not held to a context while a tokenizer listens


def sft(
    run: SftRun, progress: Progress | None = None, demonstrations: Demonstrate | None = None
) -> Path:
    """Clones into a new model, or on into `[policy]`; returns the checkpoint's folder.

    `demonstrations` replaces what the run file would clone. Raises `ConfigError` if
    the output folder already holds a run, or if recorded ids would go into a new vocabulary.
    """
    folder = new_folder(run)
    if demonstrations is not None and run.policy is None:
        raise ConfigError(
            "sft.trajectories: recorded ids mean something to the tokenizer that made them only; "
            "give the [policy] they come from instead of a new model"
        )
    if run.sft.trainer == "foldgym":  # TRL's has accelerate do it
        one_process(run)
    mix = worlds(run.envs, learning=True)
    if run.memory is not None:
        check_notes(run.envs, memory_of(run.memory)())
    actor = cloned(run, mix)
    show = demonstrations or shown(run, mix, actor)
    if run.sft.trainer == "trl":
        return _by_trl(run, folder, actor, show, progress)
    learner = TorchLearner(actor.policy, policy_gradient, optim_of(run))
    log = RunLog(
        folder,
        trajectories=False,
        sinks=open_sinks(run.log, folder, run.model_dump()),
        meter=learner.meter(run.log.peak_flops),
    )
    write_run(run, folder)
    try:
        for step in range(1, run.sft.steps + 1):
            clock = Clock()
            groups = show(step)
            clock.lap("rollout")
            batch = make_batch(groups, context_weight=run.sft.context_weight)
            update = learner.update(batch)
            clock.lap("update")
            metrics = {name: update[name] for name in _SHOWN if name in update}
            metrics["demonstrated"] = summary(groups).get("success", 0.0)
            log.step(step, metrics, clock.laps)
            if progress:
                progress(step, run.sft.steps, headline(metrics))
        return _save(run, folder, actor, learner.state(), log)
    finally:
        log.close()


def one_process(run: SftRun) -> None:
    """Raises `ConfigError` where a launcher has started several, or set what would do nothing."""
    count = os.environ.get("WORLD_SIZE", "1")
    if count != "1":
        raise ConfigError(
            f"foldgym sft clones in one process, and a launcher started {count}; start it without, "
            'or set sft.trainer = "trl"'
        )
    dtype, device = (run.policy.dtype, run.policy.device) if run.policy else ("float32", "cpu")
    check_launch(dtype, device, run.sft.checkpointing)


def _by_trl(
    run: SftRun, folder: Path, actor: Actor, show: Demonstrate, progress: Progress | None
) -> Path:
    """The same run with TRL's SFTTrainer; of several processes one writes."""
    from foldgym.trainers.sft_trl import Cloning

    cloning = Cloning(run, actor, optim_of(run))
    cloning.state.wait_for_everyone()  # all have seen that the folder is new
    if not cloning.leads:
        cloning.train(show, folder, lambda step, numbers: None)
        return folder
    log = RunLog(folder, trajectories=False, sinks=open_sinks(run.log, folder, run.model_dump()))
    write_run(run, folder)
    clock = Clock()

    def told(step: int, numbers: dict[str, float]) -> None:
        clock.lap("update")
        log.step(step, numbers, clock.laps)
        if progress:
            progress(step, run.sft.steps, headline(numbers))

    try:
        cloning.train(show, folder, told)
        return _save(run, folder, actor, {}, log)
    finally:
        log.close()


def shown(run: SftRun, mix: Worlds, actor: Actor) -> Demonstrate:
    """What the run file clones: recorded episodes if it names a file, else the expert."""
    if run.sft.trajectories:
        path = Path(run.sft.trajectories)
        return recorded(path, run.sft.batch, run.seed, run.sft.min_reward, actor)
    return expert(run, mix, actor)


def expert(run: SftRun, mix: Worlds, actor: Actor) -> Demonstrate:
    """Fresh episodes of the environments' own expert for every step."""
    sampler = uniform(mix.weights, derive_seed(run.seed, "sft"), 1)
    player = ExpertPolicy(run.sft.expert)
    context = int(min(actor.policy.max_positions, _ENDLESS))
    how = _how(run, actor.renderer, mix, Budget(context, 0))
    if run.memory is not None:
        budget = budget_of(run.memory)
        how = replace(how, budget=replace(budget, max_context=min(budget.max_context, context)))

    def demonstrate(step: int) -> list[Group]:
        requests = sampler.plan(step, run.sft.batch)
        seed = derive_seed(run.seed, "expert", step)
        return _played(run_to_end(rollout(requests, mix.open, player, how, seed, _unscored)))

    return demonstrate


def recorded(
    path: Path, batch: int, seed: int, least: float = 0.0, actor: Actor | None = None
) -> Demonstrate:
    """Demonstrations from a trajectories file: those with a reward of at least `least`.

    Each pass is in a new order. For an `actor`, in its ids: see `cloneable`. Raises `DataError` if
    none is good enough, or none can be cloned.
    """
    good = [
        record.trajectory
        for record in RecordReader(path)
        if not record.trajectory.failed
        and record.trajectory.trained
        and (record.reward is None or record.reward.total >= least)
    ]
    if not good:
        raise DataError(f"{path} holds no trajectory with a reward of at least {least}")
    if actor is not None:
        good = cloneable(good, actor, path)

    def demonstrate(step: int) -> list[Group]:
        places = range((step - 1) * batch, step * batch)
        chosen = [good[_order(place // len(good))[place % len(good)]] for place in places]
        return [Group(Request(t.env, 0), (t,), (_unscored(t),)) for t in chosen]

    orders: dict[int, list[int]] = {}

    def _order(lap: int) -> list[int]:
        if lap not in orders:
            orders[lap] = list(range(len(good)))
            generator(seed, "recorded", lap).shuffle(orders[lap])
        return orders[lap]

    return demonstrate


def cloned(run: SftRun, mix: Worlds) -> Actor:
    """Who learns: the policy to continue, with adapters if there is `[lora]`, or a new model."""
    if run.policy is None:
        return new_actor(run, mix)
    return load_actor(run.policy, run.lora, derive_seed(run.seed, "lora"))


def new_actor(run: SftRun, mix: Worlds) -> Actor:
    """A model of random weights, and a tokenizer trained on what the expert's episodes say."""
    name = "compact" if run.renderer == "auto" else run.renderer
    listener = Listener()
    how = _how(run, make_renderer(name, listener), mix, Budget(_ENDLESS, 0))
    sampler = uniform(mix.weights, derive_seed(run.seed, "tokenizer"), 1)
    requests = sampler.plan(0, run.tokenizer.episodes)
    player = ExpertPolicy(run.sft.expert)
    _played(run_to_end(rollout(requests, mix.open, player, how, run.seed, _unscored)))
    controls = CONTROLS if name == "compact" else (CONTROLS[0], *CHATML_CONTROLS)
    # sorted, because episodes that play at once are heard in any order
    tokenizer = train_tokenizer(sorted(listener.heard), run.tokenizer.vocab_size, controls)
    shape = run.new_model
    renderer = make_renderer(name, tokenizer)
    model = init_model(
        shape.family,
        vocab_size=tokenizer.vocab_size,
        hidden=shape.hidden,
        layers=shape.layers,
        heads=shape.heads,
        kv_heads=shape.kv_heads or None,
        head_dim=shape.head_dim,
        mlp=shape.mlp,
        rope_theta=shape.rope_theta,
        window=shape.window,
        tie=shape.tie,
        max_positions=shape.max_positions,
        seed=derive_seed(run.seed, "model"),
        pad_id=tokenizer.control(CONTROLS[0]),
        stop_id=renderer.stop_ids[0],
    )
    return make_actor(model, tokenizer, name)


def optim_of(run: SftRun) -> Optim:
    """The optimiser of a cloning run."""
    own = ("lr", "betas", "weight_decay", "warmup", "schedule", "floor", "clip")
    own += ("microbatch_tokens", "layout", "logprob_chunk", "checkpointing", "offload")
    given = {name: getattr(run.sft, name) for name in own}
    return Optim(**given, total=run.sft.steps)


def _how(run: SftRun, renderer: Renderer, mix: Worlds, budget: Budget) -> Rollout:
    memory = memory_of(run.memory) if run.memory is not None else FullHistory
    how = Rollout(renderer, memory, budget=budget, limits=Limits(mix.max_turns))
    return replace(how, concurrency=mix.at_once(how.concurrency))


def _played(groups: list[Group]) -> list[Group]:
    played = [group for group in groups if group.trajectories]
    if not played:
        failures = [failure.error for group in groups for failure in group.failures]
        raise DataError(f"every demonstration failed, the last by {failures[-1]}")
    return played


def _unscored(trajectory: Trajectory) -> Reward:
    return Reward(0.0, 0.0)


def _save(
    run: SftRun, folder: Path, actor: Actor, learner: Mapping[str, object], log: RunLog
) -> Path:
    metadata: Mapping[str, object] = {"step": run.sft.steps, "expert": run.sft.expert}
    return checkpoint.save(
        folder / CHECKPOINTS,
        run.sft.steps,
        lambda path: write_policy(
            path, actor.policy.model, actor.tokenizer, actor.renderer_name, metadata
        ),
        {"offsets": log.offsets()},
        {"learner": learner},
    )
