"""A learning curve on a GPU: search for answers of three and four hops with a model of 50-300 M.

    python -m benchmarks.gpu.learning --size 0.1b --steps 200 --seeds 0 1 2
    python -m benchmarks.gpu.learning --size tiny --device cpu --clone 2 --steps 1    # does it run?

From random weights: clone an expert that stops early, then multi-turn GRPO on longer chains than it
was shown (`foldgym/FictionalSearch-v0`, 3 and 4 hops). Success on 256 held-out tasks before,
during and after, with the wall-clock seconds of every step, goes to `benchmarks/results`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.throughput import HERE, SIZES, device_of
from foldgym.config import SftRun, TrainRun, parse
from foldgym.console import note, table
from foldgym.trainers.sft import sft
from foldgym.trainers.train import train

Found = dict[str, Any]
WORLD = """
[[envs]]
name = "foldgym/FictionalSearch-v0"
isolation = "inline"
kwargs = {{hops = {hops}}}
"""
START = """
output = "{folder}/start"
seed = {seed}
[model]
{shape}
window = 3
rope_theta = 1000.0
[tokenizer]
vocab_size = 1024
episodes = {episodes}
[sft]
steps = 1
expert = "hasty"
batch = 2
"""
CLONE = """
output = "{folder}/clone"
seed = {seed}
[policy]
path = "{folder}/start"
device = "{device}"
dtype = "{dtype}"
[sft]
steps = {clone}
batch = 64
expert = "hasty"
lr = 6e-4
microbatch_tokens = 65536
"""
TRAIN = """
output = "{folder}/train"
seed = {seed}
[policy]
path = "{folder}/clone"
device = "{device}"
dtype = "{dtype}"
batching = "dynamic"
[rollout]
max_tokens = 24
max_turns = 10
concurrency = 512
[algorithm]
old = "recompute"
zero = "exclude"
[algorithm.mismatch]
use = "tis"
[optim]
lr = 1e-4
microbatch_tokens = 65536
[train]
steps = {steps}
groups = {groups}
group_size = 8
eval_every = {every}
eval_episodes = {tasks}
checkpoint_every = 0
trajectories = false
"""


def learn(args: argparse.Namespace, seed: int) -> Found:
    """One seed: the curve of held-out success, and the seconds of every step."""
    folder = Path(args.folder) / f"seed-{seed}"
    shape = {name: value for name, value in SIZES[args.size].items() if name != "vocab_size"}
    fields = {
        "folder": folder,
        "seed": seed,
        "device": args.device,
        "dtype": "float32" if args.device == "cpu" else "bfloat16",
        "shape": "\n".join(f"{name} = {value}" for name, value in shape.items()),
        "episodes": args.episodes,
        "clone": args.clone,
        "steps": args.steps,
        "groups": args.groups,
        "every": max(1, args.steps // 10),
        "tasks": args.tasks,
    }
    for name, text, hops in (("start", START, [1, 2, 2]), ("clone", CLONE, [1, 2, 2])):
        note(f"seed {seed}: {name} ...")
        sft(parse(SftRun, (text + WORLD).format(**fields, hops=hops)))
    note(f"seed {seed}: GRPO ...")
    run = train(parse(TrainRun, (TRAIN + WORLD).format(**fields, hops=[0, 0, 1, 1])))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    clocks = [json.loads(line) for line in (run / "timings.jsonl").read_text().splitlines()]
    name = next(key for line in lines for key in line if key.startswith("eval/") and "succ" in key)
    return {
        "held_out_success": [[line["step"], line[name]] for line in lines if name in line],
        "played_success": [line["success"] for line in lines],
        "timings": clocks,
    }


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="benchmarks.gpu.learning")
    parser.add_argument("--size", choices=SIZES, default="0.1b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clone", type=int, default=400, help="steps of cloning")
    parser.add_argument("--steps", type=int, default=200, help="of GRPO")
    parser.add_argument("--groups", type=int, default=32)
    parser.add_argument("--tasks", type=int, default=256, help="held out")
    parser.add_argument("--episodes", type=int, default=2000, help="that the tokenizer hears")
    parser.add_argument("--folder", default="runs/gpu_learning")
    parser.add_argument("--output", default="")
    args = parser.parse_args(words)
    if args.device != "cpu" and not torch.cuda.is_available():
        note("error: torch sees no GPU; try --device cpu --size tiny --clone 2 --steps 1")
        return 2
    seeds = {str(seed): learn(args, seed) for seed in args.seeds}
    found = {"device": device_of(args.device), "size": args.size, "seeds": seeds}
    path = Path(args.output or HERE / "results" / f"gpu_learning_{args.size}.json")
    path.write_text(json.dumps(found, indent=1) + "\n")
    rows = [(seed, *point) for seed, each in seeds.items() for point in each["held_out_success"]]
    table(f"{args.size} on {found['device']}", ("seed", "step", "held-out success"), rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
