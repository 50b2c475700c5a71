"""SIGKILL at random moments, resume, and compare with the run that was never disturbed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foldgym.records import JsonlReader, RecordReader
from foldgym.trainers.checkpoint import latest

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
TRAIN = """
output = "{here}/{name}"
[policy]
path = "{here}/sft"
threads = 1
[[envs]]
name = "foldgym/GuessNumber-v0"
[rollout]
max_tokens = 6
max_turns = 3
[reward]
terms = [{{name = "odd", use = "{here}/odd.py:odd"}}]
[optim]
lr = 1e-2
[train]
steps = 40
groups = 4
group_size = 4
checkpoint_every = 3
"""
ODD = """
def odd(trajectory):
    ids = [i for s in trajectory.segments for i, k in zip(s.token_ids, s.turn_ids) if k >= 0]
    return sum(i % 2 for i in ids) / len(ids)
"""


def foldgym(*words: str) -> list[str]:
    return [sys.executable, "-m", "foldgym", *words]


@pytest.mark.slow
def test_five_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    (tmp_path / "sft.toml").write_text(SFT.format(here=tmp_path))
    for name in ("whole", "killed"):
        (tmp_path / f"{name}.toml").write_text(TRAIN.format(here=tmp_path, name=name))
    subprocess.run(foldgym("sft", str(tmp_path / "sft.toml")), check=True, capture_output=True)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    started = time.monotonic()
    subprocess.run(foldgym("train", str(tmp_path / "whole.toml")), check=True, capture_output=True)
    took = time.monotonic() - started

    rng = random.Random(0)
    command = foldgym("train", str(tmp_path / "killed.toml"))
    for _ in range(5):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # a fresh process spends most of its life importing: wait until this one trains
        lines = rows(killed)
        deadline = time.monotonic() + 10 * took
        while rows(killed) <= lines and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.5))
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL, "it was over before it was killed"
        command = foldgym("train", "--resume", str(killed))
    assert rows(killed) < 40
    subprocess.run(command, check=True, capture_output=True)

    name = "model.safetensors"
    assert (latest(whole) / name).read_bytes() == (latest(killed) / name).read_bytes()
    name = "metrics.jsonl"
    assert (whole / name).read_bytes() == (killed / name).read_bytes()
    assert len(list(JsonlReader(killed / name))) == 40
    a, b = ([r.trajectory for r in RecordReader(f / "trajectories.jsonl")] for f in (whole, killed))
    assert a == b


def rows(folder: Path) -> int:
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
