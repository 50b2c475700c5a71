"""What a memory is worth: cloning and GRPO with a fold, a window and truncation, on one budget.

    python -m benchmarks.suites.memory_chain                 # three seeds, 30 CPU minutes
    python -m benchmarks.suites.memory_chain --jobs 2        # two seeds at a time
    python -m benchmarks.suites.memory_chain --seed 7 --folder runs/chain-7     # one seed alone
    python -m benchmarks.suites.memory_chain --docs          # picture and tables of the last result

Per seed one model of random weights learns the calls from whole episodes; from these weights every
memory goes its own way: the expert cloned through that memory, then GRPO with it, then held-out
tasks with it. All options but the memory are those of `runs/chain_*.toml`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[2]
RUNS = {part: ROOT / "runs" / f"chain_{part}.toml" for part in ("base", "clone", "train")}
RESULTS = ROOT / "benchmarks" / "results" / "memory_chain.json"
PAGE, PICTURE = ROOT / "docs" / "memory_chain.md", ROOT / "docs" / "figures" / "memory_chain.png"
ENV = "foldgym/FictionalChain-v0"
SEEDS, TASKS = (3, 4, 5), 256
CONTEXT = "max_context = 104, reserve = 26"
ARMS = {
    "fold": "",  # as the run files say
    "window": f'{{use = "window", turns = 2, {CONTEXT}}}',
    "squeeze": f'{{use = "full", overflow = "squeeze", {CONTEXT}}}',
    "stop": f'{{use = "full", overflow = "stop", {CONTEXT}}}',
}
LABELS = {
    "fold": "fold",
    "window": "sliding window",
    "squeeze": "truncation, oldest turns go",
    "stop": "truncation, episode ends",
}
OTHERS = ("window", "squeeze", "stop")
CLONED = "the same fold before GRPO"
MODES = {"sampled": 1.0, "greedy": 0.0}
Table = dict[str, Any]

# ---------------------------------------------------------------- one seed


def play_seed(seed: int, folder: Path) -> Table:
    """The common start, then every arm; seconds are of the processor, everything included."""
    from foldgym.config import SftRun, load
    from foldgym.trainers.sft import sft

    sft(load(SftRun, RUNS["base"], options(seed, folder, "base")))
    found: Table = {"seed": seed, "base": {"cpu_seconds": time.process_time()}, "arms": {}}
    for arm in ARMS:
        found["arms"][arm] = play_arm(seed, folder, arm)
    found["cpu_seconds"] = time.process_time()
    return found


def play_arm(seed: int, folder: Path, arm: str) -> Table:
    """Clones, trains and measures one memory, from the weights of the common start."""
    from foldgym.config import SftRun, TrainRun, load
    from foldgym.trainers.sft import sft
    from foldgym.trainers.train import train

    began = time.process_time()
    start = f'policy.path="{folder / "base"}"'
    clone = load(SftRun, RUNS["clone"], options(seed, folder, arm, "clone", start))
    sft(clone)
    cloned = time.process_time()
    start = f'policy.path="{clone.output}"'
    run = load(TrainRun, RUNS["train"], options(seed, folder, arm, "train", start))
    before = measure(run, clone.output, seed)
    measured = time.process_time()
    train(run)
    trained = time.process_time()
    after = measure(run, run.output, seed)
    print(json.dumps({"seed": seed, "arm": arm, **brief(after)}), flush=True)
    return {
        "known": known(run, seed),
        "before": before,
        "after": after,
        "curve": curve(Path(run.output) / "metrics.jsonl"),
        "own_tokens": own_tokens(Path(clone.output) / "metrics.jsonl"),
        "cpu_seconds": {
            "cloning": cloned - began,
            "grpo": trained - measured,
            "measuring": measured - cloned + time.process_time() - trained,
        },
    }


def options(seed: int, folder: Path, arm: str, part: str = "", *more: str) -> list[str]:
    """What a seed and an arm change in a run file: the seed, the folders and the memory."""
    memory = [f"memory={ARMS[arm]}"] if ARMS.get(arm) else []
    return [f"seed={seed}", f'output="{folder / arm / part}"', *memory, *more]


def measure(run: Any, policy: str, seed: int) -> Table:
    """Held-out tasks of the `test` split: sampled and greedy, with every task's outcome."""
    from foldgym.agents.evaluate import evaluate, tasks
    from foldgym.config import PolicySection
    from foldgym.rewards import make_rubric
    from foldgym.seeding import derive_seed
    from foldgym.trainers.wiring import how_to_play, load_actor, worlds

    held_out, actor = worlds(run.envs, "test"), load_actor(PolicySection(path=policy))
    requests = tasks(ENV, TASKS, derive_seed("memory chain", seed))
    sides: Table = {}
    for mode, temperature in MODES.items():
        section = run.rollout.model_copy(update={"temperature": temperature})
        how = how_to_play(section, run.memory, actor.renderer, held_out.max_turns)
        score = make_rubric(run.reward).score
        report, groups = asyncio.run(
            evaluate(requests, held_out.open, actor.policy, how, seed, score)
        )
        played = [trajectory for group in groups for trajectory in group.trajectories]
        facts = [trajectory.facts for trajectory in played]
        result = report.envs[ENV]
        sides[mode] = {
            "success": result.success.to_table(),
            "score": result.score.to_table(),
            "found": fmean(f["found"] / f["questions"] for f in facts),
            "reported": fmean(f["reported"] / f["questions"] for f in facts),
            "by_questions": {k: v.to_table() for k, v in result.by["questions"].items()},
            "stops": dict(result.stops),
            "context_peak": max(t.counters["context_peak"] for t in played),
            "folds": fmean(t.counters.get("folds", 0.0) for t in played),
            "outcomes": [int(result.outcomes[r.seed][0]) for r in requests],
            "scores": [round(float(f["score"]), 4) for f in facts],
        }
    return sides


