"""SIGKILL at random moments, resume, and compare with the run that was never disturbed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import odd_runs
import pytest
from odd_runs import metrics, weights

from foldgym.config import TrainRun, load
from foldgym.records import RecordReader
from foldgym.trainers.train import train


def foldgym(*words: str) -> list[str]:
    return [sys.executable, "-m", "foldgym", *words]


CURRICULUM = """
[sampler]
use = "curriculum"
arms = [{name = "few", kwargs = {high = 4}}, {name = "many", kwargs = {high = 60}}]
source = "fixed"
selector = {use = "sec", tau = 0.3}
schedule = {use = "tti", every = 4, low = 2}
rescue = {use = "fission", n = 2, members = 1}
rescue_share = 1.0
"""
REMIX = """
[algorithm]
old = "recompute"
loss = {use = "decoupled"}
[replay]
use = "remix"
"""
NOW = 'train.mode="async"', "train.staleness=0"
AHEAD = 'train.mode="async"', "train.staleness=2"
LONG = ("train.steps=40", "train.groups=4", "train.checkpoint_every=3", "policy.threads=1")


def run_file(here: Path, output: Path, sections: str = "") -> Path:
    """A run of 40 steps of four groups."""
    file = output.with_suffix(".toml")
    file.write_text(odd_runs.text(here, output) + sections)
    return file


def interrupted(command: list[str], folder: Path, sent: signal.Signals, wait: float) -> int:
    """What a run exits with that gets a signal so long after its next step."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    # a fresh process spends most of its life importing: wait until this one trains
    lines, deadline = rows(folder), time.monotonic() + 120
    while rows(folder) <= lines and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(wait)
    child.send_signal(sent)
    try:
        child.communicate(timeout=60)
    finally:
        child.kill()
    return child.returncode


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kills", "sections", "overrides"),
    [
        ("sync", 3, "", ()),
        ("curriculum", 2, CURRICULUM + REMIX, ("train.steps=24", *NOW)),
    ],
)
def test_kills_at_random_moments_change_nothing(
    here: Path, tmp_path: Path, name: str, kills: int, sections: str, overrides: tuple[str, ...]
) -> None:
    """In asynchronous mode without staleness too: what is not interrupted is synchronous."""
    plain = [word for word in overrides if word not in NOW]
    whole = train(load(TrainRun, run_file(here, tmp_path / "whole", sections), [*LONG, *plain]))

    rng = random.Random(name)
    killed = tmp_path / "killed"
    command = foldgym("train", str(run_file(here, killed, sections)), *LONG, *overrides)
    for _ in range(kills):
        code = interrupted(command, killed, signal.SIGKILL, rng.uniform(0, 0.4))
        assert code == -signal.SIGKILL, "it was over before it was killed"
        command = foldgym("train", "--resume", str(killed))
    assert rows(killed) < rows(whole)
    subprocess.run(command, check=True, capture_output=True)

    assert weights(whole) == weights(killed)
    file = "metrics.jsonl"
    assert (whole / file).read_bytes() == (killed / file).read_bytes()
    assert len(metrics(killed)) == rows(whole)
    a, b = ([r.trajectory for r in RecordReader(f / "trajectories.jsonl")] for f in (whole, killed))
    assert a == b


@pytest.mark.slow
def test_whatever_ends_a_stale_run_no_task_is_lost_or_played_twice(
    here: Path, tmp_path: Path
) -> None:
    """Every step trains on the tasks that the synchronous run plays in it, each once."""
    more = ("train.steps=16", "algorithm.old=recompute", "algorithm.loss.use=decoupled")
    whole = train(load(TrainRun, run_file(here, tmp_path / "whole"), [*LONG, *more]))
    ended = tmp_path / "ended"
    command = foldgym("train", str(run_file(here, ended)), *LONG, *more, *AHEAD)
    for sent, expected in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        assert interrupted(command, ended, sent, 0.1) == expected
        command = foldgym("train", "--resume", str(ended))
    assert rows(ended) < 16
    subprocess.run(command, check=True, capture_output=True)

    def tasks(folder: Path) -> list[tuple[int, str]]:
        records = RecordReader(folder / "trajectories.jsonl")
        return sorted((record.notes["step"], record.trajectory.id) for record in records)

    assert tasks(ended) == tasks(whole)
    found = metrics(ended)
    assert [row["step"] for row in found] == list(range(1, 17))
    assert max(row["staleness/max"] for row in found) <= 2


def rows(folder: Path) -> int:
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
