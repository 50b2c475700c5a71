"""Cloning, then GRPO in a real browser or the text shop: held-out success before and after.

    python -m benchmarks.suites.web_training miniwob          # what is done is not done again
    python -m benchmarks.suites.web_training miniwob --docs   # table and figure of the last result

Run files `runs/NAME_clone.toml` and `runs/NAME_train.toml` of miniwob and shop, three seeds each.
Both policies play the same episodes of the `test` split, sampled at temperature 1; nothing of that
split is trained on. A run that was killed goes on from its newest checkpoint.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[2]
SEEDS = (0, 1, 2)
Table = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Study:
    """A world, how many held-out episodes a seed plays, and the page that tells the result."""

    name: str
    env: str
    episodes: int
    page: str
    reward: str
    """Fact that the reward of an episode is read from."""
    unit: str = ""
    """Fact that names what several episodes are about, where the split has fewer of it."""

    @property
    def results(self) -> Path:
        return ROOT / "benchmarks" / "results" / f"{self.name}_training.json"

    @property
    def figure(self) -> Path:
        return ROOT / "docs" / "figures" / f"{self.name}_training.svg"


STUDIES = {
    each.name: each
    for each in (
        Study("miniwob", "foldgym/MiniWoB-v0", 256, "browser.md", "raw_reward"),
        Study("shop", "foldgym/Shop-v0", 256, "shop.md", "score", unit="goal"),
    )
}


def play_seed(study: Study, seed: int, folder: Path) -> Table:
    """Clones, measures, trains, measures again; what an earlier call has done is not done again."""
    from foldgym.config import SftRun, TrainRun, load
    from foldgym.trainers.sft import sft
    from foldgym.trainers.train import resume, train

    clone, output = folder / f"clone-{seed}", folder / f"train-{seed}"
    part = folder / f"part-{seed}.json"
    found: Table = json.loads(part.read_text("utf-8")) if part.exists() else {"seed": seed}

    def keep(**more: Any) -> None:
        found.update(more)
        half = part.with_suffix(".half")
        half.write_text(json.dumps(found), "utf-8")
        half.replace(part)

    folder.mkdir(parents=True, exist_ok=True)
    if "clone_seconds" not in found:
        shutil.rmtree(clone, ignore_errors=True)  # cloning does not resume
        words = [f"seed={seed}", f'output="{clone}"']
        started = time.process_time(), time.perf_counter()
        sft(load(SftRun, ROOT / f"runs/{study.name}_clone.toml", words))
        keep(clone_seconds=_since(*started))
    words = [f"seed={seed}", f'output="{output}"', f'policy.path="{clone}"']
    run = load(TrainRun, ROOT / f"runs/{study.name}_train.toml", words)
    if "before" not in found:
        keep(before=measure(study, run, str(clone), seed))
    if "train_seconds" not in found:
        started = time.process_time(), time.perf_counter()
        if (output / "run.toml").exists():
            resume(output)
        else:
            train(run)
        keep(train_seconds=_since(*started))
    if "after" not in found:
        rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        keep(
            curve=[round(row["success"], 3) for row in rows],
            rewards=[round(row["reward"], 3) for row in rows],
            after=measure(study, run, str(output), seed),
        )
        print(study.name, seed, found["before"]["success"], found["after"]["success"], flush=True)
    return found


def _since(cpu: float, wall: float) -> Table:
    spent = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    return {name: round(value, 1) for name, value in spent.items()}


def measure(study: Study, run: Any, policy: str, seed: int) -> Table:
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
    drawn = derive_seed(f"{study.name} training", seed)
    requests = tasks(study.env, study.episodes, drawn)
    report, groups = asyncio.run(evaluate(requests, held_out.open, actor.policy, how, seed, paid))
    played = [each for group in groups for each in group.trajectories]
    facts = [each.facts for each in played]
    return {
        "success": report.envs[study.env].success.to_table(),
        "reward": fmean(float(each.get(study.reward, 0.0)) for each in facts),
        "turns": report.envs[study.env].turns.mean,
        "lost": report.envs[study.env].lost,
        "seeds": [group.request.seed for group in groups if group.trajectories],
        "outcomes": [int(bool(each["success"])) for each in facts],
        "rewards": [round(float(each.get(study.reward, 0.0)), 4) for each in facts],
        "units": [each[study.unit] for each in facts] if study.unit else [],
    }


def summary(parts: list[Table]) -> Table:
    """After minus before on the same episodes, with intervals of 95 %."""
    from foldgym.agents.statistics import paired

    def gap(key: str, chosen: list[Table]) -> Table:
        pairs: list[tuple[float, float]] = []
        for part in chosen:
            old, new = (
                dict(zip(part[side]["seeds"], part[side][key], strict=True))
                for side in ("before", "after")
            )
            pairs += [(float(old[task]), float(new[task])) for task in old if task in new]
        return paired([old for old, _ in pairs], [new for _, new in pairs], 0).to_table()

    return {
        what: {
            "all": gap(key, parts),
            "by_seed": [gap(key, [part]) for part in parts],
            **by_unit(key, parts),
        }
        for what, key in (("success", "outcomes"), ("reward", "rewards"))
    }


def by_unit(key: str, parts: list[Table]) -> Table:
    """The gain with every unit counted once, whatever it was drawn, and units as what varies."""
    from foldgym.agents.statistics import bootstrap

    gains: dict[Any, list[float]] = {}
    for part in parts:
        old, new = part["before"], part["after"]
        for unit, a, b in zip(new.get("units", ()), old[key], new[key], strict=False):
            gains.setdefault(unit, []).append(b - a)
    if not gains:
        return {}
    return {"by_unit": bootstrap([fmean(gains[unit]) for unit in sorted(gains)], 0).to_table()}


def table(study: Study, result: Table) -> str:
    """Markdown."""
    lines = [
        "| seed | success cloned -> trained | gain | reward cloned -> trained | gain in reward "
        "| minutes of cloning, of GRPO |",
        "|---|---|---|---|---|---|",
    ]
    gains = result["gain"]
    for place, part in enumerate(result["seeds"]):
        old, new = part["before"], part["after"]
        minutes = [part[key]["wall"] / 60 for key in ("clone_seconds", "train_seconds")]
        cells = [
            str(part["seed"]),
            f"{old['success']['mean']:.3f} -> **{new['success']['mean']:.3f}**",
            shown(gains["success"]["by_seed"][place]),
            f"{old['reward']:.3f} -> {new['reward']:.3f}",
            shown(gains["reward"]["by_seed"][place]),
            ", ".join(f"{each:.1f}" for each in minutes),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    said = (
        f"All seeds: success {shown(gains['success']['all'])}, reward "
        f"{shown(gains['reward']['all'])} (paired, 95 %, over {study.episodes} held-out "
        "episodes a seed)."
    )
    if found := gains["success"].get("by_unit"):
        said += (
            f"\nWith the {found['n']} {study.unit}s as what varies, each counted once: success "
            f"{shown(found)}, reward {shown(gains['reward']['by_unit'])}."
        )
    return "\n".join([*lines, "", said])


def shown(gain: Table) -> str:
    return f"{gain['mean']:+.3f} [{gain['low']:+.3f}, {gain['high']:+.3f}]"


def draw(study: Study, result: Table) -> None:
    """Success while training, a line a seed, with the held-out figures at both ends."""
    from matplotlib import rcParams
    from matplotlib.figure import Figure

    rcParams["svg.hashsalt"] = study.name  # the same file whenever it is drawn
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    for place, part in enumerate(result["seeds"]):
        colour, steps = f"C{place}", len(part["curve"])
        smooth = [fmean(part["curve"][max(0, at - 4) : at + 5]) for at in range(steps)]
        axes.plot(range(1, steps + 1), part["curve"], color=colour, alpha=0.2)
        axes.plot(range(1, steps + 1), smooth, color=colour, label=f"seed {part['seed']}")
        for step, side in ((-0.01 * steps, "before"), (1.02 * steps, "after")):
            found = part[side]["success"]
            away = [[found["mean"] - found["low"]], [found["high"] - found["mean"]]]
            at = step + (place - 1) * 0.012 * steps
            axes.errorbar(at, found["mean"], away, fmt="o", color=colour, capsize=2, markersize=4)
    axes.set_xlabel("step of GRPO")
    axes.set_ylabel("success")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(study.figure, metadata={"Date": None})


def write_page(study: Study, result: Table) -> None:
    page = ROOT / "docs" / study.page
    head, rest = page.read_text("utf-8").split("<!-- results -->", 1)
    _, tail = rest.split("<!-- end of results -->", 1)
    body = f"<!-- results -->\n\n{table(study, result)}\n\n<!-- end of results -->"
    page.write_text(head + body + tail, "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    study = STUDIES[args.study]
    if not args.docs:
        folder = args.folder or ROOT / "runs" / study.name
        parts = [play_seed(study, seed, folder) for seed in args.seeds]
        result = {
            "episodes": study.episodes,
            "seeds": parts,
            "gain": summary(parts),
        }
        study.results.write_text(json.dumps(result) + "\n", "utf-8")
    result = json.loads(study.results.read_text("utf-8"))
    draw(study, result)
    write_page(study, result)


if __name__ == "__main__":
    main()
