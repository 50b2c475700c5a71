"""One whole update of foldgym and of TRL, at equal tokens; see `suites.trl`."""

from __future__ import annotations

import itertools
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.suites.trl import Found, config, theirs
from benchmarks.suites.trl_worlds import Vowels, vowels


def step_of_ours(folder: str, steps: int) -> Found:
    """`foldgym train`, one turn an episode."""
    from foldgym.config import TrainRun, parse
    from foldgym.trainers.train import train

    laps: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as out:
        text = f"""
        output = "{out}/run"
        [policy]
        path = "{folder}"
        threads = 1
        [[envs]]
        name = "{Path(__file__).parent / "trl_worlds.py"}:Vowels"
        [memory]
        max_context = 512
        [rollout]
        max_tokens = 64
        max_turns = 1
        [optim]
        lr = 1e-4
        [train]
        steps = {steps}
        groups = 1
        group_size = 16
        checkpoint_every = 0
        trajectories = false
        """
        run = parse(TrainRun, text)

        def lap(step: int, of: int, numbers: str) -> None:
            laps.append((time.perf_counter(), time.process_time()))

        train(run, lap)
        lines = (Path(out) / "run" / "metrics.jsonl").read_text().splitlines()
        tokens = [json.loads(line).get("tokens", 0.0) for line in lines]
    return step_figures(laps, tokens)


def step_of_trl(folder: str, steps: int) -> Found:
    """GRPOTrainer without environments: the same prompts, the same reward."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback

    torch.set_num_threads(1)
    laps: list[tuple[float, float]] = []
    rows: list[Found] = []
    for seed in range(steps):
        observation, _ = Vowels().reset(seed=seed)
        rows.append({"prompt": [{"role": "user", "content": observation[0].text}]})

    def reward(completions: Any, **_: Any) -> list[float]:
        return [vowels(said[0]["content"]) for said in completions]

    class Laps(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            laps.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as out:
        args = config(
            out, 16, max_steps=steps, max_completion_length=64, learning_rate=1e-4, logging_steps=1
        )
        trainer = theirs().GRPOTrainer(
            folder, reward, args, Dataset.from_list(rows), callbacks=[Laps()]
        )
        trainer.train()
    logged = [each for each in trainer.state.log_history if "completions/mean_length" in each]
    return step_figures(laps, [16 * each["completions/mean_length"] for each in logged])


def step_figures(laps: list[tuple[float, float]], tokens: list[float]) -> Found:
    """Seconds between the ends of updates, without the first, and the peak of the process."""
    pairs = list(itertools.pairwise(laps))
    return {
        "seconds": [late[0] - early[0] for early, late in pairs],
        "processor_seconds": [late[1] - early[1] for early, late in pairs],
        "tokens": statistics.fmean(tokens[1:]),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


SYSTEMS = {"foldgym": step_of_ours, "trl": step_of_trl}
