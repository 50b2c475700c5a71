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
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from foldgym.agents.engines.rendering import choose_renderer
from foldgym.agents.engines.templates import renderer_in
from foldgym.agents.engines.tokenizer import Tokenizer
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.rollout import Rollout, rollout
from foldgym.config import EnvSection, RolloutSection, parse_memory
from foldgym.envs import registry
from foldgym.envs.worker import Isolation, open_worker
from foldgym.errors import ConfigError, EnvCrashed, MissingExtra, UserError
from foldgym.integrations.played import Plan, Played, wait
from foldgym.integrations.rows import Row, Segments, columns, rows_of, worth
from foldgym.integrations.signatures import method_of
from foldgym.rewards import Rubric, make_rubric
from foldgym.seeding import derive_seed
from foldgym.trainers.judging import unscored
from foldgym.trainers.wiring import Worlds, how_to_play, worlds
from foldgym.types import EnvHandle, Opening, Request, Trajectory

if TYPE_CHECKING:
    from datasets import Dataset

RewardFunc = Callable[..., "list[float | None]"]
_TURNS = 32  # where the environment sets no limit
_TAKEN = ("reset", "get_reward")  # methods that TRL calls itself
_PLAIN = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
_GIVEN = frozenset(("group", "step"))  # what a reward term may need here


def dataset(name: str, n: int, *, seed: int = 0, **kwargs: Any) -> Dataset:
    """`n` tasks of an environment as rows for TRL; `kwargs` go to the environment, `split` say.

    Columns: `prompt`, what the environment's `reset` shows; `environment` and `task_seed`, which
    say which task it is. The last message of a prompt says so too, in `task`, since `rollout_func`
    is given prompts alone.
    """
    try:
        from datasets import Dataset
    except ModuleNotFoundError as problem:
        raise MissingExtra("foldgym.integrations.trl.dataset", "trl") from problem
    seeds = [derive_seed(seed, "trl", name, number) for number in range(n)]
    return Dataset.from_list(
        [_row(name, each, opening) for each, opening in _open(name, seeds, kwargs)]
    )


def environment_factory(
    name: str,
    *,
    isolation: Isolation | None = None,
    budget: float | None = None,
    retries: int = 1,
    **kwargs: Any,
) -> type[Played]:
    """A class for TRL's `environment_factory`; `kwargs` go to the environment.

    It has `reset` and a method for each tool, with a signature and a docstring that give TRL the
    tool's JSON schema. Every call has `budget` seconds (the environment's own limit by default): a
    hung or crashed environment is replaced `retries` times at reset, and else its episode has no
    reward (TRL then leaves it out of the baseline and of the loss) and is counted in the metric
    `foldgym/failures`. Use it with `reward`.
    """
    spec = registry.spec(name)
    maker = registry.maker(name, **kwargs)

    def open_env() -> EnvHandle:
        return open_worker(maker, isolation or spec.isolation, budget or spec.budget)

    ((_, opening),) = _open(name, [0], kwargs)
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

    `names` are the environments of the rows, `kwargs` go to all of them. `memory` is a `[memory]`
    section, such as `{"use": "summarise", "max_context": 512}`; `max_tokens` are those of one turn.
    `renderer` "auto" is the one of the tokenizer's chat template.
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
    calls: int = field(default=0, init=False)
    _made: tuple[Any, TorchPolicy, Rollout] | None = field(default=None, init=False)

    def __call__(self, prompts: Sequence[Any], trainer: Any) -> dict[str, list[Any]]:
        """What TRL wants: `prompt_ids`, `completion_ids`, `logprobs`, `env_mask`, for each prompt.

        `foldgym_row` is for `reward`: the task's number, the row, and how to scale.
        """
        check_trainer(trainer, self.segments)
        policy, how = self._player(trainer)
        requests = [
            Request(env, seed, self.episodes or n)
            for (env, seed), n in ((key, len([*run])) for key, run in _runs(prompts))
        ]
        sizes = [len([*run]) for _, run in _runs(prompts)]
        stream = derive_seed(
            trainer.args.seed, "trl", self.calls, trainer.accelerator.process_index
        )
        self.calls += 1
        model = policy.model
        training = model.training
        model.eval()  # no dropout, no checkpointing
        try:
            policy.advance()
            groups = wait(rollout(requests, self.mix.open, policy, how, stream, unscored))
        finally:
            model.train(training)
        rows = [
            (number, row)
            for number, (group, size) in enumerate(zip(groups, sizes, strict=True))
            for row in rows_of(group, size, self.segments)
        ]
        scale = True if self.segments == "rows" else None
        found = columns([row for _, row in rows], policy.pad_id, how.renderer.stop_ids[0])
        return {**found, "foldgym_row": [(number, row, scale) for number, row in rows]}

    def _player(self, trainer: Any) -> tuple[TorchPolicy, Rollout]:
        model = trainer.accelerator.unwrap_model(trainer.model)
        if self._made is None or self._made[0] is not model:
            words = _tokenizer(trainer.processing_class)
            name = self.renderer
            if name == "auto":
                name = renderer_in(words.template) or name
            renderer = choose_renderer(name, words, model.config.model_type).renderer
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


def _tokenizer(theirs: Any) -> Tokenizer:
    import tokenizers

    backend = tokenizers.Tokenizer.from_str(theirs.backend_tokenizer.to_str())
    template = theirs.chat_template
    return Tokenizer(backend, template if isinstance(template, str) else "")


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


def _open(name: str, seeds: Sequence[int], kwargs: Mapping[str, Any]) -> list[tuple[int, Opening]]:
    """What `reset` brings for each seed."""
    spec = registry.spec(name)
    handle = open_worker(registry.maker(name, **kwargs), spec.isolation, spec.budget)

    async def every() -> list[tuple[int, Opening]]:
        try:
            return [(seed, await handle.reset(seed, {})) for seed in seeds]
        finally:
            await handle.close()

    return wait(every())


def _row(name: str, seed: int, opening: Opening) -> dict[str, Any]:
    prompt: list[dict[str, Any]] = []
    for message in opening.task.prompt:
        if not isinstance(message.content, str):
            raise UserError(f"task {opening.task.id} of {name} shows pictures; use foldgym train")
        prompt.append({"role": message.role, "content": message.content, "task": None})
    prompt[-1]["task"] = f"{name}:{seed}"
    return {"prompt": prompt, "environment": name, "task_seed": seed}


def _runs(prompts: Sequence[Any]) -> itertools.groupby[tuple[str, int], Any]:
    """Neighbouring prompts of the same task, by environment and seed."""
    return itertools.groupby(prompts, _task_of)


def _task_of(prompt: Any) -> tuple[str, int]:
    mark = prompt[-1].get("task") if isinstance(prompt, list) else None
    if not mark:
        raise UserError(
            "a prompt does not say which task it is; make the rows with "
            "foldgym.integrations.trl.dataset"
        )
    name, _, seed = str(mark).rpartition(":")
    return name, int(seed)