def known(run: Any, seed: int) -> Table:
    """What could be reported: names in the context of the last call, when an expert plays.

    `share` of the answers, and how often `all` of them, which bounds every policy's success.
    """
    from foldgym.agents.engines.scripted import ExpertPolicy
    from foldgym.agents.evaluate import tasks
    from foldgym.agents.rollout import rollout
    from foldgym.config import PolicySection
    from foldgym.seeding import derive_seed
    from foldgym.trainers.wiring import how_to_play, load_actor, worlds
    from foldgym.types import Reward

    held_out = worlds(run.envs, "test")
    actor = load_actor(PolicySection(path=run.policy.path))
    how = how_to_play(run.rollout, run.memory, actor.renderer, held_out.max_turns)
    requests = tasks(ENV, TASKS, derive_seed("memory chain", seed))
    groups = asyncio.run(
        rollout(requests, held_out.open, ExpertPolicy(), how, seed, lambda _: Reward(0.0, 0.0))
    )
    shares: list[float] = []
    for group in groups:
        trajectory = group.trajectories[0]
        last = trajectory.turns[-1]
        names: list[str] = trajectory.task.answer
        segment = next(s for s in reversed(trajectory.segments) if last.index in s.turn_ids)
        context = segment.token_ids[: segment.turn_ids.index(last.index)]
        words = actor.tokenizer.decode(context).replace("<|", " <|").replace("|>", "|> ").split()
        reported = trajectory.facts["reported"] > 0
        shares.append(sum(name in words for name in names) / len(names) if reported else 0.0)
    return {"share": fmean(shares), "all": fmean(float(share == 1.0) for share in shares)}


