"""`foldgym eval --memory A,B,C --context 256,512`: memories against none and against an oracle."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from foldgym import console
from foldgym.cli import chat_player, engine_player
from foldgym.cli.memories import Choice, chosen
from foldgym.cli.options import at_least, write_json
from foldgym.cli.players import LIMITLESS, Player, World, rollout_with
from foldgym.config import MemorySection, given
from foldgym.errors import ConfigError, DataError
from foldgym.types import Json, Policy, Scorer

if TYPE_CHECKING:
    from foldgym.agents.memory_report import Cell, MemoryReport
    from foldgym.agents.rollout import Rollout
    from foldgym.agents.statistics import Difference, Estimate
    from foldgym.types import Group

SCHEMA = 1
PROBES, DRIFT = 4, 8


def add_memory_report(parser: argparse.ArgumentParser) -> None:
    """`--context`, `--output`, `--probes`, `--drift`: each asks for the report on memories."""
    what = "one of these, or several memories, asks for a report on what memories gain and lose"
    add = parser.add_argument_group("memories compared", what).add_argument
    add("--context", nargs="+", metavar="N", help="context budgets in tokens, as 256,512")
    add("--output", metavar="DIR", help="write report.json and a picture of each environment")
    asked = f"questions an episode about what was said, and again after each fold ({PROBES})"
    add("--probes", type=at_least(0), metavar="N", help=asked)
    drifted = f"episodes in which drift is measured; needs a checkpoint ({DRIFT})"
    add("--drift", type=at_least(0), metavar="N", help=drifted)


def wanted(args: argparse.Namespace, player: Player) -> bool:
    """Whether the command line asks for the report on memories."""
    options = (args.context, args.output, args.probes, args.drift)
    several = len(chosen(args.memory or (), player.trained)) > 1
    return several or any(option is not None for option in options)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a command line asks for, checked before anything is played."""

    choices: Sequence[Choice]
    rollouts: Sequence[Rollout]
    contexts: Sequence[int]
    probes: int
    drift: int
    scorer: Scorer | None


def run(args: argparse.Namespace, player: Player, world: World) -> int:
    """Plays every memory in every context; shows what each gained, lost and cost."""
    from foldgym.cli import memory_picture
    from foldgym.records import JsonlWriter

    plan = _plan(args, player, world)
    if args.output is not None:
        memory_picture.check()
        _make_folder(Path(args.output))
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(JsonlWriter(args.trajectories)) if args.trajectories else None

        async def play(policy: Policy) -> list[MemoryReport]:
            return [
                await _play(env, args, replace(player, policy=policy), world, plan, writer)
                for env in world.specs
            ]

        reports = engine_player.played(player, play)
    table = _table(args, player, plan, reports)
    if args.output is not None:
        folder = Path(args.output)
        write_json(str(folder / "report.json"), table)
        for report in reports:
            name = report.env.rpartition("/")[2].partition(":")[2] or report.env.rpartition("/")[2]
            picture = f"memory-{name}.png" if len(reports) > 1 else "memory.png"
            memory_picture.draw(report, folder / picture, f"{player.name} on {report.env}")
    if write_json(args.json, table):
        for report in reports:
            _show(report, args, player)
        chat_player.show(player.policy)
        engine_player.show(player)
        if args.output is not None:
            console.note(f"report.json and the picture are in {args.output}")
    return 0


