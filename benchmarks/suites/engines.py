"""One run file, two engines: the policy itself, and vLLM; what is learned, and how far they differ.

    python -m benchmarks.suites.engines FOLDER [SEEDS]

The world is multi-turn: a dial is turned three times, and only the end says whether all were right.
A model of random weights first clones a player who slips; then the same run file trains it on both
engines. Held-out success, seconds of rollouts and updates (the push included), and the differences
of the log-probs that sampler and trainer give to the same ids go to FOLDER/engines.json.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
from pathlib import Path
from typing import Any

import foldgym
from foldgym.config import SftRun, TrainRun, parse
from foldgym.records import JsonlReader
from foldgym.tools import call
from foldgym.types import Action, Message

RIGHT = (4, 2, 6)
SURE = 0.7  # how often the cloned player turns to the right number on purpose
WORLD = f"{Path(__file__)}:Dial"
STEPS, GROUPS, SIZE, EVAL = 16, 8, 8, 128
Found = dict[str, Any]


class Dial(foldgym.ToolEnv):
    """A dial that is turned three times; then the player says "done"."""

    experts = ("slipping",)
    max_turns = 5

    def setup(self, rng: random.Random) -> str:
        self.turned: list[int] = []
        return "begin"

    @foldgym.tool
    def dial(self, number: int) -> str:
        """Turn the dial.

        Args:
            number: from 1 to 7
        """
        self.turned.append(number)
        return f"turn {len(self.turned) + 1}"

    def respond(self, message: Message) -> str:
        self.finish(float(tuple(self.turned) == RIGHT))
        return "over"

    def expert(self, style: str, rng: random.Random) -> Action:
        place = len(self.turned)
        if place >= len(RIGHT):
            return Message("assistant", "done")
        number = RIGHT[place] if rng.random() < SURE else rng.randint(1, 7)
        return call("dial", number=number)


def start(folder: Path) -> Path:
    """A policy that plays like the slipping player."""
    from foldgym.trainers.sft import sft

    text = f"""
    output = "{folder / "start"}"
    [[envs]]
    name = "{WORLD}"
    [model]
    hidden = 64
    heads = 2
    mlp = 192
    max_positions = 512
    [tokenizer]
    vocab_size = 400
    episodes = 50
    [sft]
    steps = 150
    batch = 16
    expert = "slipping"
    lr = 5e-3
    warmup = 10
    context_weight = 0.0
    """
    return sft(parse(SftRun, text))


def run(folder: Path, policy: Path, engine: str, seed: int) -> Found:
    """One run of `foldgym train`."""
    from foldgym.trainers.train import train

    text = f"""
    seed = {seed}
    output = "{folder / f"{engine}-{seed}"}"
    [policy]
    path = "{policy}"
    threads = 1
    [[envs]]
    name = "{WORLD}"
    [memory]
    max_context = 512
    [rollout]
    max_tokens = 32
    [optim]
    lr = 1e-3
    warmup = 0
    [train]
    steps = {STEPS}
    groups = {GROUPS}
    group_size = {SIZE}
    checkpoint_every = 0
    eval_every = 4
    eval_episodes = {EVAL}
    trajectories = false
    """
    done = train(parse(TrainRun, text, [f"engine={engine}"]))
    rows = list(JsonlReader(done / "metrics.jsonl"))
    laps = list(JsonlReader(done / "timings.jsonl"))
    held_out = {r["step"]: v for r in rows for k, v in r.items() if k.endswith("/success")}

    def median(name: str) -> float:
        return round(statistics.median(lap[name] for lap in laps), 3)

    return {
        "engine": engine,
        "seed": seed,
        "held_out": held_out,
        "train": [round(row["success"], 3) for row in rows],
        "gap_max": max(row.get("logprob_gap_max", 0.0) for row in rows),
        "push_gap_max": max(row.get("push_gap_max", 0.0) for row in rows),
        "push_gap_mean": max(row.get("push_gap_mean", 0.0) for row in rows),
        "rollout_seconds": median("rollout"),
        "update_seconds": median("update"),
        "publish_seconds": median("publish"),
        "restarts": rows[-1].get("engine_restarts", 0.0),
    }


def main(words: list[str]) -> None:
    """Measures, and writes as it goes."""
    folder, seeds = Path(words[0]), int(words[1]) if len(words) > 1 else 2
    folder.mkdir(parents=True, exist_ok=True)
    policy = folder / "start"
    if not policy.exists():
        start(folder)
    found: list[Found] = []
    for seed in range(seeds):
        for engine in ("torch", "vllm"):
            found.append(run(folder, policy, engine, seed))
            print(json.dumps(found[-1]), flush=True)
            (folder / "engines.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
