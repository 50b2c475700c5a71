"""One update on padded rows, packed rows and shared heads: places computed, seconds, peak memory.

    python -m benchmarks.run packing

Every figure is taken in a process of its own, on one core, in seconds of the processor: forward and
backward pass of a whole batch in micro-batches of at most 16,384 places, the better of two. Memory
is what the process grew by. The batches are

* `group`: a group of 8 with a common prompt of 1,500 ids and answers of 60 to 140;
* `folds`: 4 episodes of `FictionalChain` that the expert plays through a memory that folds five
  times, chat template and descriptions of the tools included;
* `mixed`: 24 episodes of the same world that are 1 to 12 questions long, nothing folded.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

from foldgym.types import Batch

LAYOUTS = ("padded", "packed", "shared")
CASES = ("group", "folds", "mixed")
BUDGET = 16384
EPISODES = """
output = "unused"
renderer = "{renderer}"
[[envs]]
name = "foldgym/FictionalChain-v0"
isolation = "inline"
kwargs = {kwargs}
[memory]
{memory}
[model]
hidden = 32
layers = 1
[tokenizer]
vocab_size = 500
episodes = 20
[sft]
steps = 1
batch = {episodes}
"""
FOLDS = """
use = "summarise"
max_context = 700
reserve = 100
soft = 0.72
max_tokens = 80
instruction = "note"
title = ""
"""
WHOLE = 'use = "full"\nmax_context = 4096'


def run() -> dict[str, Any]:
    """Per batch: its rows, and what each layout makes of them."""
    return {case: compared(case) for case in CASES}


def compared(case: str) -> dict[str, Any]:
    """All layouts on one batch, and ratios to the padded one."""
    found: dict[str, dict[str, float]] = {}
    for layout in LAYOUTS:
        command = [sys.executable, "-m", __name__, case, layout]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found[layout] = json.loads(done.stdout)
    rows = {key: found["padded"].pop(key) for key in ("rows", "longest", "ids", "unique")}
    for layout in LAYOUTS:
        for key in ("rows", "longest", "ids", "unique"):
            found[layout].pop(key, None)
        found[layout]["computed_per_unique"] = found[layout]["computed"] / rows["unique"]
        for key in ("seconds", "megabytes"):
            found[layout][f"{key}_of_padded"] = found[layout][key] / found["padded"][key]
    return {**rows, **found}


def measure(case: str, layout: Any) -> dict[str, float]:
    """One layout on one batch, in this process."""
    import torch

    from foldgym.agents.engines.models import init_model
    from foldgym.trainers.batch import take
    from foldgym.trainers.layout import computed, layout_of
    from foldgym.trainers.reading import Reader

    torch.set_num_threads(1)
    batch = BATCHES[case]()
    model = init_model(
        vocab_size=512, hidden=256, layers=2, heads=8, mlp=768, rope_theta=1e4, max_positions=4096
    )
    reader = Reader(model, layout=layout_of(layout, model), chunk=2048)
    before = _peak()

    def update() -> float:
        model.zero_grad(set_to_none=True)
        start = time.process_time()
        for rows in reader.parts(batch, BUDGET):
            tokens = reader.read(take(batch, rows)).tokens
            (tokens.weight_N * tokens.logp_N).sum().backward()
        return time.process_time() - start

    seconds = min(update() for _ in range(2))
    parts = [take(batch, rows) for rows in reader.parts(batch, BUDGET)]
    heads = {tuple(ids[:length].tolist()) for ids, length in _rows(batch)}
    unique = len({head[: t + 1] for head in heads for t in range(len(head))})
    return {
        "rows": batch.rows,
        "longest": int(batch.length_B.max()),
        "ids": int(batch.length_B.sum()),
        "unique": unique,
        "computed": sum(computed(reader.layout, part) for part in parts),
        "micro_batches": len(parts),
        "seconds": seconds,
        "megabytes": _peak() - before,
    }


def group() -> Batch:
    """A group of 8 with a long common prompt."""
    rng = np.random.default_rng(0)
    rows: list[Any] = []
    trained: list[int] = []
    prompt = rng.integers(0, 512, 1500)
    for _ in range(8):
        trained.append(int(rng.integers(60, 141)))
        rows.append(np.concatenate([prompt, rng.integers(0, 512, trained[-1])]))
    length_B = np.array([len(row) for row in rows])
    ids_BT = np.zeros((8, int(length_B.max())), np.int64)
    turn_BT, zero_BT = np.full(ids_BT.shape, -1), np.zeros(ids_BT.shape)
    for b, (row, last) in enumerate(zip(rows, trained, strict=True)):
        ids_BT[b, : len(row)] = row
        turn_BT[b, len(row) - last : len(row)] = 0
    weight_BT = (turn_BT >= 0) / sum(trained)
    number_B = np.arange(8)
    return Batch(
        ids_BT, turn_BT, zero_BT, turn_BT, zero_BT, weight_BT, length_B, number_B, number_B // 8
    )


def played(renderer: str, memory: str, kwargs: str, episodes: int) -> Batch:
    """Episodes of the chain as its expert plays them through a memory."""
    from foldgym.config import SftRun, parse
    from foldgym.trainers.batch import make_batch
    from foldgym.trainers.sft import expert, new_actor
    from foldgym.trainers.wiring import worlds

    text = EPISODES.format(renderer=renderer, memory=memory, kwargs=kwargs, episodes=episodes)
    run = parse(SftRun, text)
    mix = worlds(run.envs)
    return make_batch(expert(run, mix, new_actor(run, mix))(1))


BATCHES = {
    "group": group,
    "folds": lambda: played("chatml", FOLDS, "{questions = 11, top_k = 3}", 4),
    "mixed": lambda: played("compact", WHOLE, f"{{questions = {[1] * 12}, top_k = 3}}", 24),
}


def _rows(batch: Batch) -> Any:
    return zip(batch.ids_BT, batch.length_B, strict=True)


def _peak() -> float:
    """The most memory this process had so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2])))
