"""`--engine vllm`: who samples in a checkpoint's place, started to play and stopped afterwards."""

from __future__ import annotations

import argparse
import atexit
import shutil
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, TypeVar

from foldgym import console
from foldgym.agents.tasks import run_to_end
from foldgym.cli.options import settings
from foldgym.errors import ConfigError, EngineDown, WeightsDiffer
from foldgym.types import Json, Policy

if TYPE_CHECKING:
    from foldgym.agents.engines.engine import Engine, Trainee
    from foldgym.cli.players import Player
    from foldgym.config import EngineSection

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Hired:
    """An engine that was not started yet, its files, and what it last said of itself."""

    use: str
    engine: Engine
    folder: Path
    drop: Callable[[], None]
    numbers: dict[str, float] = field(default_factory=dict[str, float])

    async def play(self, play: Callable[[Policy], Coroutine[Any, Any, T]]) -> T:
        """What `play` returns for the policy that the engine offers while it runs.

        Raises `EngineDown`, also for an engine that samples from another distribution.
        """
        try:
            await self.engine.start()
            try:
                found = await play(self.engine.judged)
                self.numbers.update(await self.engine.publish())  # nothing is new: only numbers
            finally:
                await self.engine.stop()
        except (EngineDown, WeightsDiffer) as problem:
            if any(self.folder.iterdir()):
                atexit.unregister(self.drop)  # the error names a log
            raise EngineDown(str(problem)) from problem
        self.drop()
        return found


def add_engine(parser: argparse.ArgumentParser) -> None:
    """`--engine NAME KEY=VALUE ...`."""
    parser.add_argument(
        "--engine",
        nargs="+",
        metavar=("NAME", "KEY=VALUE"),
        help="who samples for a checkpoint: torch (in this process), or vllm, with options as in "
        "a run file's [engine]; see docs/engines.md",
    )


def section(args: argparse.Namespace, *names: str) -> EngineSection | None:
    """What `--engine` says; None where it is not given.

    Raises `ConfigError` if it has no effect: for none of the policies `names`, or by an option.
    """
    from foldgym.cli.players import is_checkpoint
    from foldgym.config import parse_engine

    if not args.engine:
        return None
    found = parse_engine(args.engine[0], settings(args.engine[1:], "--engine"))
    if found.use == "scripted":
        raise ConfigError(
            "--engine scripted: has no effect: the checkpoint itself is measured; a script is "
            "measured with --policy expert, random or silent"
        )
    if not any(map(is_checkpoint, names)):
        raise ConfigError(
            f"--engine {found.use}: has no effect: no policy here is a checkpoint; remove it"
        )
    for option in ("sleep", "transfer"):
        if option in found.kwargs:
            raise ConfigError(
                f"--engine {option}: has no effect: nothing is learned here; remove it"
            )
    return found


def hire(
    section: EngineSection, make: Callable[[Trainee], Engine], trainee: Callable[[Path], Trainee]
) -> Hired:
    """The engine that `make` makes of a `trainee` whose files are in a folder of ours.

    Raises `ConfigError` for its options.
    """
    folder = Path(mkdtemp(prefix="foldgym-engine-"))
    drop = partial(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(drop)  # for whatever ends us before or while it plays
    try:
        return Hired(section.use, make(trainee(folder)), folder, drop)
    except ConfigError as problem:
        raise ConfigError(f"--engine {section.use}: {problem}") from None


def played(player: Player, play: Callable[[Policy], Coroutine[Any, Any, T]]) -> T:
    """What `play` returns for the player's policy, or for its engine, which runs meanwhile.

    Raises `EngineDown` if that does not start or stay up.
    """
    if player.hired is None:
        return run_to_end(play(player.policy))
    return run_to_end(player.hired.play(play))


def tables(player: Player) -> dict[str, Json]:
    """`{"engine": ...}` for a player with an engine, else nothing."""
    hired = player.hired
    return {} if hired is None else {"engine": {"use": hired.use, **hired.numbers}}


def show(player: Player) -> None:
    """A line about the engine, if the player has one."""
    if player.hired is None:
        return
    text = f"{player.name} was played by {player.hired.use}"
    numbers = player.hired.numbers
    if "push_gap_mean" in numbers:
        text += (
            f", whose log-probs of a probe differ from this process's by "
            f"{numbers['push_gap_mean']:.2g} on average and {numbers['push_gap_max']:.2g} at most"
        )
    if again := numbers.get("engine_restarts"):
        text += f"; it was started again {again:g} times"
    console.say(text)
