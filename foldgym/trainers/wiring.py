"""From the sections of a run file to the things that play: worlds, policy, and how they meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from foldgym.agents.engines.behind import behind
from foldgym.agents.engines.chat import chat_policy
from foldgym.agents.engines.chat_aside import Interpreted
from foldgym.agents.engines.engine import ENGINES, Engine, Trainee
from foldgym.agents.engines.models import SavedPolicy, load_policy, write_policy
from foldgym.agents.engines.rendering import choose_renderer
from foldgym.agents.engines.tokenizer import Tokenizer
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.engines.vision import format_of
from foldgym.agents.pictures import plain, with_pictures
from foldgym.agents.renderers import Renderer
from foldgym.agents.rollout import Limits, OpenEnv, Rollout
from foldgym.agents.scaffolds import scaffold_of
from foldgym.config import (
    AuxSection,
    EngineSection,
    EnvSection,
    LoraSection,
    MemorySection,
    PolicySection,
    RolloutSection,
    ScaffoldSection,
    StoreSection,
    TrainRun,
    plug,
)
from foldgym.console import note
from foldgym.envs import registry
from foldgym.envs.worker import open_worker
from foldgym.errors import CheckpointError, ConfigError, UnknownName
from foldgym.memory import MEMORIES, Store
from foldgym.trainers.adapting import adapt, base_of, unadapted
from foldgym.trainers.checkpoint import latest
from foldgym.types import Budget, EnvHandle, Json, Memory, Policy, Request, Sampling

_TURNS = 32  # where neither the run nor the environment sets a limit


@dataclass(frozen=True, slots=True)
class Worlds:
    """The mix of a run: `weights` by label, and `open` makes the environment of a request."""

    weights: Mapping[str, float]
    open: OpenEnv
    max_turns: int
    specs: tuple[registry.EnvSpec, ...] = ()

    def at_once(self, asked: int) -> int:
        """How many episodes may play at a time if `asked` are wanted."""
        return registry.at_once(asked, self.specs)


def worlds(sections: Sequence[EnvSection], split: str = "", *, learning: bool = False) -> Worlds:
    """The environments of a run file; with `split`, those that have splits play that one.

    An environment that stands in the file twice is labelled `name` and `name#2`. Raises
    `UnknownName` or `ConfigError` for one that cannot be made, or, where a policy is `learning`
    from it, one with a transform that is for evaluation only.
    """
    makers: dict[str, tuple[EnvSection, registry.EnvSpec, registry.Maker]] = {}
    turns = 0
    for section in sections:
        spec = registry.spec(section.name)
        maker, limit = _maker(section, split)
        turns = max(turns, limit)
        for use in maker.only_measuring() if learning else ():
            raise ConfigError(
                f"envs: the transform {use!r} of {section.name} is for evaluation only; no policy "
                "may learn from it"
            )
        label, copy = section.name, 2
        while label in makers:
            label, copy = f"{section.name}#{copy}", copy + 1
        makers[label] = (section, spec, maker)

    def open_env(request: Request) -> EnvHandle:
        section, spec, maker = makers[request.env]
        if request.kwargs:
            maker = replace(maker, kwargs={**maker.kwargs, **request.kwargs})
        return open_worker(
            maker, section.isolation or spec.isolation, section.budget or spec.budget
        )

    weights = {label: section.weight for label, (section, _, _) in makers.items()}
    return Worlds(weights, open_env, turns, tuple(spec for _, spec, _ in makers.values()))


def _maker(section: EnvSection, split: str) -> tuple[registry.Maker, int]:
    """With its limit on turns, for which it is made: so a wrong option is found right away."""
    make = partial(registry.maker, section.name, **{"transforms": section.layers, **section.kwargs})
    if split and "split" not in section.kwargs:
        maker = make(split=split)
        try:
            return maker, maker.turns(_TURNS)
        except UnknownName as problem:
            if problem.name != "split":
                raise
    maker = make()
    return maker, maker.turns(_TURNS)


def check_notes(sections: Sequence[EnvSection], memory: Memory) -> None:
    """Raises `ConfigError` if an expert is to write notes for `memory` that its world has not.

    A memory says in `asks` for which purposes it has the policy write; one that does not say is
    found out when it asks.
    """
    asks: tuple[str, ...] = getattr(memory, "asks", ())
    for section in sections:
        env = registry.make(section.name, **{"transforms": section.layers, **section.kwargs})
        env.close()
        known = env.get_wrapper_attr("note_styles")
        for purpose in asks:
            if purpose not in known:
                raise ConfigError(
                    f"memory: {type(memory).__name__} has notes written for {purpose!r}, and the "
                    f"expert of {section.name} writes notes for {', '.join(known) or 'nothing'}; "
                    "choose a memory that only chooses what to show (such as 'window'), clone "
                    "recorded trajectories, or have the world's expert answer that style and name "
                    "it in `note_styles`"
                )


@dataclass(frozen=True, slots=True)
class Actor:
    """A policy of this process with all that belongs to it, the engine that samples included.

    async with actor:
        ...  # actor.sampler plays, and learners change actor.policy
        await actor.publish()
    """

    policy: TorchPolicy
    tokenizer: Tokenizer
    renderer: Renderer
    renderer_name: str
    engine: Engine | None = None

    @property
    def sampler(self) -> Policy:
        """Who plays the rollouts: the policy itself, or the engine in its place."""
        return self.policy if self.engine is None else self.engine.sampler

    @property
    def judged(self) -> Policy:
        """Whose success on held-out tasks counts."""
        return self.policy if self.engine is None else self.engine.judged

    def write(self, folder: Path, metadata: Mapping[str, Json] | None = None) -> None:
        """Writes the policy's files into a new folder, as in a checkpoint."""
        write_policy(folder, self.policy.model, self.tokenizer, self.renderer_name, metadata)

    def tensors(self) -> Mapping[str, torch.Tensor]:
        """The weights, adapters merged into them; what has none is not copied."""
        model = self.policy.model
        if not getattr(model, "peft_config", None):
            return model.state_dict()
        from foldgym.agents.engines.lora import full_state  # imports peft, which takes its time

        return full_state(model)

    async def rest(self) -> None:
        """Nobody plays until the next `publish`."""
        if self.engine is not None:
            await self.engine.rest()

    async def publish(self) -> dict[str, float]:
        """The weights changed: from now on the sampler has them. Returns numbers about it."""
        return {} if self.engine is None else await self.engine.publish()

    async def __aenter__(self) -> Actor:
        if self.engine is not None:
            await self.engine.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.engine is not None:
            await self.engine.stop()


