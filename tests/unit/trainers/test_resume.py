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


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy and its reward."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "odd.py").write_text(ODD)
    (folder / "sft.toml").write_text(SFT.format(here=folder))
    subprocess.run(foldgym("sft", str(folder / "sft.toml")), check=True, capture_output=True)
    return folder


def started(here: Path, name: str, sections: str, *overrides: str) -> list[str]:
    """The command that begins a run."""
    file = here / f"{name}.toml"
    file.write_text(TRAIN.format(here=here, name=name) + sections)
    return foldgym("train", str(file), *overrides)


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
    here: Path, name: str, kills: int, sections: str, overrides: tuple[str, ...]
) -> None:
    """In asynchronous mode without staleness too: what is not interrupted is synchronous."""
    whole, killed = here / f"{name}-whole", here / f"{name}-killed"
    plain = [word for word in overrides if word not in NOW]
    command = started(here, whole.name, sections, *plain)
    subprocess.run(command, check=True, capture_output=True)

    rng = random.Random(name)
    command = started(here, killed.name, sections, *overrides)
    for _ in range(kills):
        code = interrupted(command, killed, signal.SIGKILL, rng.uniform(0, 0.4))
        assert code == -signal.SIGKILL, "it was over before it was killed"
        command = foldgym("train", "--resume", str(killed))
    assert rows(killed) < rows(whole)
    subprocess.run(command, check=True, capture_output=True)

    file = "model.safetensors"
    assert (latest(whole) / file).read_bytes() == (latest(killed) / file).read_bytes()
    file = "metrics.jsonl"
    assert (whole / file).read_bytes() == (killed / file).read_bytes()
    assert len(list(JsonlReader(killed / file))) == rows(whole)
    a, b = ([r.trajectory for r in RecordReader(f / "trajectories.jsonl")] for f in (whole, killed))
    assert a == b


@pytest.mark.slow
def test_whatever_ends_a_stale_run_no_task_is_lost_or_played_twice(here: Path) -> None:
    """Every step trains on the tasks that the synchronous run plays in it, each once."""
    options = ("train.steps=16", "algorithm.old=recompute", "algorithm.loss.use=decoupled")
    whole, ended = here / "steady", here / "ended"
    command = started(here, whole.name, "", *options)
    subprocess.run(command, check=True, capture_output=True)
    command = started(here, ended.name, "", *options, *AHEAD)
    for sent, expected in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        assert interrupted(command, ended, sent, 0.1) == expected
        command = foldgym("train", "--resume", str(ended))
    assert rows(ended) < 16
    subprocess.run(command, check=True, capture_output=True)

    def tasks(folder: Path) -> list[tuple[int, str]]:
        records = RecordReader(folder / "trajectories.jsonl")
        return sorted((record.notes["step"], record.trajectory.id) for record in records)

    assert tasks(ended) == tasks(whole)
    found = list(JsonlReader(ended / "metrics.jsonl"))
    assert [row["step"] for row in found] == list(range(1, 17))
    assert max(row["staleness/max"] for row in found) <= 2


def rows(folder: Path) -> int:
    try:
        return (folder / "metrics.jsonl").read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
