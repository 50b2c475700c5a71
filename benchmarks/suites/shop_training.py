"""Cloning, then GRPO on the text shop: success and reward on held-out goals, three seeds.

    python -m benchmarks.suites.shop_training            # all seeds, one after the other
    python -m benchmarks.suites.shop_training --docs     # the table of the last result

Run files `runs/shop_clone.toml` and `runs/shop_train.toml`. The goals of the `test` split are never
trained on; they are about the same products with other choices of options.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "shop_training.json"
PAGE = ROOT / "docs" / "shop.md"
ENV, SEEDS, EPISODES = "foldgym/Shop-v0", (0, 1, 2), 48
Table = dict[str, Any]


def play_seed(seed: int, folder: Path) -> Table:
    """Clones, measures, trains, measures again; what an earlier call has done is not done again."""
    from foldgym.config import SftRun, TrainRun, load
    from foldgym.trainers.sft import sft
    from foldgym.trainers.train import train

    part = folder / f"part-{seed}.json"
    if part.exists():
        return json.loads(part.read_text("utf-8"))
    clone, output = folder / f"clone-{seed}", folder / f"train-{seed}"
    if not clone.exists():
        sft(load(SftRun, ROOT / "runs/shop_clone.toml", [f"seed={seed}", f'output="{clone}"']))
    words = [f"seed={seed}", f'output="{output}"', f'policy.path="{clone}"']
    run = load(TrainRun, ROOT / "runs/shop_train.toml", words)
    before = measure(run, str(clone), seed)
    training = time.process_time()
    train(run)
    trained = time.process_time()
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    found = {
        "seed": seed,
        "before": before,
        "after": measure(run, str(output), seed),
        "curve": [round(row["reward"], 3) for row in rows],
        "cpu_seconds": trained - training,
    }
    part.write_text(json.dumps(found), "utf-8")
    print(json.dumps(found), flush=True)
    return found


def measure(run: Any, policy: str, seed: int) -> Table:
    """The same held-out episodes for both policies, sampled at temperature 1."""
    from foldgym.agents.evaluate import evaluate, tasks
    from foldgym.config import PolicySection
    from foldgym.seeding import derive_seed
    from foldgym.trainers.wiring import how_to_play, load_actor, worlds
    from foldgym.types import Reward, Trajectory

    def paid(trajectory: Trajectory) -> Reward:
        score = float(trajectory.facts["score"])
        return Reward(score, score)

    held_out, actor = worlds(run.envs, "test"), load_actor(PolicySection(path=policy))
    how = how_to_play(run.rollout, run.memory, actor.renderer, held_out.max_turns)
    requests = tasks(ENV, EPISODES, derive_seed("shop training", seed))
    report, groups = asyncio.run(evaluate(requests, held_out.open, actor.policy, how, seed, paid))
    facts = [each.facts for group in groups for each in group.trajectories]
    return {
        "success": report.envs[ENV].success.to_table(),
        "reward": fmean(float(each["score"]) for each in facts),
        "bought": fmean("bought" in each for each in facts),
        "outcomes": [int(bool(each["success"])) for each in facts],
        "rewards": [round(float(each["score"]), 4) for each in facts],
    }


def summary(parts: list[Table]) -> Table:
    """After minus before on the same episodes, with intervals."""
    from foldgym.agents.statistics import paired

    def gap(key: str, chosen: list[Table]) -> Table:
        old = [float(x) for part in chosen for x in part["before"][key]]
        new = [float(x) for part in chosen for x in part["after"][key]]
        return paired(old, new, 0).to_table()

    return {
        what: {"all": gap(key, parts), "by_seed": [gap(key, [part]) for part in parts]}
        for what, key in (("success", "outcomes"), ("reward", "rewards"))
    }


def table(result: Table) -> str:
    """Markdown."""
    lines = [
        "| seed | success cloned -> trained | reward cloned -> trained | gain in reward "
        "| CPU s of GRPO |",
        "|---|---|---|---|---|",
    ]
    for part, gain in zip(result["seeds"], result["gain"]["reward"]["by_seed"], strict=True):
        old, new = part["before"], part["after"]
        spent = part["cpu_seconds"]
        success = f"{old['success']['mean']:.3f} -> **{new['success']['mean']:.3f}**"
        reward = f"{old['reward']:.3f} -> **{new['reward']:.3f}**"
        lines.append(f"| {part['seed']} | {success} | {reward} | {shown(gain)} | {spent:.0f} |")
    gains = result["gain"]
    return "\n".join(
        [
            *lines,
            "",
            f"All seeds: success {shown(gains['success']['all'])}, reward "
            f"{shown(gains['reward']['all'])} (95 % over {EPISODES} episodes a seed).",
        ]
    )


def shown(gain: Table) -> str:
    return f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"


def write_page(result: Table) -> None:
    head, rest = PAGE.read_text("utf-8").split("<!-- results -->", 1)
    _, tail = rest.split("<!-- end of results -->", 1)
    body = f"<!-- results -->\n\n{table(result)}\n\n<!-- end of results -->"
    PAGE.write_text(head + body + tail, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "shop")
    args = parser.parse_args()
    if not args.docs:
        load = round(os.getloadavg()[0], 1)
        parts = [play_seed(seed, args.folder) for seed in SEEDS]
        result = {"episodes": EPISODES, "load": load, "seeds": parts, "gain": summary(parts)}
        RESULTS.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    write_page(json.loads(RESULTS.read_text("utf-8")))


if __name__ == "__main__":
    main()
