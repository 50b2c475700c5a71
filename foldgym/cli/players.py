"""Who plays, and in what: a policy by name or checkpoint folder, environments by name."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldgym.cli.options import add_set, at_least, settings, temperature
from foldgym.errors import MissingExtra, UnknownName, UserError

if TYPE_CHECKING:
    from foldgym.agents.renderers import Renderer
    from foldgym.agents.rollout import Rollout
    from foldgym.envs.registry import EnvSpec
    from foldgym.types import EnvHandle, Policy, Request

SCRIPTED = ("expert", "random", "silent")
_LIMITLESS = 1 << 40  # scripted players have no context to run out of


@dataclass(frozen=True, slots=True)
class Player:
    """A policy with the renderer it understands and the context it has, in tokens."""

    name: str
    policy: Policy
    renderer: Renderer
    max_context: int


@dataclass(frozen=True, slots=True)
class World:
    """Environments chosen on a command line: `open_env` is what a rollout wants."""

    specs: Mapping[str, EnvSpec]
    kwargs: Mapping[str, Mapping[str, Any]]
    experts: Mapping[str, tuple[str, ...]]

    def check(self, policy: str) -> None:
        """Raises `UnknownName` if `policy` is an expert of a style that an environment lacks."""
        kind, _, style = policy.partition(":")
        for env, styles in self.experts.items() if kind == "expert" else ():
            if (style or "optimal") not in styles:
                raise UnknownName(f"expert of {env}", style or "optimal", styles)

    def open_env(self, request: Request) -> EnvHandle:
        """A worker with a new environment for one episode."""
        from foldgym.envs.registry import maker
        from foldgym.envs.worker import open_worker

        spec = self.specs[request.env]
        make = maker(request.env, **self.kwargs[request.env])
        return open_worker(make, spec.isolation, spec.budget)

    @property
    def max_turns(self) -> int:
        """The longest limit among the environments; 32 where one has none."""
        return max(spec.max_turns or 32 for spec in self.specs.values())


def add_world(parser: argparse.ArgumentParser) -> None:
    """`--env`, `--split` and `--set`."""
    parser.add_argument(
        "--env",
        nargs="+",
        required=True,
        metavar="ENV",
        help='a registered name, "module:Class" or "path/to/file.py:Class"; several are allowed',
    )
    parser.add_argument("--split", help="which split to play (test, where there are splits)")
    add_set(parser)


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
    add("--max-tokens", type=at_least(1), default=64, metavar="N", help="per message (64)")
    add("--max-turns", type=at_least(1), metavar="N", help="per episode (the environment's limit)")
    add("--max-context", type=at_least(1), metavar="N", help="tokens (what the model can take)")
    add(
        "--memory",
        nargs="+",
        default=["full"],
        metavar=("NAME", "KEY=VALUE"),
        help="what a policy is shown of its past, with the options of a run file's [memory] (full)",
    )
    add("--retries", type=at_least(0), default=1, help="after a failure of ours (1)")
    add("--concurrency", type=at_least(1), default=64, help="episodes at once (64)")
    add("--device", default="cpu", help="where a checkpoint runs (cpu)")
    add("--threads", type=at_least(0), default=0, help="of torch; 0 is torch's choice (0)")


def load_player(name: str, device: str = "cpu", threads: int = 0) -> Player:
    """A checkpoint folder, or one of `expert:STYLE`, `random`, `silent`.

    Raises `UserError` that says which of the two went wrong.
    """
    if name.partition(":")[0] in SCRIPTED and not Path(name).is_dir():
        return _scripted(name)
    if not Path(name).exists():
        known = ["expert:optimal", "expert:hasty", "random", "silent"]
        raise UnknownName("policy", name, known, "Or give a checkpoint folder that exists.")
    return _checkpoint(name, device, threads)


def how(args: argparse.Namespace, player: Player, world: World) -> Rollout:
    """The rollout that the options of `add_play` describe."""
    from foldgym.agents.rollout import Limits, Rollout
    from foldgym.config import parse_memory, plug
    from foldgym.memory import MEMORIES
    from foldgym.types import Budget, Sampling

    section = parse_memory(args.memory[0], settings(args.memory[1:], "--memory"))
    asked = section.max_context if "max_context" in section.model_fields_set else _LIMITLESS
    context = min(asked, args.max_context or _LIMITLESS, player.max_context)
    reserve = section.reserve if "reserve" in section.model_fields_set else args.max_tokens
    return Rollout(
        player.renderer,
        plug("memory", section, MEMORIES, "--memory"),
        Sampling(args.temperature, args.max_tokens),
        Budget(context, min(reserve, context - 1), section.soft, section.overflow),
        Limits(args.max_turns or world.max_turns),
        args.retries,
        args.concurrency,
    )


def open_world(args: argparse.Namespace) -> World:
    """The environments of `add_world`, each made once so that mistakes show before anything runs.

    Without `--split`, environments that have splits play "test".
    """
    return make_world(args.env, settings(args.set), args.split)


def make_world(names: Sequence[str], given: Mapping[str, Any], split: str | None) -> World:
    """The same for names, keyword arguments and a split; "" leaves the split as it is."""
    from foldgym.envs.registry import make, spec

    specs: dict[str, EnvSpec] = {}
    kwargs: dict[str, Mapping[str, Any]] = {}
    experts: dict[str, tuple[str, ...]] = {}
    for name in names:
        specs[name] = spec(name)
        kwargs[name] = {**given, "split": split} if split else given
        if split is None and "split" not in given:
            kwargs[name] = _held_out(name, given)
        env = make(name, **kwargs[name])
        experts[name] = env.experts
        env.close()
    return World(specs, kwargs, experts)


def _held_out(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """With split "test", if the environment takes a split at all."""
    from foldgym.envs.registry import make

    try:
        make(name, **given, split="test").close()
    except UnknownName as problem:
        if problem.name != "split":
            raise
        return given
    return {**given, "split": "test"}


def _scripted(name: str) -> Player:
    from foldgym.agents.engines.scripted import scripted_policy
    from foldgym.agents.renderers import CompactRenderer
    from foldgym.testing.doubles import ByteTokenizer

    return Player(name, scripted_policy(name), CompactRenderer(ByteTokenizer()), _LIMITLESS)


def _checkpoint(name: str, device: str, threads: int) -> Player:
    from foldgym.config import PolicySection

    try:
        import torch

        from foldgym.trainers.wiring import load_actor
    except ModuleNotFoundError as problem:
        raise MissingExtra(f"playing the checkpoint {name}", "train") from problem
    if device != "cpu" and not torch.cuda.is_available():
        raise UserError(f"--device {device}: torch sees no GPU here; use --device cpu")
    actor = load_actor(PolicySection(path=name, device=device, threads=threads))
    context = int(min(actor.policy.max_positions, _LIMITLESS))
    return Player(name, actor.policy, actor.renderer, context)


def unique(names: Sequence[str]) -> list[str]:
    """Labels that differ even when two policies have the same name."""
    return [f"{name} #{i + 1}" if names.count(name) > 1 else name for i, name in enumerate(names)]
