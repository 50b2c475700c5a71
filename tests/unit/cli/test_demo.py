"""The main job, small: what it writes, that a seed decides it, and that nothing is overwritten."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foldgym.cli import demo
from foldgym.cli.main import main
from foldgym.records import RecordReader

TINY_CLONE = ("sft.steps=4", "sft.batch=4", "tokenizer.episodes=60", "sft.warmup=0")
TINY_TRAIN = (
    *("train.steps=2", "train.groups=2", "train.group_size=2", "train.checkpoint_every=1"),
    *("train.eval_every=2", "train.eval_episodes=2", "rollout.max_turns=3"),
)


def check(folder: Path, tasks: int) -> dict[str, Any]:
    """What every demo leaves behind."""
    report = json.loads((folder / "report.json").read_text())
    assert set(report["worlds"]) == {"fictional", "pydocs"}
    for world in report["worlds"].values():
        for side in (world["before"], world["after"]):
            assert side["n"] == tasks
            assert 0 <= side["low"] <= side["success"] <= side["high"] <= 1
        gain = world["after"]["success"] - world["before"]["success"]
        assert world["difference"]["low"] <= gain <= world["difference"]["high"]
        assert world["difference"]["mean"] == pytest.approx(gain)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(math.isfinite(v) for row in rows for v in row.values() if isinstance(v, float))
    assert max(row.get("logprob_gap_max", 0.0) for row in rows) < 1e-4
    assert (folder / "run.toml").is_file()
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    records = list(RecordReader(folder / "trajectories.jsonl"))
    assert {record.trajectory.env.split("/")[1] for record in records} == {
        *("FictionalSearch-v0", "PyDocsSearch-v0"),
    }
    return report


def test_a_seed_decides_the_demo_and_earlier_results_are_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "SMOKE_CLONE", TINY_CLONE)
    monkeypatch.setattr(demo, "SMOKE_TRAIN", TINY_TRAIN)
    monkeypatch.setattr(demo, "SMOKE_TASKS", 4)
    folder = tmp_path / "demo"
    words = ["demo", "--smoke", "--threads", "1", "--output", str(folder)]
    reports = []
    for _ in range(2):
        assert main(words) == 0
        reports.append(check(folder, 4))
    aside = tmp_path / "demo.1"
    assert f"are now in {aside}" in capsys.readouterr().err
    assert (aside / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    assert (aside / "clone/metrics.jsonl").read_bytes() == (
        folder / "clone/metrics.jsonl"
    ).read_bytes()
    assert reports[0]["worlds"] == reports[1]["worlds"]
    assert main([*words, "--seed", "1"]) == 0
    assert (aside / "metrics.jsonl").read_bytes() != (folder / "metrics.jsonl").read_bytes()


@pytest.mark.slow
def test_the_smoke_demo_runs_from_end_to_end(tmp_path: Path) -> None:
    """On one core: the others of the suite have the rest."""
    folder = tmp_path / "demo"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "foldgym", "demo", "--smoke"),
            *("--threads", "1", "--output", str(folder)),
        ],
        capture_output=True,
        text=True,
        timeout=590,
        env={**os.environ, "PYTHONHASHSEED": "3", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    report = check(folder, demo.SMOKE_TASKS)
    assert "too short to promise a gain" in done.stdout
    assert report["smoke"] is True
    losses = [json.loads(line)["nll"] for line in (folder / "clone/metrics.jsonl").open()]
    assert sum(losses[-20:]) < 0.75 * sum(losses[:20])
