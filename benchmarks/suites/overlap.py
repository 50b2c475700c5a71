"""Whether updates and sampling gain by sharing one machine's cores: no latency, no sleep.

    python -m benchmarks.run overlap

Processes of `foldgym train`, one after another and mode after mode in every round, so that whatever
else the machine does meets all of them. Two threads of torch in all: both for whoever works, or one
each for engine and learner. The policy does not learn (its rate is next to 0), so that all modes
play the same number of tokens.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.suites.asynchronous import CLONE
from foldgym.records import JsonlReader

ROUNDS, STEPS, WARM = 3, 5, 1
SIZES = {"0.1 M": (64, 2), "2 M": (192, 4)}  # parameters: width and layers
TRAIN = """
output = "{here}/{name}"
[policy]
path = "{here}/clone"
batching = "dynamic"
threads = {threads}
[[envs]]
name = "foldgym/GuessNumber-v0"
[rollout]
max_tokens = 24
max_turns = 3
max_parse_errors = 99
[reward]
terms = [{{name = "odd", use = "benchmarks.suites.asynchronous:odd"}}]
[algorithm]
old = "recompute"
loss = {{use = "decoupled"}}
[optim]
lr = 1e-9
layout = "packed"
[train]
steps = {steps}
groups = 4
group_size = 8
checkpoint_every = 0
trajectories = false
"""
MODES: dict[str, tuple[int, tuple[str, ...]]] = {
    "sync, 2 threads": (2, ()),
    "sync, 1 thread": (1, ()),
    "async, staleness 1, 1 + 1 threads": (1, ('train.mode="async"', "train.staleness=1")),
}


def measure(here: Path, name: str, mode: str, steps: int = STEPS) -> dict[str, float]:
    """Seconds a step of one run, the first ones left out, and how they were spent."""
    threads, words = MODES[mode]
    file = here / f"{name}.toml"
    file.write_text(TRAIN.format(here=here, name=name, threads=threads, steps=steps), "utf-8")
    command = [sys.executable, "-m", "foldgym", "train", str(file), *words]
    free = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    subprocess.run(command, check=True, capture_output=True, env=free)
    rows = list(JsonlReader(here / name / "timings.jsonl"))[min(WARM, steps - 1) :]
    tokens = list(JsonlReader(here / name / "metrics.jsonl"))[-len(rows) :]
    count = len(rows)
    total = sum(row["wait"] + row["update"] + row["publish"] for row in rows)
    return {
        "seconds": total / count,
        "update": sum(row["update"] for row in rows) / count,
        "rollout": sum(row["rollout"] for row in rows) / count,
        "overlap": sum(row["overlap"] for row in rows) / total,
        "tokens": sum(row["tokens"] for row in tokens) / count,
    }


def run(small: bool = False) -> dict[str, Any]:
    """Every mode in every round; medians over the rounds, and the load before each round."""
    found: dict[str, Any] = {"steps": STEPS - WARM, "rounds": ROUNDS}
    for size, (hidden, layers) in SIZES.items():
        shape = {"hidden": hidden, "layers": layers, "heads": 4, "head": hidden // 4}
        shape["mlp"] = 3 * hidden
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            (here / "clone.toml").write_text(CLONE.format(here=here, **shape), "utf-8")
            command = [sys.executable, "-m", "foldgym", "sft", str(here / "clone.toml")]
            subprocess.run(command, check=True, capture_output=True)
            runs: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
            loads: list[float] = []
            for number in range(1 if small else ROUNDS):
                loads.append(round(os.getloadavg()[0], 1))
                for place, mode in enumerate(MODES):
                    name = f"{number}-{place}"
                    runs[mode].append(measure(here, name, mode, 2 if small else STEPS))
        table: dict[str, Any] = {
            mode: {key: round(median(row[key] for row in rows), 3) for key in rows[0]}
            | {"all_seconds": [round(row["seconds"], 3) for row in rows]}
            for mode, rows in runs.items()
        }
        found[size] = {**table, "load": loads}
    return found
