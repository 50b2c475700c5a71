"""Resuming with another run file, beside another process, in a folder that is not empty."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import odd_runs
import pytest
from odd_runs import Stopped, run_file

from foldgym.errors import ConfigError, UserError
from foldgym.records import RecordReader
from foldgym.trainers.hold import Hold
from foldgym.trainers.train import resume, train

DECOUPLED = ('algorithm.loss.use="decoupled"', 'algorithm.old="recompute"')


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    odd_runs.make_policy(folder)
    return folder


def stop_after(last: int):
    def stop(step: int, steps: int, line: str) -> None:
        if step == last:
            raise Stopped

    return stop


def files(folder: Path) -> dict[str, bytes]:
    """What resuming may cut, and the run file."""
    names = ("run.toml", "metrics.jsonl", "timings.jsonl", "trajectories.jsonl")
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def stopped(here: Path) -> Path:
    """A run that ended after step 3; its newest checkpoint is of step 2."""
    with pytest.raises(Stopped):
        train(run_file(here, here / "stopped"), stop_after(3))
    return here / "stopped"


# ---------------------------------------------------------------- another run file


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((*DECOUPLED, 'replay.use="remix"'), r"\[replay\]: does not fit the state in .*000002"),
        (('algorithm.advantage.use="gae"', 'value.use="linear"'), r"\[value\]: does not fit"),
        (('sampler.use="curriculum"', 'sampler.selector="pcl"'), r"\[sampler\]: does not fit"),
        (("memory.use=recursive", "memory.max_tokens=6"), r"\[store\]: does not fit"),
        (("output=elsewhere",), r"output: has no effect: the run goes on in .*stopped"),
    ],
    ids=["replay", "value", "sampler", "store", "output"],
)
def test_what_has_state_in_the_checkpoint_cannot_change(
    stopped: Path, overrides: tuple[str, ...], message: str
) -> None:
    before = files(stopped)
    with pytest.raises(ConfigError, match=message):
        resume(stopped, None, overrides)
    assert files(stopped) == before  # what came after the checkpoint too


def test_episodes_that_a_run_no_longer_keeps_are_not_thrown_away(
    here: Path, tmp_path: Path
) -> None:
    folder = train(run_file(here, tmp_path / "run", "train.steps=2"))
    resume(folder, None, ["train.steps=4", "train.trajectories=false"])
    resume(folder, None, ["train.steps=5", "train.trajectories=true"])
    found = {record.notes["step"] for record in RecordReader(folder / "trajectories.jsonl")}
    assert found == {1, 2, 5}


def test_the_first_checkpoint_is_not_written_again(here: Path, tmp_path: Path) -> None:
    """A run that is killed while it does so would have lost the only one."""
    folder = tmp_path / "run"
    with pytest.raises(Stopped):
        train(run_file(here, folder), stop_after(1))
    first = (folder / "checkpoints" / "step-000000").stat()
    with pytest.raises(Stopped):
        resume(folder, stop_after(1))
    now = (folder / "checkpoints" / "step-000000").stat()
    assert (now.st_ino, now.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)


def test_a_store_is_not_read_ahead_of_what_writes_it(here: Path, tmp_path: Path) -> None:
    stale = ('train.mode="async"', *DECOUPLED, "memory.use=recursive", "memory.max_tokens=6")
    with pytest.raises(ConfigError, match=r"train.staleness: RecursiveSummary keeps a store"):
        train(run_file(here, tmp_path / "run", *stale))
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- another process

HOLDS = """
import os, sys, time
from pathlib import Path
from foldgym.trainers.hold import Hold
hold = Hold(Path(sys.argv[1]))
child = os.fork()
if child:
    print(child, flush=True)
time.sleep(60)
"""


def test_a_folder_is_one_process_s_until_that_ends(stopped: Path, here: Path) -> None:
    """However it ends, and whoever it leaves behind."""
    before = files(stopped)
    command = [sys.executable, "-c", HOLDS, str(stopped)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        orphan = int(other.stdout.readline())
        try:
            with pytest.raises(UserError, match=rf"another process .*\(number {other.pid}\)"):
                resume(stopped)
            assert files(stopped) == before
        finally:
            other.kill()
            other.wait()
        try:
            Hold(stopped).release()
            os.kill(orphan, 0)  # still there
        finally:
            os.kill(orphan, signal.SIGKILL)


def test_a_new_run_waits_for_nobody_s_folder(here: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        orphan = int(other.stdout.readline())
        try:
            with pytest.raises(UserError, match="another process is at work"):
                train(run_file(here, tmp_path / "run"))
            assert [p.name for p in (tmp_path / "run").iterdir()] == [".lock"]
        finally:
            other.kill()
            os.kill(orphan, signal.SIGKILL)


@pytest.mark.parametrize("name", ["metrics.jsonl", "trajectories.jsonl", "checkpoints/step-000009"])
def test_a_folder_with_something_else_is_left_alone(here: Path, tmp_path: Path, name: str) -> None:
    left = tmp_path / "run" / name
    left.parent.mkdir(parents=True)
    left.write_text("{}\n")
    with pytest.raises(ConfigError, match=rf"{name.partition('/')[0]} is there already"):
        train(run_file(here, tmp_path / "run"))
    assert left.read_text() == "{}\n"
