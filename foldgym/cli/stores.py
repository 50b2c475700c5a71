"""`foldgym eval --store FILE` and `--stream`: what a memory keeps from task to task."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldgym import console
from foldgym.cli.engine_player import played
from foldgym.cli.options import at_least
from foldgym.errors import ConfigError, DataError

if TYPE_CHECKING:
    from foldgym.agents.rollout import Rollout
    from foldgym.agents.stream import Stream
    from foldgym.cli.players import Player, World
    from foldgym.memory import Store
    from foldgym.types import Group, Request

BINS = 10


def add_store(parser: argparse.ArgumentParser) -> None:
    """`--store`, `--stream`, `--orders`, `--save-store`."""
    what = "for memories that keep something from episode to episode"
    add = parser.add_argument_group("store", what).add_argument
    add("--store", metavar="FILE", help="what is kept to begin with (as trained, or nothing)")
    add(
        "--stream",
        nargs="?",
        const="all",
        choices=("all", "majority"),
        help="play the tasks one by one, each with what the earlier ones left; who writes of the "
        "samples of a task (all)",
    )
    add("--orders", type=at_least(1), metavar="N", help="orders of a stream's tasks (1)")
    add("--save-store", metavar="FILE", help="write what is kept after the stream's first order")


def store_of(args: argparse.Namespace, player: Player, how: Rollout) -> Store | None:
    """The store that an evaluation begins with; None for a memory that keeps nothing.

    Raises `ConfigError` for options without effect, `DataError` for the file.
    """
    from foldgym.memory import Store

    path, stream = getattr(args, "store", None), getattr(args, "stream", None)
    if not (getattr(how.memory(), "keeps", False) or getattr(how.scaffold(), "keeps", False)):
        flag = "--store" if path else "--stream" if stream else ""
        if flag:
            raise ConfigError(f"{flag}: has no effect: this memory keeps nothing; remove it")
        return None
    as_trained = {"retire", "max_items", "max_chars"}
    options = player.trained.store.model_dump(include=as_trained) if player.trained else {}
    store = Store(stream or "all", frozen=stream is None, **options)
    if path:
        store.read(path)
    elif (left := _trained(player)) is not None:
        store.load(left)
    elif stream is None:
        console.note("nothing is kept yet; name what an earlier run left with --store FILE")
    return store


def check(args: argparse.Namespace, *, report: bool) -> None:
    """Raises `ConfigError` for options that need another, or do not go with the memory report."""
    if report and (args.stream or args.store):
        flag = "--stream" if args.stream else "--store"
        raise ConfigError(
            f"{flag}: has no effect on the report about memories; evaluate one memory"
        )
    if args.stream is None:
        for flag, value in (("--orders", args.orders), ("--save-store", args.save_store)):
            if value is not None:
                raise ConfigError(f"{flag}: has no effect without --stream")


def _trained(player: Player) -> dict[str, Any] | None:
    """What the run kept when it wrote this checkpoint."""
    if player.trained is None:
        return None
    from foldgym.trainers.wiring import policy_folder

    file = policy_folder(player.name) / "state.json"
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("store")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise DataError(f"{file} cannot be read: {problem}") from None


def play(
    args: argparse.Namespace,
    player: Player,
    world: World,
    how: Rollout,
    store: Store,
    requests: list[Request],
) -> tuple[Stream, list[Group]]:
    """The stream that the options describe."""
    from foldgym.agents.stream import stream
    from foldgym.rewards import make_rubric

    orders = args.orders or 1
    total = orders * sum(request.n for request in requests)
    with console.progress(total, f"playing {player.name}") as advance:
        found = played(
            player,
            lambda policy: stream(
                requests,
                world.open_env,
                policy,
                how,
                args.seed,
                make_rubric().score,
                store,
                orders=orders,
                progress=lambda trajectory: advance(int(not trajectory.failed)),
            ),
        )
    if args.save_store:
        store.save(Path(args.save_store))
    return found


def show(found: Stream) -> None:
    """Success by position, in at most ten steps."""
    size = len(found.orders[0])
    bins = min(BINS, size)
    rows: list[tuple[str, float | None]] = []
    for k in range(bins):
        first, last = round(k * size / bins), round((k + 1) * size / bins)
        rows.append((f"{first + 1} .. {last}", found.at(k / bins, (k + 1) / bins)))
    rows += [("first half", found.at(0, 0.5)), ("second half", found.at(0.5, 1))]
    orders = len(found.orders)
    kept = ", ".join(map(str, found.items))
    console.table(
        f"success by position, {orders} order{'s' * (orders > 1)}; items kept at the end: {kept}",
        ("tasks", "success"),
        rows,
    )
