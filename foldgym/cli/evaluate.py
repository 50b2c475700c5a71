"""`foldgym eval` and `foldgym compare`: policies on held-out tasks, with intervals."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from foldgym import console
from foldgym.cli import chat_player, engine_player, memory_report, stores
from foldgym.cli.options import add_json, at_least, write_json
from foldgym.cli.players import (
    Player,
    World,
    add_play,
    add_world,
    how,
    load_player,
    open_world,
    unique,
)
from foldgym.errors import ConfigError

if TYPE_CHECKING:
    from foldgym.agents.evaluate import Comparison, EnvReport, Report
    from foldgym.agents.statistics import Estimate
    from foldgym.types import Group, Json, Request


def run_eval(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Measures one policy."""
    parser.add_argument(
        "--policy",
        required=True,
        metavar="P",
        help="a checkpoint folder, expert:STYLE, random, silent, reader or chat:MODEL",
    )
    _shared(parser)
    memory_report.add_memory_report(parser)
    stores.add_store(parser)
    parser.add_argument("--trajectories", metavar="FILE", help="also write all episodes as JSONL")
    args = parser.parse_args(words)
    world = open_world(args)
    world.check(args.policy)
    chat = chat_player.section(args, args.policy, args.aux)
    engine = engine_player.section(args, args.policy)
    player = load_player(args.policy, args.device, args.threads, chat, engine)
    report_wanted = memory_report.wanted(args, player)
    stores.check(args, report=report_wanted)
    if report_wanted:
        return memory_report.run(args, player, world)
    if args.stream is not None:
        return _stream(args, player, world)
    report = _play(args, player, world, player.name)
    if write_json(args.json, report.to_table() | _tables(player)):
        for env in report.envs.values():
            _show(report.policy, env)
        _show_player(player)
    return 0


def _stream(args: argparse.Namespace, player: Player, world: World) -> int:
    """Tasks one by one, with what the earlier ones left."""
    from foldgym.agents.evaluate import report

    way = how(args, player, world)
    store = stores.store_of(args, player, way)
    if store is None:
        raise ConfigError("--stream: has no effect: this memory keeps nothing; remove it")
    found, groups = stores.play(args, player, world, way, store, _requests(args, world))
    _write(args, groups)
    played = report(groups, args.seed, name=player.name)
    table = {**played.to_table(), "stream": found.to_table(), **_tables(player)}
    if write_json(args.json, table):
        for env in played.envs.values():
            _show(played.policy, env)
        _show_player(player)
        stores.show(found)
    return 0