def load_actor(
    section: PolicySection,
    lora: LoraSection | None = None,
    seed: int = 0,
    found: Path | None = None,
) -> Actor:
    """Loads what `load_weights` does as a policy.

    Says on stderr which renderer it took where neither the section nor the folder names one.
    Raises `CheckpointError`, or `UnknownName` or `ConfigError` for the renderer.
    """
    saved = load_weights(section, lora, seed, found)
    name = section.renderer if section.renderer != "auto" else saved.renderer or "auto"
    try:
        chosen = choose_renderer(name, saved.tokenizer, saved.model.config.model_type)
    except ConfigError as problem:
        raise ConfigError(f"policy.renderer: {section.path}: {problem}") from None
    if name == "auto":
        note(f"{section.path} names no renderer: took {chosen.name}, because {chosen.why}")
    return make_actor(saved.model, saved.tokenizer, chosen.name, section.batching)


def load_weights(
    section: PolicySection,
    lora: LoraSection | None = None,
    seed: int = 0,
    found: Path | None = None,
) -> SavedPolicy:
    """Loads a policy folder, or the newest checkpoint of a run folder.

    With `lora` it gets adapters, new ones by `seed`. `found` is the checkpoint of a resumed run,
    from which the weights, or the adapters on their base, come instead. Raises `CheckpointError`.
    """
    if section.threads:
        torch.set_num_threads(section.threads)
    folder = found or policy_folder(section.path)
    dtype = getattr(torch, section.dtype)
    if lora is not None and lora.rank:
        base = base_of(found) if found else folder.absolute()
        saved = load_policy(base, section.device, dtype)
        adapt(saved.model, lora, seed, base, found)
    else:
        saved = load_policy(unadapted(folder) if found else folder, section.device, dtype)
    return saved


def engaged(actor: Actor, run: TrainRun, folder: Path) -> Actor:
    """The actor with the engine of `[engine]`, which keeps its files in `folder`; not started.

    Raises `UnknownName`, or `ConfigError` for its options.
    """
    trainee = Trainee(
        actor.policy,
        actor.renderer,
        actor.write,
        folder / "engine",
        run.rollout.temperature,
        run.policy.dtype,
        run.policy.device,
        actor.tensors,
    )
    if run.train.ahead and run.engine.kwargs.get("transfer", "files") != "files":
        raise ConfigError(
            f"engine.transfer: {run.engine.kwargs['transfer']!r} does not go with train.mode = "
            '"async": a server that fails is started with the weights that were sent last, which '
            'the policy may have left by then; use "files"'
        )
    make = engine_maker(run.engine, actor, run.policy.path, "engine")
    if run.train.ahead and run.engine.use == "torch":
        make = behind
    return replace(actor, engine=make(trainee))


def engine_maker(
    section: EngineSection, actor: Actor, path: str, key: str
) -> Callable[[Trainee], Engine]:
    """What makes the engine of a section, for the policy from `path`.

    Raises `UnknownName`, or `ConfigError` for its options, or for a policy that it cannot play.
    """
    if section.samples_elsewhere and format_of(actor.policy.model) is not None:
        raise ConfigError(
            f'{key}: "{section.use}" is asked with token ids alone, and the policy '
            f'{path} sees pictures; use "torch"'
        )
    return plug("engine", section, ENGINES, key)


