"""Any foldgym environment inside TRL's `GRPOTrainer`: the environment alone, or our rollout too.

    from foldgym.integrations import trl as fold

    rows = fold.dataset("foldgym/GuessNumber-v0", 64)
    GRPOTrainer(model, fold.reward(), args, rows,
                environment_factory=fold.environment_factory("foldgym/GuessNumber-v0"))
    GRPOTrainer(model, fold.reward(), args, rows,
                rollout_func=fold.rollout_func("foldgym/GuessNumber-v0"))

The first leaves the loop to TRL: its chat template, its one call after the other. The second plays
with `foldgym.agents.rollout`: episodes at once, memories, exact ids. docs/trl.md compares them.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from foldgym.agents.engines.rendering import choose_renderer
from foldgym.agents.engines.tokenizer import Tokenizer, load_tokenizer
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.rollout import Rollout, rollout
from foldgym.config import EnvSection, RolloutSection, asks_aux, parse_memory
from foldgym.envs import registry
from foldgym.envs.worker import Isolation, open_worker
from foldgym.errors import ConfigError, EnvCrashed, Failure, MissingExtra, UserError
from foldgym.integrations.played import Plan, Played, wait
from foldgym.integrations.rows import Row, Segments, columns, rows_of, worth
from foldgym.integrations.signatures import method_of
from foldgym.rewards import Rubric, make_rubric
from foldgym.seeding import derive_seed
from foldgym.trainers.judging import unscored
from foldgym.trainers.wiring import Worlds, how_to_play, memory_of, worlds
from foldgym.types import EnvHandle, Json, Opening, Request, Trajectory

if TYPE_CHECKING:
    from datasets import Dataset

RewardFunc = Callable[..., "list[float | None]"]
_TURNS = 32  # where the environment sets no limit
_UNLUCKY = 7  # tasks that may fail beside as many as are wanted
_TAKEN = ("reset", "get_reward")  # methods that TRL calls itself
_PLAIN = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
_GIVEN = frozenset(("group", "step"))  # what a reward term may need here


def dataset(name: str, n: int, *, seed: int = 0, **kwargs: Any) -> Dataset:
    """`n` tasks of an environment as rows for TRL; `kwargs` go to the environment, `split` say.

    Columns: `prompt`, what the environment's `reset` shows; `environment`, `task_seed` and
    `options` (the `kwargs` as JSON), which say which task it is. The last message of a prompt says
    so too, in `task` and `options`, since `rollout_func` is given prompts alone. A task whose
    `reset` fails is left out with a warning, and the next one taken; raises the `Failure` when
    most do.
    """
    try:
        from datasets import Dataset
    except ModuleNotFoundError as problem:
        raise MissingExtra("foldgym.integrations.trl.dataset", "trl") from problem
    seeds = (derive_seed(seed, "trl", name, number) for number in itertools.count())
    options = json.dumps(_told(name, kwargs))
    return Dataset.from_list(
        [_row(name, each, options, opening) for each, opening in _open(name, seeds, n, kwargs)]
    )


def environment_factory(
    name: str,
    *,
    isolation: Isolation | None = None,
    budget: float | None = None,
    retries: int = 1,
    **kwargs: Any,
) -> type[Played]:
    """A class for TRL's `environment_factory`; `kwargs` go to the environment, under a row's own.

    It has `reset` and a method for each tool, with a signature and a docstring that give TRL the
    tool's JSON schema. Every call has `budget` seconds (the environment's own limit by default): a
    hung or crashed environment is replaced `retries` times at reset, and else its episode has no
    reward (TRL then leaves it out of the baseline and of the loss) and is counted in the metric
    `foldgym/failures`. Use it with `reward`.
    """
    spec = registry.spec(name)
    maker = registry.maker(name, **kwargs)

    def open_env(options: Mapping[str, Json]) -> EnvHandle:
        make = replace(maker, kwargs={**maker.kwargs, **options})
        return open_worker(make, isolation or spec.isolation, budget or spec.budget)

    ((_, opening),) = _open(name, itertools.count(), 1, kwargs)
    plan = Plan(name, open_env, opening.tools, maker.turns(_TURNS), retries)
    methods: dict[str, Any] = {}
    for tool in opening.tools:
        if tool.name in _TAKEN or tool.name.startswith("_"):
            raise UserError(
                f"{name} has a tool called {tool.name!r}, which TRL keeps for itself; use "
                "`rollout_func` instead of `environment_factory`"
            )
        methods[tool.name] = method_of(tool, Played._call)  # pyright: ignore[reportPrivateUsage]
    title = name.rpartition("/")[2].rpartition(":")[2].partition("-")[0]
    return type(title, (Played,), {"_plan": plan, "_numbers": itertools.count(), **methods})


def reward(rubric: Rubric | None = None) -> RewardFunc:
    """One of TRL's `reward_funcs`: what `rubric` (the environment's own score) says of an episode.

    An episode that failed for a reason of ours has no reward. Raises `EnvCrashed` when no episode
    of a batch is left, and whatever was wrong with the code of an environment. Logs the metrics
    `foldgym/reward`, `/success`, `/turns`, `/failures`, and the rubric's terms.
    """
    judge = rubric or make_rubric()
    if judge.needs - _GIVEN:
        raise ConfigError(
            f"a reward term needs {', '.join(sorted(judge.needs - _GIVEN))}, which TRL cannot "
            f"give; it gives {', '.join(sorted(_GIVEN))}"
        )

    def foldgym_reward(
        prompts: Sequence[Any],
        completions: Sequence[Any],
        environments: Sequence[Played] | None = None,
        foldgym_row: Sequence[tuple[int, Row, bool | None]] | None = None,
        trainer_state: Any = None,
        log_metric: Callable[[str, float], None] | None = None,
        **rest: Any,
    ) -> list[float | None]:
        if foldgym_row is not None:
            played = [(group, row) for group, row, _ in foldgym_row]
            scale = foldgym_row[0][2]
        elif environments is not None:
            ended = [
                each._finished(said)  # pyright: ignore[reportPrivateUsage]
                for each, said in zip(environments, completions, strict=True)
            ]
            runs = itertools.groupby(ended, lambda each: (each.env, each.seed))
            numbered = [(number, each) for number, (_, run) in enumerate(runs) for each in run]
            played = [(number, Row(None, each)) for number, each in numbered]
            scale = None
        else:
            raise UserError(
                "foldgym.integrations.trl.reward reads episodes of this module's "
                "environment_factory or rollout_func, and the trainer uses neither"
            )
        step = int(getattr(trainer_state, "global_step", 0))
        found: list[float | None] = []
        scores = _Scores(judge, step)
        for _, members in itertools.groupby(played, lambda each: each[0]):
            rows = [row for _, row in members]
            totals = scores.of_group([row.trajectory for row in rows if row.trajectory is not None])
            if scale is not None:
                found += worth(rows, totals, scale)
            else:
                found += [totals.get(id(row.trajectory)) for row in rows]
        scores.check()
        if log_metric is not None:
            for name, value in scores.metrics().items():
                log_metric(f"foldgym/{name}", value)
        return found

    return foldgym_reward


def rollout_func(
    *names: str,
    renderer: str = "auto",
    memory: Mapping[str, Any] | None = None,
    max_tokens: int = 64,
    max_turns: int = 0,
    max_seconds: float = 300.0,
    retries: int = 2,
    concurrency: int = 64,
    isolation: Isolation | None = None,
    budget: float | None = None,
    segments: Segments = "refuse",
    episodes: int = 0,
    **kwargs: Any,
) -> RolloutFunc:
    """TRL's `rollout_func`: foldgym plays the tasks of `dataset`, on the weights being trained.

    `names` are the environments of the rows, `kwargs` go to all of them, under a row's own.
    `memory` is a `[memory]` section, such as `{"use": "summarise", "max_context": 512}`;
    `max_tokens` are those of one turn. `renderer` "auto" is found out as `policy.renderer` is.
    The temperature is the trainer's.

    A trajectory that folds has several segments, which are several rows. `segments="refuse"` raises
    `ConfigError` then; `"rows"` plays `episodes` per task and hands TRL each segment as a row with
    its trajectory's advantage (see `integrations.rows`), which asks for `scale_rewards="none"`,
    a loss that is a sum over tokens, and `reward` as the only reward.
    """
    sections = tuple(
        EnvSection(name=name, kwargs=kwargs, isolation=isolation, budget=budget) for name in names
    )
    limits = RolloutSection(
        max_tokens=max_tokens,
        max_turns=max_turns,
        max_seconds=max_seconds,
        retries=retries,
        concurrency=concurrency,
    )
    if segments == "rows" and episodes < 2:
        raise ConfigError(
            'segments="rows" needs episodes: how many of a task are played, 2 or more'
        )
    if segments == "refuse" and episodes:
        raise ConfigError('episodes has no effect: with segments="refuse" every row is an episode')
    mix = worlds(sections, learning=True)
    _check_memory(dict(memory or {}))
    return RolloutFunc(mix, renderer, dict(memory or {}), limits, segments, episodes)


@dataclass(slots=True)
class RolloutFunc:
    """Plays the tasks of prompts with the weights of a trainer; made by `rollout_func`."""

    mix: Worlds
    renderer: str
    memory: Mapping[str, Any]
    limits: RolloutSection
    segments: Segments
    episodes: int
    _place: tuple[int, bool, int] = field(default=(-1, False, 0), init=False)
    _made: tuple[Any, TorchPolicy, Rollout] | None = field(default=None, init=False)

    def __call__(self, prompts: Sequence[Any], trainer: Any) -> dict[str, list[Any]]:
        """What TRL wants: `prompt_ids`, `completion_ids`, `logprobs`, `env_mask`, for each prompt.

        `foldgym_row` is for `reward`: the task's number, the row, and how to scale.
        """
        check_trainer(trainer, self.segments)
        policy, how = self._player(trainer)
        model = policy.model
        training = model.training
        size = trainer.num_generations if training else trainer.num_generations_eval
        runs = tasks_of(prompts, size, trainer.accelerator.process_index * len(prompts))
        if self.segments == "rows" and any(n != size for _, n in runs):
            raise ConfigError(
                f'segments="rows": the {size} rows of a task lie in different batches or '
                f"processes, {len(prompts)} rows each; make a batch a multiple of num_generations"
            )
        requests = [
            Request(env, seed, self.episodes or n, kwargs=json.loads(options))
            for (env, seed, options), n in runs
        ]
        stream = self._stream(trainer, training)
        model.eval()  # no dropout, no checkpointing
        try:
            policy.advance()
            groups = wait(rollout(requests, self.mix.open, policy, how, stream, unscored))
        finally:
            model.train(training)
        rows = [
            (number, row)
            for number, (group, (_, n)) in enumerate(zip(groups, runs, strict=True))
            for row in rows_of(group, n, self.segments)
        ]
        scale = True if self.segments == "rows" else None
        found = columns([row for _, row in rows], policy.pad_id, how.renderer.stop_ids[0])
        return {**found, "foldgym_row": [(number, row, scale) for number, row in rows]}

    def _player(self, trainer: Any) -> tuple[TorchPolicy, Rollout]:
        model = trainer.accelerator.unwrap_model(trainer.model)
        if self._made is None or self._made[0] is not model:
            words = tokenizer_of(trainer.processing_class)
            renderer = choose_renderer(self.renderer, words, model.config.model_type).renderer
            pad = trainer.processing_class.pad_token_id
            policy = TorchPolicy(model, renderer.stop_ids, pad_id=pad)
            options = dict(self.memory)
            room = model.config.get_text_config().max_position_embeddings
            options.setdefault("max_context", room)
            memory = parse_memory(options.pop("use", "full"), options)
            limits = self.limits.model_copy(update={"temperature": trainer.temperature})
            how = how_to_play(limits, memory, renderer, self.mix.max_turns)
            self._made = (model, policy, how)
        return self._made[1:]

    def _stream(self, trainer: Any, training: bool) -> int:
        """The random stream of a batch: by its step, so that a resumed run goes on with it."""
        step, was_training, calls = self._place
        here = (trainer.state.global_step, training)
        calls = calls + 1 if here == (step, was_training) else 0
        self._place = (*here, calls)
        process = trainer.accelerator.process_index
        return derive_seed(trainer.args.seed, "trl", here[0], int(training), calls, process)


def tokenizer_of(theirs: Any) -> Tokenizer:
    """What a policy folder that TRL saved would have."""
    with TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return load_tokenizer(folder)


def _check_memory(options: dict[str, Any]) -> None:
    """Raises `ConfigError` or `UnknownName` for a memory that cannot play in a TRL batch."""
    section = parse_memory(options.pop("use", "full"), options)
    if asks_aux(section):
        raise ConfigError('memory: an option is "aux", and TRL has no auxiliary policy')
    if getattr(memory_of(section)(), "keeps", False):
        raise ConfigError(
            f"memory: {section.use!r} keeps what episodes leave for later ones, and TRL has no "
            "place for it; use foldgym train"
        )


def check_trainer(trainer: Any, segments: Segments) -> None:
    """Raises `ConfigError` for a trainer that asks for what our rollout does not do."""
    for name, plain in _PLAIN.items():
        if getattr(trainer, name) not in (plain, None):
            raise ConfigError(
                f"{name} = {getattr(trainer, name)!r}: foldgym samples with a temperature alone; "
                f"leave {name} at {plain!r}"
            )
    kind = str(trainer.accelerator.distributed_type).rpartition(".")[2]
    if trainer.use_vllm or kind in ("FSDP", "DEEPSPEED"):
        raise ConfigError(
            f"rollout_func samples from the trainer's own weights, whole in this process; not with "
            f"{'use_vllm' if trainer.use_vllm else kind}: use foldgym train with an engine instead"
        )
    if segments == "rows":
        wrong = ""
        if trainer.scale_rewards != "none":
            wrong = f'scale_rewards = {trainer.scale_rewards!r}; set it to "none"'
        elif trainer.loss_type not in ("dapo", "cispo", "dr_grpo"):
            wrong = f'loss_type = {trainer.loss_type!r}, which weighs rows; set it to "dapo"'
        elif len(trainer.reward_funcs) != 1 or trainer.reward_weights.tolist() != [1.0]:
            wrong = "several reward functions or a weight; combine them in a Rubric"
        if wrong:
            raise ConfigError(f'segments="rows" hands TRL finished advantages, not with {wrong}')


# ---------------------------------------------------------------- parts


class _Scores:
    """The rubric's rewards of a batch, group by group, and what there is to log about them."""

    def __init__(self, rubric: Rubric, step: int) -> None:
        self.rubric, self.step = rubric, step
        self.played: dict[int, Trajectory] = {}
        self.parts: dict[str, list[float]] = {}

    def of_group(self, trajectories: Sequence[Trajectory]) -> dict[int, float]:
        """Totals by `id(trajectory)` of those that did not fail."""
        unique = {id(each): each for each in trajectories}
        self.played |= unique
        good = [each for each in unique.values() if not each.failed]
        rewards = self.rubric.score_group(good, step=self.step)
        for each in rewards:
            for name, value in {"reward": each.total, **each.parts}.items():
                self.parts.setdefault(name, []).append(value)
        return {id(each): found.total for each, found in zip(good, rewards, strict=True)}

    def check(self) -> None:
        """Raises `EnvCrashed` if everything failed: there is nothing to learn from."""
        failed = [each for each in self.played.values() if each.failed]
        if failed and len(failed) == len(self.played):
            raise EnvCrashed(f"all {len(failed)} episodes failed, the last by {failed[-1].error}")
        if failed:
            warnings.warn(
                f"{len(failed)} episodes have no reward: {failed[-1].error}", stacklevel=3
            )

    def metrics(self) -> dict[str, float]:
        """Means over episodes."""
        good = [each for each in self.played.values() if not each.failed]
        found = {name: sum(values) / len(values) for name, values in self.parts.items() if values}
        found["failures"] = float(len(self.played) - len(good))
        if good:
            found["success"] = sum(bool(t.facts.get("success")) for t in good) / len(good)
            found["turns"] = sum(len(t.turns) for t in good) / len(good)
        return found