def run_compare(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """Plays two policies on the same tasks; returns 1 if the second is significantly worse."""
    parser.description = (
        "Compare two policies on the same tasks: the difference is B - A, with an interval. "
        "Exit code 1 if B is significantly worse somewhere."
    )
    parser.add_argument("a", metavar="A", help="as for `foldgym eval --policy`")
    parser.add_argument("b", metavar="B", help="the policy that should be better")
    _shared(parser)
    args = parser.parse_args(words)
    from foldgym.agents.evaluate import compare

    world = open_world(args)
    for name in (args.a, args.b):
        world.check(name)
    chat = chat_player.section(args, args.a, args.b, args.aux)
    engine = engine_player.section(args, args.a, args.b)
    players = [
        load_player(name, args.device, args.threads, chat, engine) for name in (args.a, args.b)
    ]
    labels = unique([args.a, args.b])
    reports = [
        _play(args, player, world, label) for player, label in zip(players, labels, strict=True)
    ]
    comparison = compare(reports[0], reports[1], args.seed)
    worse = any(each.high < 0 for each in comparison.envs.values())
    pairs = zip(reports, players, strict=True)
    tables = [report.to_table() | _tables(player) for report, player in pairs]
    if write_json(args.json, comparison.to_table() | {"reports": tables}):
        _show_comparison(comparison, reports)
        for player in players:
            _show_player(player)
    return int(worse)


def _shared(parser: argparse.ArgumentParser) -> None:
    add_world(parser)
    parser.add_argument(
        "--episodes", type=at_least(1), default=256, metavar="N", help="tasks (256)"
    )
    parser.add_argument(
        "--samples", type=at_least(1), default=1, metavar="K", help="episodes of each task (1)"
    )
    add_play(parser, sampled=1.0)
    add_json(parser)


def _play(args: argparse.Namespace, player: Player, world: World, label: str) -> Report:
    from foldgym.agents.evaluate import evaluate
    from foldgym.rewards import make_rubric

    requests, way = _requests(args, world), how(args, player, world)
    total = sum(request.n for request in requests)
    with console.progress(total, f"playing {label}") as advance:
        report, groups = engine_player.played(
            player,
            lambda policy: evaluate(
                requests,
                world.open_env,
                policy,
                way,
                args.seed,
                make_rubric().score,
                name=label,
                progress=lambda trajectory: advance(int(not trajectory.failed)),
            ),
        )
    _write(args, groups)
    return report


def _tables(player: Player) -> dict[str, Json]:
    """What is known of who answered, beside the report."""
    return chat_player.tables(player.policy) | engine_player.tables(player)


def _show_player(player: Player) -> None:
    chat_player.show(player.policy)
    engine_player.show(player)


def _requests(args: argparse.Namespace, world: World) -> list[Request]:
    from foldgym.agents.evaluate import tasks

    return [
        request
        for env in world.specs
        for request in tasks(env, args.episodes, args.seed, args.samples)
    ]


def _write(args: argparse.Namespace, groups: list[Group]) -> None:
    """All episodes, if `--trajectories` asks for them."""
    if not getattr(args, "trajectories", None):
        return
    from foldgym.records import JsonlWriter, to_table

    with JsonlWriter(args.trajectories) as writer:
        for group in groups:
            for trajectory, reward in zip(group.trajectories, group.rewards, strict=True):
                writer.write(to_table(trajectory, reward))
            for trajectory in group.failures:
                writer.write(to_table(trajectory))


def _span(estimate: Estimate) -> str:
    if estimate.n < 2:
        return f"{estimate.mean:.3f}  (one task: no interval)"
    return f"{estimate.mean:.3f}  [{estimate.low:.3f}, {estimate.high:.3f}]"


def _show(policy: str, env: EnvReport) -> None:
    sampled = "" if env.samples == 1 else f" x {env.samples} samples"
    rows: list[tuple[str, str]] = [
        ("success", f"{_span(env.success)}  ({env.success.method})"),
        ("score", _span(env.score)),
        ("turns", _span(env.turns)),
        ("tokens sampled", f"{env.tokens['sampled']:.1f} an episode"),
        ("seconds", f"{env.seconds:.3f} an episode"),
        ("stops", ", ".join(f"{stop} {count}" for stop, count in env.stops.items())),
        ("failures of ours", _failures(env)),
    ]
    rows += [(f"pass@{k}", f"{value:.3f}") for k, value in env.pass_at.items()]
    rows += [(f"pass^{k}", f"{value:.3f}") for k, value in env.pass_hat.items()]
    rows += [
        (f"success, {fact} = {value}", f"{_span(estimate)}  ({estimate.n} tasks)")
        for fact, values in env.by.items()
        for value, estimate in values.items()
    ]
    title = f"{policy} on {env.env}: {env.tasks} tasks{sampled}, intervals at 95 %"
    console.table(title, ("measure", "value"), rows)


def _failures(env: EnvReport) -> str:
    if not env.failures:
        return "none"
    kinds = ", ".join(f"{kind} {count}" for kind, count in env.errors.items())
    return f"{kinds}; {env.lost} of {env.lost + env.episodes} episodes lost, none counted as 0"


def _show_comparison(comparison: Comparison, reports: list[Report]) -> None:
    rows: list[tuple[object, ...]] = []
    for env, difference in comparison.envs.items():
        a, b = (report.envs[env].success.mean for report in reports)
        span = f"[{difference.low:+.3f}, {difference.high:+.3f}]"
        verdict = "no clear difference"
        if difference.significant:
            verdict = "B is better" if difference.mean > 0 else "B is worse"
        rows.append((env, a, b, f"{difference.mean:+.3f}", span, difference.n, verdict))
    console.table(
        f"A = {comparison.a}, B = {comparison.b}: success on the same tasks",
        ("environment", "A", "B", "B - A", "95 % interval", "tasks", "verdict"),
        rows,
    )
    for env, difference in comparison.envs.items():
        exact = "" if difference.p is None else f", McNemar exact p = {difference.p:.3g}"
        console.say(
            f"{env}: B won {difference.wins} and lost {difference.losses} tasks; "
            f"interval by {difference.method}{exact}"
        )