def curve(path: Path) -> Table:
    """Success and score of the episodes of every step, and of the `val` tasks where measured."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    val = f"eval/{ENV}/success"
    return {
        "success": [row["success"] for row in rows],
        "score": [row["reward"] for row in rows],
        "val": {str(row["step"]): row[val] for row in rows if val in row},
    }


def own_tokens(path: Path) -> int:
    """Tokens of the expert's own that the cloning's updates saw, context not counted."""
    return int(sum(json.loads(line)["tokens"] for line in path.read_text("utf-8").splitlines()))


def brief(side: Table) -> Table:
    return {mode: round(side[mode]["success"]["mean"], 3) for mode in MODES}


# ---------------------------------------------------------------- all seeds


def run(jobs: int = 1, folder: Path = ROOT / "runs" / "chain") -> Table:
    """All seeds, each in a process of its own, `jobs` at a time."""
    began, waiting = time.perf_counter(), list(SEEDS)
    running: list[subprocess.Popen[bytes]] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            seed = waiting.pop(0)
            words = ["--seed", str(seed), "--folder", str(folder / f"seed-{seed}")]
            running.append(
                subprocess.Popen([sys.executable, "-m", __spec__.name, *words], cwd=ROOT)
            )
        if running.pop(0).wait():
            for other in running:
                other.terminate()
            raise RuntimeError("a seed failed; its error is above")
    parts = [json.loads((folder / f"seed-{s}" / "part.json").read_text("utf-8")) for s in SEEDS]
    return {
        "cpu_seconds": sum(part["cpu_seconds"] for part in parts),
        "wall_seconds": time.perf_counter() - began,
        "jobs": jobs,
        "tasks": TASKS,
        "differences": differences(parts),
        "seeds": parts,
    }


def differences(parts: Sequence[Mapping[str, Any]]) -> Table:
    """The trained fold minus each other arm, and minus itself before GRPO, on the same tasks.

    All seeds together, and each alone. Beside the interval that `statistics.paired` gives stands
    that of a bootstrap over tasks.
    """
    from foldgym.agents.statistics import bootstrap, paired

    def gap(side: tuple[str, str], mode: str, what: str, chosen: Sequence[Any]) -> Table:
        fold, other = (
            [float(value) for part in chosen for value in part["arms"][arm][when][mode][what]]
            for arm, when in (("fold", "after"), side)
        )
        interval = bootstrap([a - b for a, b in zip(fold, other, strict=True)], 0)
        return paired(other, fold, 0).to_table() | {"bootstrap": [interval.low, interval.high]}

    sides = {arm: (arm, "after") for arm in OTHERS} | {CLONED: ("fold", "before")}
    return {
        name: {
            mode: {
                "success": gap(side, mode, "outcomes", parts),
                "score": gap(side, mode, "scores", parts),
                "by_seed": [gap(side, mode, "outcomes", [part]) for part in parts],
            }
            for mode in MODES
        }
        for name, side in sides.items()
    }


# ---------------------------------------------------------------- the page


def write_page(result: Table) -> None:
    """Puts the tables between the marks of the page, and draws the picture."""
    text = PAGE.read_text("utf-8")
    head, rest = text.split("<!-- results -->", 1)
    _, tail = rest.split("<!-- end of results -->", 1)
    body = f"<!-- results -->\n\n{tables(result)}\n\n<!-- end of results -->"
    PAGE.write_text(head + body + tail, "utf-8")
    draw(result)


def tables(result: Table) -> str:
    """Markdown: what each arm does, and how much more the fold does."""
    seeds = result["seeds"]

    def mean(arm: str, *keys: str) -> float:
        values: list[Any] = [part["arms"][arm] for part in seeds]
        for key in keys:
            values = [value[key] for value in values]
        return fmean(values)

    def each(arm: str, when: str, mode: str) -> str:
        sides = [part["arms"][arm][when][mode] for part in seeds]
        return ", ".join(f"{side['success']['mean']:.2f}" for side in sides)

    lines = [
        "| memory | can be known | S cloned | **S trained** (per seed) | G cloned "
        "| **G trained** (per seed) | score S | found S | reported S |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for arm, label in LABELS.items():
        cells = [
            f"{mean(arm, 'known', 'all'):.2f} ({mean(arm, 'known', 'share'):.2f})",
            f"{mean(arm, 'before', 'sampled', 'success', 'mean'):.3f}",
            f"**{mean(arm, 'after', 'sampled', 'success', 'mean'):.3f}** "
            f"({each(arm, 'after', 'sampled')})",
            f"{mean(arm, 'before', 'greedy', 'success', 'mean'):.3f}",
            f"**{mean(arm, 'after', 'greedy', 'success', 'mean'):.3f}** "
            f"({each(arm, 'after', 'greedy')})",
            f"{mean(arm, 'after', 'sampled', 'score', 'mean'):.3f}",
            f"{mean(arm, 'after', 'sampled', 'found'):.3f}",
            f"{mean(arm, 'after', 'sampled', 'reported'):.3f}",
        ]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    lines += [
        "",
        "| fold minus | success S | success G | score S | score G | success S, per seed |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in result["differences"].items():
        cells = [
            *(shown(found[mode]["success"]) for mode in MODES),
            *(shown(found[mode]["score"]) for mode in MODES),
            ", ".join(f"{one['mean']:+.2f}" for one in found["sampled"]["by_seed"]),
        ]
        lines.append(f"| {LABELS.get(name, name)} | {' | '.join(cells)} |")
    lines += [
        "",
        "| memory | own tokens cloned | cloning | GRPO | measuring |",
        "|---|---|---|---|---|",
    ]
    for arm, label in LABELS.items():
        cpu = [f"{mean(arm, 'cpu_seconds', k):.0f} s" for k in ("cloning", "grpo", "measuring")]
        lines.append(f"| {label} | {mean(arm, 'own_tokens'):,.0f} | {' | '.join(cpu)} |")
    base = fmean(part["base"]["cpu_seconds"] for part in seeds)
    lines += [
        "",
        f"Processor time of all {len(seeds)} seeds and {len(ARMS)} memories together: "
        f"{result['cpu_seconds']:.0f} s ({result['cpu_seconds'] / 60:.1f} minutes), of which the "
        f"common start took {base:.0f} s a seed.",
    ]
    return "\n".join(lines)


def shown(difference: Mapping[str, Any]) -> str:
    low, high = difference["bootstrap"]
    return f"{difference['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"


def draw(result: Table) -> None:
    """Left the score of training episodes, right what held-out tasks say, seed by seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    seeds = result["seeds"]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.8))
    for place, (arm, label) in enumerate(LABELS.items()):
        colour = f"C{place}"
        curves = [part["arms"][arm]["curve"]["success"] for part in seeds]
        means = [fmean(step) for step in zip(*curves, strict=True)]
        smooth = [fmean(means[max(0, k - 4) : k + 1]) for k in range(len(means))]
        left.plot(range(1, len(smooth) + 1), smooth, color=colour, label=label)
        for shift, mode in ((-0.15, "sampled"), (0.15, "greedy")):
            values = [part["arms"][arm]["after"][mode]["success"]["mean"] for part in seeds]
            solid = mode == "sampled"
            right.bar(place + shift, fmean(values), 0.28, color=colour, alpha=1 if solid else 0.5)
            right.plot([place + shift] * len(values), values, "k.", markersize=5)
    left.set(xlabel="GRPO step", ylabel="success in training episodes", ylim=(-0.02, 1))
    left.set_title("mean of 3 seeds, running mean of 5 steps", fontsize=9)
    left.legend(fontsize=8)
    right.set(ylabel="success on held-out tasks", ylim=(-0.02, 1))
    right.set_xticks(range(len(LABELS)), [*ARMS])
    right.set_title("dark: sampled, pale: greedy; a dot is a seed", fontsize=9)
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, help="this seed alone")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "chain")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time (1)")
    parser.add_argument("--docs", action="store_true", help="only write the page again")
    args = parser.parse_args(words)
    if args.seed is not None:
        import torch

        torch.set_num_threads(1)
        part = play_seed(args.seed, args.folder)
        (args.folder / "part.json").write_text(json.dumps(part), "utf-8")
        return 0
    if not args.docs:
        from benchmarks.run import machine

        where = machine()
        found = {"machine": where, **run(args.jobs, args.folder)}
        RESULTS.write_text(json.dumps(found) + "\n", "utf-8")
    write_page(json.loads(RESULTS.read_text("utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
