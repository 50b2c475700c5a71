"""`foldgym demo`: from random weights to an agent that searches better than its teacher.

Clones a hasty expert on two worlds, trains with multi-turn GRPO, and measures before and after on
held-out tasks: invented worlds whose names were never seen, and symbols of Python's standard
library that were kept apart. Which options the demo uses stands in `demo_clone.toml` and
`demo_train.toml` beside this file.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foldgym import console
from foldgym.agents.tasks import run_to_end
from foldgym.cli.options import at_least, write_json
from foldgym.errors import DataError, MissingExtra

if TYPE_CHECKING:
    from foldgym.agents.evaluate import Report
    from foldgym.config import TrainRun
    from foldgym.trainers.wiring import Actor, Worlds

WORLDS = {"foldgym/FictionalSearch-v0": "fictional", "foldgym/PyDocsSearch-v0": "pydocs"}
TASKS, SMOKE_TASKS = 512, 24  # held-out tasks per world and measurement
# A smoke run shows that everything works together; it is too short to promise a gain.
SMOKE_CLONE = ("sft.steps=60", "tokenizer.episodes=300")
SMOKE_TRAIN = ("train.steps=4", "train.checkpoint_every=2", "train.eval_every=4")


def run_demo(parser: argparse.ArgumentParser, words: list[str]) -> int:
    """The main job, end to end; its results are in the output folder."""
    parser.add_argument("--seed", type=int, default=0, help="of everything (0)")
    parser.add_argument("--output", default="runs/demo", help="folder of the results (runs/demo)")
    parser.add_argument("--smoke", action="store_true", help="a short run of about a minute")
    parser.add_argument("--threads", type=at_least(1), default=2, help="of torch (2)")
    args = parser.parse_args(words)
    try:
        import torch

        from foldgym.config import SftRun, TrainRun, parse
        from foldgym.trainers import sft, train
        from foldgym.trainers.wiring import worlds
    except ModuleNotFoundError as problem:
        raise MissingExtra("foldgym demo", "train") from problem
    from foldgym.cli.train import watching

    started = time.perf_counter()
    torch.set_num_threads(args.threads)
    folder = vacate(Path(args.output))
    clone = parse(
        SftRun,
        recipe("demo_clone.toml"),
        [
            f"seed={args.seed}",
            f"output={json.dumps(str(folder / 'clone'))}",
            *(SMOKE_CLONE if args.smoke else ()),
        ],
    )
    run = parse(
        TrainRun,
        recipe("demo_train.toml"),
        [
            f"seed={args.seed}",
            f"output={json.dumps(str(folder))}",
            f"policy.path={json.dumps(clone.output)}",
            *(SMOKE_TRAIN if args.smoke else ()),
        ],
    )
    tasks = SMOKE_TASKS if args.smoke else TASKS
    held_out = worlds(
        [env.model_copy(update={"kwargs": {**env.kwargs, "split": "test"}}) for env in run.envs]
    )

    with watching(clone.sft.steps, "1/4 cloning a hasty expert") as watch:
        sft.sft(clone, watch)
    before = measure(run, held_out, clone.output, tasks, args.seed, "2/4 before")
    with watching(run.train.steps, "3/4 training with GRPO") as watch:
        train.train(run, watch)
    after = measure(run, held_out, run.output, tasks, args.seed, "4/4 after")

    seconds = time.perf_counter() - started
    report = summarise(before, after, seconds, args.seed, smoke=args.smoke)
    write_json(str(folder / "report.json"), report)
    draw(folder, report, run.train.steps)
    show(report, folder)
    return 0


def recipe(name: str) -> str:
    """One of the demo's run files, as it ships with the package."""
    return (files("foldgym.cli") / name).read_text(encoding="utf-8")


def vacate(folder: Path) -> Path:
    """The output folder, free to use: results of an earlier demo are moved aside, never deleted."""
    if folder.exists() and any(folder.iterdir()):
        taken = 1
        while (aside := folder.with_name(f"{folder.name}.{taken}")).exists():
            taken += 1
        try:
            folder.rename(aside)
        except OSError as problem:
            raise DataError(f"cannot move {folder} to {aside}: {problem.strerror}") from None
        console.note(f"the results of an earlier demo are now in {aside}")
    return folder


