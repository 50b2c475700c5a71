"""One episode, step by step: a person types the actions, or watches a policy."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from foldgym import console
from foldgym.agents.scaffolds.around import Around
from foldgym.agents.tasks import run_to_end
from foldgym.cli.options import settings, transforms, write_json
from foldgym.errors import DataError
from foldgym.seeding import generator
from foldgym.types import (
    EnvHandle,
    Image,
    Json,
    Message,
    Observation,
    Opening,
    Step,
    Trajectory,
)

if TYPE_CHECKING:
    from foldgym.envs.base import Env

_HELP = "Type a tool call, or text; :hint shows an expert's move, :quit ends the episode."


def by_person(args: argparse.Namespace, env: Env) -> int:
    """Reads actions from stdin until the episode or the input ends. Facts are printed last."""
    from foldgym.tools import format_call, usage

    quiet = args.json is not None
    album = Album(args.screenshots)
    try:
        observation, _ = env.reset(seed=args.seed)
        if not quiet:
            for tool in env.tools:
                console.say(f"tool: {usage(tool)}")
            console.say(_HELP)
            _print(observation, 0.0, album)
        turn, over = 0, False
        while not over:
            action = _read(turn)
            if action is None or action.strip() == ":quit":
                break
            if action.strip() == ":hint":
                _hint(env, args.seed, turn, format_call)
                continue
            turn += 1
            observation, reward, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            if not quiet:
                _print(observation, reward, album)
        facts = env.measure()
    finally:
        env.close()
    if write_json(args.json, {"env": args.env, "seed": args.seed, "facts": facts}):
        _print_facts(facts)
    return 0


def by_policy(args: argparse.Namespace) -> int:
    """Watches a scripted policy or a checkpoint; with --json prints the trajectory."""
    from foldgym.agents.cast import Cast
    from foldgym.agents.rollout import Episode, play
    from foldgym.cli import chat_player
    from foldgym.cli.players import how, load_player, make_world
    from foldgym.errors import UserError
    from foldgym.records import to_table
    from foldgym.types import Request

    world = make_world([args.env], settings(args.set), "", transforms(args.transform))
    world.check(args.policy)
    player = load_player(args.policy, chat=chat_player.section(args, args.policy, args.aux))
    request = Request(args.env, args.seed)
    handle = world.open_env(request)
    env = handle if args.json is not None else Narrated(handle, args.pause, Album(args.screenshots))
    setting = how(args, player, world)

    async def episode() -> Trajectory:
        cast = Cast(player.policy, args.seed, env, setting.aux)
        try:
            seat = Episode(request, 0, 0, args.seed)
            return await play(env, cast, setting, seat)
        finally:
            cast.close()

    trajectory = run_to_end(episode())
    if trajectory.failed:
        raise UserError(f"{args.env} failed during play: {trajectory.error}")
    if write_json(args.json, to_table(trajectory)):
        console.say(trajectory.stop.sentence)
        _print_facts(trajectory.facts)
        chat_player.show(player.policy)
    return 0


@dataclass(slots=True)
class Album:
    """A folder for the pictures of an episode: `000.png` is of the question. None: no folder."""

    folder: str | None
    count: int = 0

    def keep(self, message: Message) -> list[str]:
        """Save a message's pictures and say where. Raises `DataError` if that cannot be done."""
        if not self.folder or isinstance(message.content, str):
            return []
        saved: list[str] = []
        for part in message.content:
            if isinstance(part, Image):
                kind = part.media_type.partition("/")[2]
                path = Path(self.folder) / f"{self.count:03}.{kind}"
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(part.data)
                except OSError as problem:
                    raise DataError(f"{path}: {problem.strerror}") from None
                self.count += 1
                saved.append(str(path))
        return saved


class Narrated(Around):
    """An environment whose episode is printed as it happens."""

    def __init__(self, inner: EnvHandle, pause: bool, album: Album) -> None:
        super().__init__(inner)
        self.pause, self.album = pause, album

    async def reset(self, seed: int, options: Mapping[str, Json]) -> Opening:
        """Prints the question."""
        opening = await self.inner.reset(seed, options)
        _print(opening.task.prompt, 0.0, self.album)
        return opening

    async def step(self, action: Message) -> Step:
        """Prints the action, and what came back."""
        if self.pause and sys.stdin.isatty():
            await asyncio.to_thread(input, "[Enter]")
        calls = [f"{call.name} {call.arguments}" for call in action.tool_calls]
        console.say(f"> {' ; '.join([*filter(None, [action.text]), *calls])}")
        step = await self.inner.step(action)
        _print(step.observation, step.reward, self.album)
        return step


def _read(turn: int) -> str | None:
    """One line of input; None at its end."""
    if sys.stdin.isatty():
        sys.stdout.write(f"[{turn + 1}] > ")
        sys.stdout.flush()
    line = sys.stdin.readline()
    return line.rstrip("\n") if line else None


def _hint(env: Env, seed: int, turn: int, format_call: Callable[..., str]) -> None:
    if not env.experts:
        console.note("this environment has no expert to ask")
        return
    move = env.expert(env.experts[0], generator(seed, "hint", turn))
    if not isinstance(move, str):
        calls = [format_call(call, env.tools) for call in move.tool_calls]
        move = " ; ".join(calls) or move.text
    console.note(f"hint: {move}")


def _print(observation: Observation, reward: float, album: Album) -> None:
    for message in observation:
        console.say(f"[{message.role}] {message.text}")
        for path in album.keep(message):
            console.say(f"(picture: {path})")
    if reward:
        console.say(f"(reward {reward:g})")


def _print_facts(facts: Mapping[str, Json]) -> None:
    console.say("facts: " + ", ".join(f"{name} = {value!r}" for name, value in facts.items()))
