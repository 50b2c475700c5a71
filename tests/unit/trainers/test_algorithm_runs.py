"""Whole runs of the parts that keep state: they learn nothing great here, but resume exactly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foldgym.config import SftRun, TrainRun, parse
from foldgym.errors import ConfigError
from foldgym.records import JsonlReader
from foldgym.trainers.checkpoint import latest
from foldgym.trainers.sft import sft
from foldgym.trainers.train import resume, train

WORLD = 'name = "foldgym/GuessNumber-v0"\nkwargs = {high = 8}'


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Path:
    """A policy that mostly writes a readable call."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("policy")
    text = f"""
    output = "{folder / "sft"}"
    [[envs]]
    {WORLD}
    [model]
    hidden = 32
    layers = 1
    heads = 2
    head_dim = 16
    mlp = 32
    [tokenizer]
    vocab_size = 290
    episodes = 30
    [sft]
    steps = 200
    batch = 16
    warmup = 0
    """
    sft(parse(SftRun, text))
    return folder / "sft"


def run_file(policy: Path, output: Path, *overrides: str) -> TrainRun:
    text = f"""
    output = "{output}"
    [policy]
    path = "{policy}"
    [[envs]]
    {WORLD}
    [rollout]
    max_tokens = 8
    max_turns = 3
    [optim]
    lr = 1e-3
    warmup = 0
    [train]
    steps = 5
    groups = 3
    group_size = 4
    checkpoint_every = 1
    trajectories = false
    """
    return parse(TrainRun, text, overrides)


def rows(folder: Path) -> list[dict]:
    return list(JsonlReader(folder / "metrics.jsonl"))


class Stopped(Exception):
    """Stands in for whatever ends a process."""


SEQUENCES = "algorithm.aggregation=seq-mean-token-mean"
RUNS = {
    "remix": (
        "algorithm.loss.use=remix",
        "algorithm.loss.reincarnate=4",
        "algorithm.old=recompute",
        "replay.use=remix",
        "replay.until=4",
        "optim.epochs=2",
    ),
    "spear": ("replay.use=spear", "replay.size=2", "replay.steps=4", "algorithm.entropy=0.01"),
    "gae": ("algorithm.advantage.use=gae", "value.use=linear", "value.warmup=1"),
    "pacs": ("algorithm.loss.use=pacs", "algorithm.advantage.use=none", SEQUENCES),
    "tis": (
        "algorithm.loss.use=bapo",
        "algorithm.mismatch.use=tis",
        "algorithm.old=recompute",
        "algorithm.tokens.use=d3s",
        "algorithm.tokens.steps=4",
        "optim.minibatches=2",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_resumes_bit_equal(name: str, policy: Path, tmp_path: Path) -> None:
    def stop(step: int, steps: int, line: str) -> None:
        if step == 3:
            raise Stopped

    whole = train(run_file(policy, tmp_path / "whole", *RUNS[name]))
    with pytest.raises(Stopped):
        train(run_file(policy, tmp_path / "broken", *RUNS[name]), stop)
    again = resume(tmp_path / "broken")
    assert (again / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    one, two = ((latest(f) / "model.safetensors").read_bytes() for f in (whole, again))
    assert one == two
    found = rows(whole)
    if name == "remix":  # three fresh groups of four; two old ones join from the second step on
        assert [row["replayed"] for row in found] == [0, 8, 8, 8, 0]
    if name == "spear":
        assert max(row["replayed"] for row in found) > 0
    if name == "gae":
        assert [row.get("skipped_updates", 0) for row in found] == [1] * 5
        assert "grad_norm" not in found[0]
        assert "value_loss" in found[-1]
    if name == "pacs":
        assert "told_apart" in found[-1]
    if name == "tis":
        assert 0 < found[0]["loss_scale"] < 0.5
        assert found[-1]["loss_scale"] == pytest.approx(1, abs=1e-4)


def test_a_run_that_cannot_mean_what_it_says_leaves_nothing_behind(
    policy: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="both parts are needed"):
        train(run_file(policy, tmp_path / "run", "algorithm.advantage.use=dr_grpo"))
    assert not (tmp_path / "run").exists()