def measure(
    run: TrainRun, held_out: Worlds, policy: str, tasks: int, seed: int, label: str
) -> dict[str, Report]:
    """Held-out reports of a policy: sampled at temperature 1, and greedy."""
    from foldgym.config import PolicySection
    from foldgym.trainers.wiring import load_actor

    actor = load_actor(PolicySection(path=policy))
    with console.progress(2 * tasks * len(held_out.weights), label) as advance:
        return {
            mode: _evaluated(run, held_out, actor, tasks, seed, temperature, advance)
            for mode, temperature in (("sampled", 1.0), ("greedy", 0.0))
        }


def _evaluated(
    run: TrainRun,
    held_out: Worlds,
    actor: Actor,
    count: int,
    seed: int,
    temperature: float,
    advance: Any,
) -> Report:
    from foldgym.agents.evaluate import evaluate, tasks
    from foldgym.rewards import make_rubric
    from foldgym.trainers.wiring import how_to_play

    section = run.rollout.model_copy(update={"temperature": temperature})
    how = how_to_play(section, run.memory, actor.renderer, held_out.max_turns, run.scaffold)
    requests = [request for env in held_out.weights for request in tasks(env, count, seed)]
    report, _ = run_to_end(
        evaluate(
            requests,
            held_out.open,
            actor.policy,
            how,
            seed,
            make_rubric(run.reward).score,
            progress=lambda trajectory: advance(int(not trajectory.failed)),
        )
    )
    return report


def summarise(
    before: dict[str, Report],
    after: dict[str, Report],
    seconds: float,
    seed: int,
    *,
    smoke: bool,
) -> dict[str, Any]:
    """The demo's `report.json`; `success` is sampled at temperature 1, with 95 % intervals."""
    from foldgym.agents.evaluate import compare

    difference = compare(before["sampled"], after["sampled"], seed).envs
    found: dict[str, Any] = {}
    for env, name in WORLDS.items():
        sides = {
            when: {
                "success": (sampled := reports["sampled"].envs[env]).success.mean,
                "low": sampled.success.low,
                "high": sampled.success.high,
                "n": sampled.episodes,
                "greedy": reports["greedy"].envs[env].success.mean,
                "turns": sampled.turns.mean,
                "by_hops": {
                    hops: {"success": each.mean, "n": each.n}
                    for hops, each in sampled.by.get("hops", {}).items()
                },
                "failures": sampled.failures,
                "stops": dict(sampled.stops),
            }
            for when, reports in (("before", before), ("after", after))
        }
        found[name] = {**sides, "difference": difference[env].to_table()}
    return {"worlds": found, "seconds": seconds, "seed": seed, "smoke": smoke}


def draw(folder: Path, report: dict[str, Any], steps: int) -> None:
    """The learning curve, with the held-out figures before and after."""
    from foldgym.trainers.plot import Mark, curve

    marks = [
        Mark(f"{name}, test", step, side["success"], side["low"], side["high"])
        for name, world in report["worlds"].items()
        for step, side in ((0, world["before"]), (steps, world["after"]))
    ]
    curve(folder / "metrics.jsonl", folder / "curve.png", marks)


def show(report: dict[str, Any], folder: Path) -> None:
    """The table that the demo ends with."""
    rows: list[tuple[str, ...]] = []
    for name, world in report["worlds"].items():
        before, after, gain = world["before"], world["after"], world["difference"]
        rows.append(
            (
                name,
                *(f"{s['success']:.3f} [{s['low']:.3f}, {s['high']:.3f}]" for s in (before, after)),
                f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]",
                f"{before['greedy']:.3f} -> {after['greedy']:.3f}",
                f"{before['turns']:.1f} -> {after['turns']:.1f}",
            )
        )
        for hops, each in after["by_hops"].items():
            was = before["by_hops"].get(hops, {"success": float("nan")})
            rows.append(
                (f"  {hops} hops", f"{was['success']:.3f}", f"{each['success']:.3f}", "", "", "")
            )
    count = report["worlds"]["fictional"]["after"]["n"]
    console.table(
        f"held-out success, sampled at temperature 1 (n = {count} a world, 95 % intervals)",
        ("world", "before", "after", "difference (paired)", "greedy", "turns"),
        rows,
    )
    if report["smoke"]:
        console.say("a smoke run shows that everything works; it is too short to promise a gain")
    console.say(f"{report['seconds']:.0f} seconds; everything is in {folder}")
    console.say(f"look at {folder / 'curve.png'}, {folder / 'report.json'}")
