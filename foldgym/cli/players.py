"""Who plays, and in what: a policy by name or checkpoint folder, environments by name."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldgym import console
from foldgym.cli import chat_player, engine_player
from foldgym.cli.options import (
    add_set,
    add_transform,
    at_least,
    settings,
    temperature,
    transforms,
)
from foldgym.errors import ConfigError, MissingExtra, UnknownName, UserError

if TYPE_CHECKING:
    from foldgym.agents.renderers import Renderer
    from foldgym.agents.rollout import Rollout
    from foldgym.cli.engine_player import Hired
    from foldgym.config import (
        ChatSection,
        EngineSection,
        MemorySection,
        ScaffoldSection,
        TrainRun,
        Use,
    )
    from foldgym.envs.registry import EnvSpec, Maker
    from foldgym.types import EnvHandle, Policy, Request

SCRIPTED = ("expert", "random", "silent", "reader")
LIMITLESS = 1 << 40  # scripted players have no context to run out of
CHAT_TOKENS = 1024
_TURNS = 32  # where an environment sets no limit


@dataclass(frozen=True, slots=True)
class Player:
    """A policy with the renderer it understands and the context it has, in tokens.

    `trained` is the run file it was trained with, whose memory and limits it expects;
    `max_tokens` is how much it may say in a message where neither it nor the user says; `hired`
    is the engine that samples in the policy's place, if one does (`engine_player.played`).
    """

    name: str
    policy: Policy
    renderer: Renderer
    max_context: int
    trained: TrainRun | None = None
    max_tokens: int = 64
    hired: Hired | None = None


@dataclass(frozen=True, slots=True)
class World:
    """Environments chosen on a command line: `open_env` is what a rollout wants.

    `max_turns` is the longest limit among them; 32 where one has none.
    """

    makers: Mapping[str, Maker]
    experts: Mapping[str, tuple[str, ...]]
    max_turns: int

    @property
    def specs(self) -> dict[str, EnvSpec]:
        """What is known of each environment."""
        return {name: maker.spec for name, maker in self.makers.items()}

    def check(self, policy: str) -> None:
        """Raises `UserError` if `policy` is scripted and does not know one of the environments."""
        for env in self.specs if policy == "reader" else ():
            made = self.makers[env]()
            names = [tool.name for tool in made.tools]
            made.close()
            if names != ["search", "answer"]:
                raise UserError(f"reader plays chain questions with search and answer, not {env}")
        kind, _, style = policy.partition(":")
        for env, styles in self.experts.items() if kind == "expert" else ():
            if (style or "optimal") not in styles:
                raise UnknownName(f"expert of {env}", style or "optimal", styles)

    def open_env(self, request: Request) -> EnvHandle:
        """A worker with a new environment for one episode."""
        from foldgym.envs.worker import open_worker

        make = self.makers[request.env]
        if request.kwargs:
            make = replace(make, kwargs={**make.kwargs, **request.kwargs})
        return open_worker(make, make.spec.isolation, make.spec.budget)


def add_world(parser: argparse.ArgumentParser) -> None:
    """`--env`, `--split`, `--set` and `--transform`."""
    parser.add_argument(
        "--env",
        nargs="+",
        required=True,
        metavar="ENV",
        help='a registered name, "module:Class" or "path/to/file.py:Class"; several are allowed',
    )
    parser.add_argument("--split", help="which split to play (test, where there are splits)")
    add_set(parser)
    add_transform(parser)


def add_play(parser: argparse.ArgumentParser, *, sampled: float) -> None:
    """How episodes are played: temperature and limits."""
    add = parser.add_argument
    add("--seed", type=at_least(0), default=0, help="decides tasks and random streams (0)")
    add(
        "--temperature",
        type=temperature,
        default=sampled,
        metavar="T",
        help=f"0 is greedy ({sampled:g})",
    )
    add(
        "--max-tokens",
        type=at_least(1),
        metavar="N",
        help="per message (as trained, or 64; 1024 for chat)",
    )
    what = "per episode (as trained, or the environment's limit)"
    add("--max-turns", type=at_least(1), metavar="N", help=what)
    what = "tokens (as trained, or what the model can take)"
    add("--max-context", type=at_least(1), metavar="N", help=what)
    add(
        "--memory",
        nargs="+",
        metavar=("NAME", "KEY=VALUE"),
        help="what a policy is shown of its past, with options as in a run file's [memory] "
        "(as trained, or full); for `eval` also several: full,window:turns=2",
    )
    add_scaffold(parser)
    add("--retries", type=at_least(0), default=1, help="after a failure of ours (1)")
    add("--concurrency", type=at_least(1), default=64, help="episodes at once (64)")
    add("--device", default="cpu", help="where a checkpoint runs (cpu)")
    add("--threads", type=at_least(0), default=0, help="of torch; 0 is torch's choice (0)")
    engine_player.add_engine(parser)
    chat_player.add_chat(parser)


def add_scaffold(parser: argparse.ArgumentParser) -> None:
    """`--scaffold` and `--aux`: who speaks when, and who answers beside the policy."""
    add = parser.add_argument
    add(
        "--scaffold",
        nargs="+",
        metavar=("NAME", "KEY=VALUE"),
        help="who speaks when, with options as in a run file's [scaffold] (as trained, or react)",
    )
    add("--aux", metavar="P", help='who answers what a memory or scaffold asks by="aux"')


def is_checkpoint(name: str) -> bool:
    """Whether a policy's name means a folder, not a chat API or a script."""
    if Path(name).is_dir():
        return True
    return not chat_player.is_chat(name) and name.partition(":")[0] not in SCRIPTED