def _open(
    name: str, seeds: Iterable[int], n: int, kwargs: Mapping[str, Any]
) -> list[tuple[int, Opening]]:
    """What `reset` brings for the first `n` seeds for which it brings anything."""
    spec = registry.spec(name)
    maker = registry.maker(name, **kwargs)
    failures: list[Failure] = []

    def fresh() -> EnvHandle:
        return open_worker(maker, spec.isolation, spec.budget)

    async def every() -> list[tuple[int, Opening]]:
        found: list[tuple[int, Opening]] = []
        handle = fresh()
        try:
            for seed in itertools.takewhile(lambda _: len(found) < n, seeds):
                try:
                    found.append((seed, await handle.reset(seed, {})))
                except Failure as failure:
                    failures.append(failure)
                    if len(failures) > n + _UNLUCKY:
                        raise
                    await handle.close()
                    handle = fresh()
        finally:
            await handle.close()
        return found

    found = wait(every())
    if failures:
        warnings.warn(
            f"{name}: {len(failures)} tasks are left out, the last by {failures[-1]}", stacklevel=3
        )
    return found


def _told(name: str, kwargs: Mapping[str, Any]) -> dict[str, Json]:
    """The options that a row can carry."""
    options = registry.maker(name, **kwargs).kwargs
    try:
        return json.loads(json.dumps(dict(options)))
    except (TypeError, ValueError):
        return {}  # whoever plays must be given them