def policy_folder(path: str | Path) -> Path:
    """The folder that holds the model: the path itself, or the newest checkpoint of a run.

    Also of a run of transformers or TRL (`checkpoint-N`). Raises `ConfigError` for a chat API.
    """
    folder = Path(path)
    if str(path).startswith("chat:") and not folder.is_dir():
        raise ConfigError(
            f"{path} is a chat API, which gives no weights: it can be evaluated (foldgym eval), "
            "not trained; give a policy folder"
        )
    if _holds_model(folder) or not folder.is_dir():
        return folder
    try:
        return latest(folder)
    except CheckpointError:
        theirs = {
            int(each.name[11:]): each
            for each in folder.glob("checkpoint-[0-9]*")
            if each.name[11:].isdecimal() and _holds_model(each)
        }
        return theirs[max(theirs)] if theirs else folder  # the loader says what is missing


def _holds_model(folder: Path) -> bool:
    names = ("config.json", "adapter_config.json")
    return any((folder / name).is_file() for name in names)


def make_actor(model: Any, tokenizer: Tokenizer, renderer: str, batching: Any = "rounds") -> Actor:
    """A model and its tokenizer as a policy."""
    chosen = choose_renderer(renderer, tokenizer)

    def make(reader: Any) -> Renderer:
        return choose_renderer(chosen.name, reader).renderer

    made = with_pictures(make, tokenizer, format_of(model))
    controls = tokenizer.controls()
    pad = controls.get("<|pad|>", made.stop_ids[0])  # padding is masked, so any id will do
    policy = TorchPolicy(model, made.stop_ids, pad_id=pad, batching=batching)
    return Actor(policy, tokenizer, made, chosen.name)


def load_aux(section: AuxSection, renderer: Renderer) -> Policy:
    """The policy that answers by="aux", on prompts that `renderer` writes; also a chat API.

    In rounds its rows run one by one: who asks together with whom depends on timing, and what is
    sampled must not. Raises `CheckpointError`, or `ConfigError` if its tokenizer is another.
    """
    if section.model:
        return Interpreted(chat_policy(section.model, section.chat), renderer)
    if section.threads:
        torch.set_num_threads(section.threads)
    dtype = getattr(torch, section.dtype)
    saved = load_policy(policy_folder(section.path), section.device, dtype)
    ours = plain(renderer.tokenizer)
    if not isinstance(ours, Tokenizer) or not ours.same_ids(saved.tokenizer):
        raise ConfigError(
            f"aux: the tokenizer of {section.path} is not the policy's, and both read the same "
            "ids; choose a policy that was trained with the same tokenizer"
        )
    pad = ours.controls().get("<|pad|>", renderer.stop_ids[0])
    return TorchPolicy(
        saved.model,
        renderer.stop_ids,
        pad_id=pad,
        batching=section.batching,
        max_batch=1 if section.batching == "rounds" else 256,
    )


def how_to_play(
    rollout: RolloutSection,
    memory: MemorySection,
    renderer: Renderer,
    max_turns: int,
    scaffold: ScaffoldSection | None = None,
    aux: Policy | None = None,
) -> Rollout:
    """What `agents.rollout` needs. `max_turns` holds where the run file sets no limit."""
    make_memory = memory_of(memory)
    make_scaffold, untrained = scaffold_of(scaffold or ScaffoldSection())
    limits = Limits(rollout.max_turns or max_turns, rollout.max_seconds, rollout.max_parse_errors)
    return Rollout(
        renderer,
        make_memory,
        Sampling(rollout.temperature, rollout.max_tokens),
        budget_of(memory),
        limits,
        rollout.retries,
        rollout.concurrency,
        aux,
        scaffold=make_scaffold,
        untrained=untrained,
    )


def memory_of(section: MemorySection) -> Callable[[], Memory]:
    """What makes the memory of an episode. Raises `UnknownName` or `ConfigError`."""
    make: Callable[[], Memory] = plug("memory", section, MEMORIES, "memory")
    try:
        make()
    except ValueError as problem:
        raise ConfigError(f"memory: {problem}") from None
    return make


def store_of(section: StoreSection, how: Rollout, *, filled: bool = True) -> Store | None:
    """The store of a memory or scaffold that keeps one, or None; `filled` from `section.path`.

    Raises `ConfigError` if the section is of no use to either, `DataError` for the file.
    """
    memory, scaffold = how.memory(), how.scaffold()
    if not getattr(memory, "keeps", False) and not getattr(scaffold, "keeps", False):
        if section != StoreSection():
            raise ConfigError(
                f"store: has no effect: the memory {type(memory).__name__} and the scaffold "
                f"{type(scaffold).__name__} keep nothing from episode to episode (what does says "
                "`keeps = True`); remove it"
            )
        return None
    store = Store(**section.model_dump(exclude={"path"}))
    if section.path and filled:
        store.read(section.path)
    return store


def budget_of(section: MemorySection) -> Budget:
    """The context that the memory must live in."""
    return Budget(section.max_context, section.reserve, section.soft, section.overflow)