def load_player(
    name: str,
    device: str = "cpu",
    threads: int = 0,
    chat: ChatSection | None = None,
    engine: EngineSection | None = None,
) -> Player:
    """A checkpoint folder, or one of `expert:STYLE`, `random`, `silent`, `reader`, `chat:MODEL`.

    A checkpoint is played by `engine`, if one is given. Raises `UserError` that says which of them
    went wrong.
    """
    if chat_player.is_chat(name):
        return _chat(name, chat)
    if not is_checkpoint(name):
        return _scripted(name)
    if not Path(name).exists():
        known = ["expert:optimal", "expert:hasty", "random", "silent", "reader", "chat:MODEL"]
        raise UnknownName("policy", name, known, "Or give a checkpoint folder that exists.")
    return _checkpoint(name, device, threads, engine)


def how(args: argparse.Namespace, player: Player, world: World) -> Rollout:
    """The rollout that the options of `add_play` describe, with one memory."""
    from foldgym.cli.memories import chosen
    from foldgym.config import MemorySection

    trained = player.trained
    if args.memory:
        choices = chosen(args.memory, trained)
        if len(choices) > 1:
            raise ConfigError(
                f"--memory: {len(choices)} memories, and only one can play here; "
                "`foldgym eval` compares several"
            )
        return rollout_with(choices[0].section, args, player, world)
    if trained and trained.memory.use != "full":
        use = trained.memory.use
        console.note(f"{player.name} plays with the memory it was trained with: {use}")
    return rollout_with(trained.memory if trained else MemorySection(), args, player, world)


def rollout_with(
    section: MemorySection, args: argparse.Namespace, player: Player, world: World
) -> Rollout:
    """The rollout that the options of `add_play` describe, with this memory."""
    from foldgym.agents.rollout import Limits, Rollout
    from foldgym.agents.scaffolds import scaffold_of
    from foldgym.cli.stores import store_of
    from foldgym.config import given, plug
    from foldgym.envs.registry import at_once
    from foldgym.memory import MEMORIES
    from foldgym.types import Budget, Sampling

    trained = player.trained
    limits = trained.rollout if trained else None
    tokens = args.max_tokens or (limits.max_tokens if limits else player.max_tokens)
    asked = section.max_context if trained or given(section, "max_context") else LIMITLESS
    context = min(asked, args.max_context or LIMITLESS, player.max_context)
    reserve = section.reserve if trained or given(section, "reserve") else tokens
    make_memory = plug("memory", section, MEMORIES, "--memory")
    try:
        make_memory()
    except ValueError as problem:
        raise ConfigError(f"--memory: {problem}") from None
    scaffold = _scaffold(args, player)
    make_scaffold, untrained = scaffold_of(scaffold, "--scaffold")
    made = Rollout(
        player.renderer,
        make_memory,
        Sampling(args.temperature, tokens),
        Budget(context, min(reserve, context - 1), section.soft, section.overflow),
        Limits(args.max_turns or (limits.max_turns if limits else 0) or world.max_turns),
        args.retries,
        at_once(args.concurrency, world.specs.values()),
        _aux(args, player, section, scaffold),
        scaffold=make_scaffold,
        untrained=untrained,
    )
    store = store_of(args, player, made)
    return replace(made, store=store.head) if store else made


def _scaffold(args: argparse.Namespace, player: Player) -> ScaffoldSection:
    """As asked for, or as trained."""
    from foldgym.config import ScaffoldSection, parse_scaffold

    if args.scaffold:
        section = parse_scaffold(args.scaffold[0], settings(args.scaffold[1:], "--scaffold"))
        if section.roles:
            raise ConfigError("--scaffold roles: has no effect: nothing is trained here; remove it")
        return section
    if player.trained is None:
        return ScaffoldSection()
    section = player.trained.scaffold
    if section.use != "react":
        console.note(f"{player.name} plays with the scaffold it was trained with: {section.use}")
    return section


