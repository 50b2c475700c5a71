"""Whole runs, tiny: a policy of random weights that is paid for ids of odd number."""

from __future__ import annotations

from pathlib import Path

import torch

from foldgym.config import SftRun, TrainRun, parse
from foldgym.trainers.checkpoint import latest
from foldgym.trainers.sft import sft
from foldgym.trainers.train import resume, train

ODD = """
def odd(trajectory):
    ids = [i for s in trajectory.segments for i, k in zip(s.token_ids, s.turn_ids) if k >= 0]
    return sum(i % 2 for i in ids) / len(ids)
"""
SFT = """
output = "{here}/sft"
[[envs]]
name = "foldgym/GuessNumber-v0"
[model]
hidden = 32
layers = 2
heads = 2
head_dim = 16
mlp = 32
[tokenizer]
vocab_size = 290
episodes = 10
[sft]
steps = 2
batch = 2
warmup = 0
"""
TRAIN = """
output = "{output}"
[policy]
path = "{here}/sft"
[[envs]]
name = "foldgym/GuessNumber-v0"
[rollout]
max_tokens = 6
max_turns = 3
[reward]
terms = [{{name = "odd", use = "{here}/odd.py:odd"}}]
[optim]
lr = 1e-2
warmup = 2
[train]
steps = 4
groups = 2
group_size = 4
checkpoint_every = 2
"""


class Stopped(Exception):
    """Stands in for whatever ends a process."""


def make_policy(here: Path, *overrides: str) -> Path:
    """`here/sft`: a run folder whose model has seen next to nothing."""
    torch.set_num_threads(1)
    (here / "odd.py").write_text(ODD)
    return sft(parse(SftRun, SFT.format(here=here), overrides)).parents[1]


def run_file(here: Path, output: Path, *overrides: str) -> TrainRun:
    """Four steps of two groups of four."""
    return parse(TrainRun, TRAIN.format(here=here, output=output), overrides)


def stopped_and_resumed(here: Path, output: Path, at: int, *overrides: str) -> Path:
    """The run folder of a run that was stopped after step `at` and then resumed."""

    def stop(step: int, steps: int, line: str) -> None:
        if step == at:
            raise Stopped

    try:
        train(run_file(here, output, *overrides), stop)
    except Stopped:
        return resume(output)
    raise AssertionError(f"the run was over before step {at}")


def weights(folder: Path, name: str = "model.safetensors") -> bytes:
    """The bytes of a file of the newest checkpoint."""
    return (latest(folder) / name).read_bytes()
