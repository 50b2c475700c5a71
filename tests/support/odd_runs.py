"""Whole runs, tiny: a policy of random weights that is paid for ids of odd number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from foldgym.config import SftRun, TrainRun, parse
from foldgym.records import JsonlReader
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
layers = 1
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
RUN = """
output = "{output}"
[policy]
path = "{here}/sft"
[[envs]]
name = "foldgym/GuessNumber-v0"
[rollout]
max_tokens = 6
max_turns = 3
[optim]
lr = 1e-2
warmup = 2
[train]
steps = 4
groups = 2
group_size = 4
checkpoint_every = 2
"""
PAID = """
[reward]
terms = [{{name = "odd", use = "{here}/odd.py:odd"}}]
"""


class Stopped(Exception):
    """Stands in for whatever ends a process."""


def make_policy(here: Path, *overrides: str) -> Path:
    """`here/sft`: a run folder whose model has seen next to nothing."""
    torch.set_num_threads(1)
    (here / "odd.py").write_text(ODD)
    return sft(parse(SftRun, SFT.format(here=here), overrides)).parents[1]


def text(here: Path, output: Path, sections: str | None = None) -> str:
    """The run file as TOML, with the reward for odd ids or with other `sections`."""
    more = PAID.format(here=here) if sections is None else sections
    return RUN.format(here=here, output=output) + more


def run_file(here: Path, output: Path, *overrides: str, sections: str | None = None) -> TrainRun:
    """Four steps of two groups of four, by the policy and the reward in `here`."""
    return parse(TrainRun, text(here, output, sections), overrides)


def stopped(run: TrainRun, at: int) -> Path:
    """The folder of a run that was stopped after step `at`."""

    def stop(step: int, steps: int, line: str) -> None:
        if step == at:
            raise Stopped

    try:
        train(run, stop)
    except Stopped:
        return Path(run.output)
    raise AssertionError(f"the run was over before step {at}")


def stopped_and_resumed(here: Path, output: Path, at: int, *overrides: str) -> Path:
    """The run folder of a run that was stopped after step `at` and then resumed."""
    return resume(stopped(run_file(here, output, *overrides), at))


def weights(folder: Path, name: str = "model.safetensors") -> bytes:
    """The bytes of a file of the newest checkpoint."""
    return (latest(folder) / name).read_bytes()


def metrics(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    """What was written down of each step."""
    return list(JsonlReader(folder / name))
