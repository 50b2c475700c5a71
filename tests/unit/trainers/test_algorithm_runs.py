"""Whole runs of the parts that keep state: they learn nothing great here, but resume exactly."""

from __future__ import annotations

from pathlib import Path

import odd_runs
import pytest
from odd_runs import metrics, stopped, weights

from foldgym.config import TrainRun
from foldgym.errors import ConfigError
from foldgym.trainers.train import resume, train


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A policy that mostly writes a readable call."""
    folder = tmp_path_factory.mktemp("here")
    clone = ("tokenizer.episodes=30", "sft.steps=200", "sft.batch=16", "envs.0.kwargs.high=8")
    odd_runs.make_policy(folder, *clone)
    return folder


def run_file(here: Path, output: Path, *overrides: str) -> TrainRun:
    own = ("envs.0.kwargs.high=8", "rollout.max_tokens=8", "optim.lr=1e-3", "optim.warmup=0")
    few = ("train.steps=5", "train.groups=3", "train.checkpoint_every=1")
    return odd_runs.run_file(
        here, output, *own, *few, "train.trajectories=false", *overrides, sections=""
    )


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
def test_a_stopped_run_resumes_bit_equal(name: str, here: Path, tmp_path: Path) -> None:
    whole = train(run_file(here, tmp_path / "whole", *RUNS[name]))
    again = resume(stopped(run_file(here, tmp_path / "broken", *RUNS[name]), 3))
    assert (again / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert weights(whole) == weights(again)
    found = metrics(whole)
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
    here: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="both parts are needed"):
        train(run_file(here, tmp_path / "run", "algorithm.advantage.use=dr_grpo"))
    assert not (tmp_path / "run").exists()