def _row(name: str, seed: int, options: str, opening: Opening) -> dict[str, Any]:
    prompt: list[dict[str, Any]] = []
    for message in opening.task.prompt:
        if not isinstance(message.content, str):
            raise UserError(f"task {opening.task.id} of {name} shows pictures; use foldgym train")
        told = {"role": message.role, "content": message.content}
        prompt.append({**told, "task": None, "options": None})
    prompt[-1] |= {"task": f"{name}:{seed}", "options": options}
    return {"prompt": prompt, "environment": name, "task_seed": seed, "options": options}


def tasks_of(
    prompts: Sequence[Any], size: int, first: int
) -> list[tuple[tuple[str, int, str], int]]:
    """The tasks of a batch's groups, and how many rows each has; row 0 is TRL's row `first`."""
    marks = [(_task_of(prompt), place // size) for place, prompt in enumerate(prompts, first)]
    return [(task, len([*run])) for (task, _), run in itertools.groupby(marks)]


def _task_of(prompt: Any) -> tuple[str, int, str]:
    last = prompt[-1] if isinstance(prompt, list) else {}
    if not last.get("task"):
        raise UserError(
            "a prompt does not say which task it is; make the rows with "
            "foldgym.integrations.trl.dataset"
        )
    name, _, seed = str(last["task"]).rpartition(":")
    return name, int(seed), last.get("options") or "{}"
