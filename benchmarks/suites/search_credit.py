"""Outcome, information gain or verdicts: GRPO, IGPO and ReSeek on the same searches.

    python -m benchmarks.suites.search_credit --jobs 2     # three seeds, two at a time
    python -m benchmarks.suites.search_credit --seed 3 --folder runs/search/seed-3
    python -m benchmarks.suites.search_credit --docs       # tables of the last result

Per seed, a model of random weights clones a hasty expert, then one that strays (for ReSeek, another
model clones experts who also judge their searches); then every method trains for the same
processor time, whatever its steps cost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "search_credit.json"
PAGE = ROOT / "docs" / "search_credit.md"
ENV = "foldgym/FictionalSearch-v0"
SEEDS, TASKS, SECONDS, EVERY = (0, 1, 2), 256, 50.0, 5
LONGER = {2: 800}  # steps of cloning where the check of IGPO refused what 500 had made
CLONES = {"grpo": "clone", "igpo": "clone", "reseek": "clone_reseek"}
BASES = {"clone": "base", "clone_reseek": "base_reseek"}
LABELS = {"grpo": "GRPO", "igpo": "IGPO", "reseek": "ReSeek"}
Table = dict[str, Any]


class Enough(Exception):
    """A method has had its processor time; its newest checkpoint is what counts."""


def play_seed(seed: int, folder: Path, seconds: float, small: bool = False) -> Table:
    """Both clones, then every method for `seconds` of the processor. `small` is for tests."""
    from foldgym.config import SftRun, load
    from foldgym.trainers.sft import sft

    clones: Table = {}
    for name in (*BASES.values(), *BASES):
        began = time.process_time()
        words = [f"seed={seed}", f'output="{folder / name}"', *(["sft.steps=2"] if small else [])]
        if name in BASES:
            words += [f'policy.path="{folder / BASES[name]}"']
            path = ROOT / "runs" / f"search_{name}.toml"
        else:
            words += ["tokenizer.episodes=20"] if small else []
            words += ['memory={use="reseek"}'] if name == "base_reseek" else []
            words += [f"sft.steps={LONGER[seed]}"] if seed in LONGER and not small else []
            path = ROOT / "runs" / "search_base.toml"
        sft(load(SftRun, path, words))
        clones[name] = {"cpu_seconds": time.process_time() - began}
    methods = {name: play_method(name, seed, folder, seconds, small) for name in CLONES}
    spent = sum(each["cpu_seconds"] for each in (*clones.values(), *methods.values()))
    return {"seed": seed, "clones": clones, "methods": methods, "cpu_seconds": spent}


def play_method(name: str, seed: int, folder: Path, seconds: float, small: bool) -> Table:
    """Measures the clone, trains, measures again."""
    from foldgym.config import TrainRun, load
    from foldgym.trainers.train import train

    clone = folder / CLONES[name]
    words = [f"seed={seed}", f'output="{folder / name}"', f'policy.path="{clone}"']
    words += ["train.steps=1000", f"train.checkpoint_every={1 if small else EVERY}"]
    if small:
        words += ["train.groups=1", "train.group_size=2"]
        words += ["reward.terms.1.leak_check=0"] if name == "igpo" else []
    run = load(TrainRun, ROOT / "runs" / f"search_{name}.toml", words)
    tasks = 4 if small else TASKS
    before = measure(run, str(clone), seed, tasks)
    began, spent = time.process_time(), 0.0

    def progress(step: int, steps: int, headline: str) -> None:
        nonlocal spent
        spent = time.process_time() - began
        if spent >= seconds and step % run.train.checkpoint_every == 0:
            raise Enough

    with suppress(Enough):
        train(run, progress)
    after = measure(run, run.output, seed, tasks)
    lines = (Path(run.output) / "metrics.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    found = {
        "before": before,
        "after": after,
        "steps": len(rows),
        "cpu_seconds": spent,
        "silent_groups": fmean(row["degenerate"] for row in rows),
        "curve": [row["success"] for row in rows],
    }
    shown = {when: round(found[when]["success"]["mean"], 3) for when in ("before", "after")}
    print(json.dumps({"seed": seed, "method": name, "steps": len(rows), **shown}), flush=True)
    return found


def measure(run: Any, policy: str, seed: int, number: int) -> Table:
    """Held-out questions of the `test` split, sampled at temperature 1."""
    from foldgym.agents.evaluate import evaluate, tasks
    from foldgym.config import PolicySection
    from foldgym.rewards.outcomes import exact_match
    from foldgym.seeding import derive_seed
    from foldgym.trainers.wiring import how_to_play, load_actor, worlds
    from foldgym.types import Reward, Trajectory

    def right(trajectory: Trajectory) -> Reward:
        value = exact_match(trajectory)
        return Reward(value, value)

    held_out, actor = worlds(run.envs, "test"), load_actor(PolicySection(path=policy))
    how = how_to_play(run.rollout, run.memory, actor.renderer, held_out.max_turns)
    requests = tasks(ENV, number, derive_seed("search credit", seed))
    report, groups = asyncio.run(evaluate(requests, held_out.open, actor.policy, how, seed, right))
    facts = [each.facts for group in groups for each in group.trajectories]
    result = report.envs[ENV]
    return {
        "success": result.success.to_table(),
        "queries": fmean(len(each["queries"]) for each in facts),
        "read": fmean(each["read"] / each["hops"] for each in facts),
        "outcomes": [int(result.outcomes[request.seed][0]) for request in requests],
    }


# ---------------------------------------------------------------- all seeds


def run(jobs: int, folder: Path) -> Table:
    """All seeds, each in a process of its own, `jobs` at a time."""
    waiting, running = list(SEEDS), list[subprocess.Popen[bytes]]()
    while waiting or running:
        while waiting and len(running) < jobs:
            seed = waiting.pop(0)
            words = ["--seed", str(seed), "--folder", str(folder / f"seed-{seed}")]
            command = [sys.executable, "-m", __spec__.name, *words]
            running.append(subprocess.Popen(command, cwd=ROOT))
        if running.pop(0).wait():
            for other in running:
                other.terminate()
            raise RuntimeError("a seed failed; its error is above")
    parts = [json.loads((folder / f"seed-{s}" / "part.json").read_text("utf-8")) for s in SEEDS]
    return {
        "tasks": TASKS,
        "seconds": SECONDS,
        "jobs": jobs,
        "cpu_seconds": sum(part["cpu_seconds"] for part in parts),
        "differences": {name: differences(parts, name) for name in CLONES if name != "grpo"},
        "seeds": parts,
    }


def differences(parts: Sequence[Table], name: str) -> Table:
    """A method minus GRPO on the same questions: all seeds, and each."""
    from foldgym.agents.statistics import paired

    def gap(chosen: Sequence[Table]) -> Table:
        ours, theirs = (
            [float(x) for part in chosen for x in part["methods"][each]["after"]["outcomes"]]
            for each in (name, "grpo")
        )
        return paired(theirs, ours, 0).to_table()

    return {"all": gap(parts), "by_seed": [gap([part]) for part in parts]}


# ---------------------------------------------------------------- the page


def write_page(result: Table) -> None:
    """Puts the tables between the marks of the page."""
    text = PAGE.read_text("utf-8")
    head, rest = text.split("<!-- results -->", 1)
    _, tail = rest.split("<!-- end of results -->", 1)
    body = f"<!-- results -->\n\n{tables(result)}\n\n<!-- end of results -->"
    PAGE.write_text(head + body + tail, "utf-8")


def tables(result: Table) -> str:
    """Markdown: every method, and the two others minus GRPO."""
    seeds = result["seeds"]

    def mean(name: str, *keys: str) -> float:
        values: list[Any] = [part["methods"][name] for part in seeds]
        for key in keys:
            values = [value[key] for value in values]
        return fmean(values)

    def each(name: str) -> str:
        found = [part["methods"][name]["after"]["success"]["mean"] for part in seeds]
        return ", ".join(f"{value:.2f}" for value in found)

    lines = [
        "| method | success cloned | **success trained** (per seed) | queries a question, before "
        "-> after | hops read | groups without advantage | steps | CPU seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, label in LABELS.items():
        cells = [
            f"{mean(name, 'before', 'success', 'mean'):.3f}",
            f"**{mean(name, 'after', 'success', 'mean'):.3f}** ({each(name)})",
            f"{mean(name, 'before', 'queries'):.2f} -> {mean(name, 'after', 'queries'):.2f}",
            f"{mean(name, 'after', 'read'):.2f}",
            f"{mean(name, 'silent_groups'):.2f}",
            f"{mean(name, 'steps'):.0f}",
            f"{mean(name, 'cpu_seconds'):.0f}",
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += ["", "| minus GRPO | all seeds | per seed |", "|---|---|---|"]
    for name, found in result["differences"].items():
        alone = ", ".join(shown(one) for one in found["by_seed"])
        lines.append(f"| {LABELS[name]} | {shown(found['all'])} | {alone} |")
    lines += [
        "",
        f"{result['tasks']} questions a seed; intervals of 95 % over questions. Processor time of "
        f"all cloning and training: {result['cpu_seconds'] / 60:.1f} minutes.",
    ]
    return "\n".join(lines)


def shown(gap: Table) -> str:
    return f"{gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]"


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "search")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time (1)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of training a method")
    parser.add_argument("--docs", action="store_true", help="only write the page again")
    parser.add_argument("--small", action="store_true", help="as small as it gets, for tests")
    args = parser.parse_args(words)
    if args.seed is not None:
        import torch

        torch.set_num_threads(1)
        part = play_seed(args.seed, args.folder, args.seconds, args.small)
        (args.folder / "part.json").write_text(json.dumps(part), "utf-8")
        return 0
    if not args.docs:
        from benchmarks.run import machine

        found = {"machine": machine(), **run(args.jobs, args.folder)}
        RESULTS.write_text(json.dumps(found) + "\n", "utf-8")
    write_page(json.loads(RESULTS.read_text("utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