def _aux(args: argparse.Namespace, player: Player, *sections: Use) -> Policy | None:
    """Who answers by="aux": as asked for, or as trained; None where nobody asks."""
    from foldgym.config import asks_aux

    trained = player.trained
    name = args.aux or (trained.aux.path if trained and trained.aux else None)
    asked = any(map(asks_aux, sections))
    if asked and name is None:
        raise ConfigError(
            'an option of the memory or scaffold is "aux", an auxiliary policy; say with --aux who '
            "answers"
        )
    own = any(":" in section.use for section in sections)
    if args.aux and not asked and not own:
        raise ConfigError(
            f"--aux {name}: has no effect: no option of --memory or --scaffold is aux"
        )
    if name is None:
        return None
    if chat_player.is_chat(name):
        section = chat_player.section(args)
        if section is None and trained and trained.aux and not args.aux:
            section = trained.aux.chat.model_copy(update={"record": ""})  # that file is written
        policy = chat_player.policy(name, section)
        if not is_checkpoint(player.name):
            return policy
        from foldgym.agents.engines.chat_aside import Interpreted

        return Interpreted(policy, player.renderer)
    if not is_checkpoint(name):
        return _scripted(name).policy
    return _aux_checkpoint(args, player, name)


def _aux_checkpoint(args: argparse.Namespace, player: Player, name: str) -> Policy:
    from foldgym.config import AuxSection

    try:
        from foldgym.trainers.wiring import load_aux
    except ModuleNotFoundError as problem:
        raise MissingExtra(f"playing the checkpoint {name}", "train") from problem
    section = AuxSection(path=name, device=args.device, threads=args.threads)
    return load_aux(section, player.renderer)


def open_world(args: argparse.Namespace) -> World:
    """The environments of `add_world`, each made once so that mistakes show before anything runs.

    Without `--split`, environments that have splits play "test".
    """
    return make_world(args.env, settings(args.set), args.split, transforms(args.transform))


def make_world(
    names: Sequence[str],
    given: Mapping[str, Any],
    split: str | None,
    layers: Sequence[Mapping[str, Any]] = (),
) -> World:
    """The same for names, keyword arguments, a split and transforms; "" leaves the split as is."""
    from foldgym.envs.registry import maker

    makers: dict[str, Maker] = {}
    experts: dict[str, tuple[str, ...]] = {}
    turns = 0
    for name in names:
        kwargs = {**given, "split": split} if split else given
        makers[name] = maker(name, **{"transforms": layers, **kwargs})
        if split is None and "split" not in given:
            makers[name] = _held_out(makers[name])
        turns = max(turns, makers[name].turns(_TURNS))
        env = makers[name]()
        experts[name] = env.experts
        env.close()
    return World(makers, experts, turns)


def _held_out(make: Maker) -> Maker:
    """With split "test", if the environment takes a split at all."""
    held = replace(make, kwargs={**make.kwargs, "split": "test"})
    try:
        held().close()
    except UnknownName as problem:
        if problem.name != "split":
            raise
        return make
    return held


def _scripted(name: str) -> Player:
    from foldgym.agents.engines.scripted import scripted_policy
    from foldgym.agents.renderers import CompactRenderer
    from foldgym.testing.doubles import ByteTokenizer
    from foldgym.testing.readers import Reader

    renderer = CompactRenderer(ByteTokenizer())
    policy = Reader(renderer) if name == "reader" else scripted_policy(name)
    return Player(name, policy, renderer, LIMITLESS)


def _chat(name: str, section: ChatSection | None) -> Player:
    from foldgym.agents.engines.chat_renderer import ChatRenderer

    policy = chat_player.policy(name, section)
    context = policy.section.max_context or LIMITLESS
    return Player(name, policy, ChatRenderer(policy.protocol), context, None, CHAT_TOKENS)


def _checkpoint(name: str, device: str, threads: int, engine: EngineSection | None) -> Player:
    from foldgym.config import PolicySection

    try:
        import torch

        from foldgym.agents.engines.engine import Trainee
        from foldgym.trainers.wiring import engine_maker, load_actor
    except ModuleNotFoundError as problem:
        raise MissingExtra(f"playing the checkpoint {name}", "train") from problem
    elsewhere = engine is not None and engine.samples_elsewhere
    if device != "cpu" and not elsewhere and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch sees no GPU here; use --device cpu")
    here = "cpu" if elsewhere else device  # where it only checks what the engine says
    actor = load_actor(PolicySection(path=name, device=here, threads=threads))
    context = int(min(actor.policy.max_positions, LIMITLESS))
    hired = None
    if engine is not None:
        make = engine_maker(engine, actor, name, "--engine")
        trainee = partial(Trainee, actor.policy, actor.renderer, actor.write, device=device)
        hired = engine_player.hire(engine, make, trainee)
        context = min(context, engine.kwargs.get("max_model_len", context))
    trained = _trained(Path(name))
    return Player(name, actor.policy, actor.renderer, context, trained, hired=hired)


def _trained(path: Path) -> TrainRun | None:
    """The run file beside a checkpoint, or in the run folder that was given."""
    from foldgym.config import TrainRun, load

    for folder in (path, path.parent.parent):
        if (folder / "run.toml").is_file():
            try:
                return load(TrainRun, folder / "run.toml")
            except ConfigError:  # of a cloning run, which has no memory and no limits
                return None
    return None


def unique(names: Sequence[str]) -> list[str]:
    """Labels that differ even when two policies have the same name."""
    return [f"{name} #{i + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]