def _make_folder(folder: Path) -> None:
    """Before anything is played, so that no report is lost for want of a place."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(f"--output {folder}: {problem.strerror}") from None


def _plan(args: argparse.Namespace, player: Player, world: World) -> _Plan:
    default = player.trained.memory if player.trained else MemorySection()
    choices = chosen(args.memory or (), player.trained) or [Choice(default.use, default)]
    for choice in choices:
        if args.memory and choice.label != "trained" and given(choice.section, "max_context"):
            raise ConfigError(f"--memory {choice.label}: contexts to compare come from --context")
    if args.max_context:
        raise ConfigError("--max-context: contexts to compare come from --context")
    contexts = _contexts(args.context or ())
    if not contexts:
        if player.max_context == LIMITLESS:
            raise ConfigError(f"--context: say what {player.name} may be shown, as 256,512 tokens")
        contexts = [min(default.max_context, player.max_context)]
    if contexts[-1] > player.max_context:
        limit = f"{player.name} takes {player.max_context} tokens at most"
        raise ConfigError(f"--context {contexts[-1]}: {limit}")
    rollouts = [rollout_with(each.section, args, player, world) for each in choices]
    for choice in choices:
        if given(choice.section, "reserve") and choice.section.reserve >= contexts[0]:
            left = f"reserve={choice.section.reserve} leaves nothing of {contexts[0]} tokens"
            raise ConfigError(f"--memory {choice.label}: {left}")
    expert = player.name.partition(":")[0] == "expert"
    if args.probes and expert:
        raise ConfigError(f"--probes {args.probes}: {player.name} acts and answers no questions")
    probes = args.probes if args.probes is not None else 0 if expert else PROBES
    scorer = player.policy if isinstance(player.policy, Scorer) else None
    if args.drift and scorer is None:
        raise ConfigError(f"--drift {args.drift}: {player.name} has no probabilities to compare")
    drift = args.drift if args.drift is not None else DRIFT
    return _Plan(choices, rollouts, contexts, probes, drift, scorer)


def _contexts(words: Sequence[str]) -> list[int]:
    """Ascending token counts; each once."""
    read = at_least(2)
    try:
        found = [read(part) for word in words for part in word.split(",")]
    except argparse.ArgumentTypeError as problem:
        raise ConfigError(f"--context {' '.join(words)}: {problem}") from None
    if len(set(found)) < len(found):
        raise ConfigError(f"--context {' '.join(words)}: one of them stands there twice")
    return sorted(found)


async def _play(
    env: str, args: argparse.Namespace, player: Player, world: World, plan: _Plan, writer: object
) -> MemoryReport:
    from foldgym.agents.evaluate import tasks
    from foldgym.agents.memory_report import Contestant, Trial, evaluate_memories
    from foldgym.rewards import make_rubric

    contestants = [
        Contestant(choice.label, how.memory, how.budget)
        for choice, how in zip(plan.choices, plan.rollouts, strict=True)
    ]
    requests = tasks(env, args.episodes, args.seed, args.samples)
    cells = 1 + len(plan.contexts) * (1 + len(contestants))
    total = cells * args.episodes * args.samples
    with console.progress(total, f"playing {player.name} on {env}") as advance:
        trial = Trial(
            requests,
            world.open_env,
            player.policy,
            plan.rollouts[0],
            make_rubric().score,
            args.seed,
            player.max_context,
            plan.probes,
            plan.scorer,
            plan.drift,
            progress=lambda trajectory: advance(int(not trajectory.failed)),
            keep=_keeper(writer),
        )
        return await evaluate_memories(trial, contestants, plan.contexts)


def _keeper(writer: object) -> Callable[[str, int, Sequence[Group]], None] | None:
    from foldgym.records import JsonlWriter, to_table

    if not isinstance(writer, JsonlWriter):
        return None

    def keep(setting: str, context: int, groups: Sequence[Group]) -> None:
        notes: dict[str, Json] = {"setting": setting, "context": context}
        for group in groups:
            for trajectory, reward in zip(group.trajectories, group.rewards, strict=True):
                writer.write(to_table(trajectory, reward, **notes))
            for trajectory in group.failures:
                writer.write(to_table(trajectory, **notes))

    return keep


def _table(
    args: argparse.Namespace, player: Player, plan: _Plan, reports: Sequence[MemoryReport]
) -> dict[str, Json]:
    return {
        "schema": SCHEMA,
        "policy": player.name,
        "seed": args.seed,
        "tasks": args.episodes,
        "samples": args.samples,
        "contexts": list(plan.contexts),
        "memories": {
            each.label: {"use": each.section.use, "options": each.section.kwargs}
            for each in plan.choices
        },
        "envs": {report.env: report.to_table() for report in reports},
        **engine_player.tables(player),
    }


# ---------------------------------------------------------------- what a person sees

_COLUMNS = (
    *("memory", "context", "success", "gain", "loss", "recall", "kept"),
    *("prompt tokens", "peak", "folds", "rewrite", "reuse"),
)


def _show(report: MemoryReport, args: argparse.Namespace, player: Player) -> None:
    tasks = f"{args.episodes} tasks" + (f" x {args.samples}" if args.samples > 1 else "")
    title = f"{player.name} on {report.env}: {tasks}, intervals at 95 %"
    console.table(title, _COLUMNS, [_row(cell) for cell in report.cells])
    if report.oracle is None:
        console.say(f"{report.env} does not say what its tasks rest on: no oracle, no loss")
    for cell in report.cells:
        if cell.drift and cell.drift["folds"]:
            before, after = cell.drift["before"], cell.drift["after"]
            console.say(
                f"{cell.setting} in {cell.context}: drift {before:.3f} before a fold and "
                f"{after:.3f} after it, in {cell.drift['folds']} folds"
            )


def _row(cell: Cell) -> tuple[object, ...]:
    costs = cell.costs
    return (
        cell.setting,
        cell.context if cell.context < LIMITLESS else None,
        _span(cell.report.success),
        _signed(cell.gain),
        _signed(cell.loss),
        cell.recall and _span(cell.recall.rate),
        cell.kept and f"{cell.kept.mean:.3f}",
        round(costs["prompt_tokens"]) if costs else None,
        round(costs["context_peak"]) if costs else None,
        f"{costs['shortenings']:.1f}" if costs else None,
        f"{costs['rewrite_ratio']:.2f}" if costs else None,
        f"{costs['reuse']:.0%}" if costs else None,
    )


def _span(estimate: Estimate) -> str:
    if estimate.n < 2:
        return f"{estimate.mean:.3f}"
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def _signed(difference: Difference | None) -> str | None:
    if difference is None:
        return None
    if difference.n < 2:
        return f"{difference.mean:+.3f}"
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"
