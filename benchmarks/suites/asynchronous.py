"""Synchronous against asynchronous training: wall time a step where an environment takes its time.

    python -m benchmarks.run asynchronous

The same tiny policy, tasks and updates in every run. An update takes a second, as on a device of
its own: it sleeps, so that the figures are of the machinery and not of who shares the cores.
"""

from __future__ import annotations

import json
import random
import tempfile
import time
from pathlib import Path
from statistics import fmean
from typing import Any

from foldgym.envs.games import GuessNumber
from foldgym.trainers.losses import Needs, TokenLoss, Tokens, decoupled, needs
from foldgym.types import Action, Step, Trajectory

LATENCIES = (0.0, 0.1, 1.0)
STEPS, GROUPS, SIZE, TURNS, UPDATE = 10, 4, 4, 3, 1.0
CLONE = """
output = "{here}/clone"
[[envs]]
name = "foldgym/GuessNumber-v0"
[model]
hidden = {hidden}
layers = {layers}
heads = {heads}
head_dim = {head}
mlp = {mlp}
[tokenizer]
vocab_size = 290
episodes = 20
[sft]
steps = 2
batch = 2
warmup = 0
"""
TINY = {"hidden": 32, "layers": 1, "heads": 2, "head": 16, "mlp": 32}
TRAIN = """
output = "{here}/{name}"
[policy]
path = "{here}/clone"
batching = "dynamic"
threads = 1
[[envs]]
name = "benchmarks.suites.asynchronous:Slow"
kwargs = {{latency = {latency}}}
[rollout]
max_tokens = 6
max_turns = {turns}
max_parse_errors = 99
[reward]
terms = [{{name = "odd", use = "benchmarks.suites.asynchronous:odd"}}]
[algorithm]
old = "recompute"
loss = {{use = "benchmarks.suites.asynchronous:distant"}}
[train]
steps = {steps}
groups = {groups}
group_size = {size}
checkpoint_every = 0
trajectories = false
"""
MODES = {
    "sync": (),
    "async, staleness 1": ('train.mode="async"', "train.staleness=1"),
    "async, staleness 2": ('train.mode="async"', "train.staleness=2"),
    "async, staleness 2, finished": (
        *('train.mode="async"', "train.staleness=2"),
        'train.order="finished"',
    ),
}


class Slow(GuessNumber):
    """Every message takes between half and one and a half times `latency` seconds to answer."""

    def __init__(self, latency: float = 0.0) -> None:
        super().__init__()
        self.latency, self._clock = latency, random.Random(0)

    def setup(self, rng: random.Random) -> str:
        """The game's; the delays are the task's own too."""
        self._clock = random.Random(rng.random())
        return super().setup(rng)

    def step(self, action: Action) -> Step:
        """The game's, later."""
        time.sleep(self.latency * self._clock.uniform(0.5, 1.5))
        return super().step(action)


def odd(trajectory: Trajectory) -> float:
    """The share of sampled ids of odd number: something that any policy can learn."""
    ids = [
        i
        for segment in trajectory.segments
        for i, turn in zip(segment.token_ids, segment.turn_ids, strict=True)
        if turn >= 0
    ]
    return sum(i % 2 for i in ids) / len(ids)


@needs(Needs(columns=("behaviour",)))
def distant(tokens: Tokens) -> TokenLoss:
    """Decoupled PPO on a device that takes `UPDATE` seconds; a batch is one micro-batch here."""
    time.sleep(UPDATE)
    return decoupled(tokens)


def measure(here: Path, name: str, latency: float, *words: str, small: bool = False) -> Any:
    """Seconds a step and how they were spent, over all steps of one run."""
    from foldgym.config import TrainRun, parse
    from foldgym.trainers.train import train

    sizes = {"steps": 2, "groups": 1, "size": 2} if small else {}
    sizes = {"steps": STEPS, "groups": GROUPS, "size": SIZE, **sizes}
    text = TRAIN.format(here=here, name=name, latency=latency, turns=TURNS, **sizes)
    run = parse(TrainRun, text, words)
    ends: list[float] = []
    began = time.perf_counter()
    folder = train(run, lambda step, steps, line: ends.append(time.perf_counter()))
    lines = [
        [json.loads(line) for line in (folder / file).read_text("utf-8").splitlines()]
        for file in ("metrics.jsonl", "timings.jsonl")
    ]
    spent = ends[-1] - began
    total = sum(row["wait"] + row["update"] + row["publish"] for row in lines[1])
    return {
        "seconds_a_step": round(spent / len(ends), 3),
        "learner_waits": round(sum(row["wait"] for row in lines[1]) / total, 3),
        "overlap": round(sum(row["overlap"] for row in lines[1]) / total, 3),
        "update_seconds": round(fmean(row["update"] for row in lines[1]), 3),
        "staleness_mean": round(fmean(row.get("staleness/mean", 0.0) for row in lines[0]), 3),
        "staleness_max": max(row.get("staleness/max", 0.0) for row in lines[0]),
        "mixed": round(fmean(row.get("staleness/mixed", 0.0) for row in lines[0]), 3),
        "dropped_groups": sum(row.get("staleness/dropped", 0.0) for row in lines[0]),
    }


def run(small: bool = False) -> dict[str, Any]:
    """All modes at all latencies, one after another; torch has one thread in each place."""
    from foldgym.config import SftRun, parse
    from foldgym.trainers.sft import sft

    found: dict[str, Any] = {
        "episodes_a_step": GROUPS * SIZE,
        "turns": TURNS,
        "steps": STEPS,
        "update_seconds_at_least": UPDATE,
    }
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        sft(parse(SftRun, CLONE.format(here=here, **TINY)))
        for latency in LATENCIES[:1] if small else LATENCIES:
            table: dict[str, Any] = {}
            for number, (mode, words) in enumerate(MODES.items()):
                name = f"{latency}-{number}"
                table[mode] = measure(here, name, latency, *words, small=small)
            sync = table["sync"]["seconds_a_step"]
            for row in table.values():
                row["of_sync"] = round(row["seconds_a_step"] / sync, 2)
            found[f"latency {latency:g} s"] = table
    return found
