"""Several processes of a command end together, and the first failure is the one that is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from foldgym.cli import processes
from foldgym.cli.main import main
from foldgym.cli.processes import run, start
from foldgym.errors import UserError


@pytest.fixture
def alone(monkeypatch):
    """Not one of several processes already, and with cores enough."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)


@pytest.mark.parametrize("count", ["0", "-1", "1"])
def test_one_process_is_not_several(alone, count, tmp_path, capsys):
    assert main(["train", str(tmp_path / "run.toml"), f"--processes={count}"]) == 2
    assert "several processes are at least 2" in capsys.readouterr().err


def test_more_processes_than_cores_are_refused(alone):
    with pytest.raises(UserError, match="--processes 100: this machine has 4 cores"):
        start(["train"], 100)


def test_a_launcher_inside_a_launcher_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="leave one of both out"):
        start(["train"], 2)


def test_what_both_find_wrong_is_said_once(alone, tmp_path, capfd):
    assert start(["train", str(tmp_path / "none.toml")], 2) == 2
    said = capfd.readouterr().err
    assert said.count("error:") == 1
    assert "none.toml" in said


RANKS = """
import os, pathlib, signal, sys, time
try:
    sys.stdout.write("%d %s %s\\n" % (os.getpid(), os.environ["RANK"], os.environ["WORLD_SIZE"]))
    sys.stdout.flush()
    here = pathlib.Path(sys.argv[2])
    (here / os.environ["RANK"]).touch()
    while len(list(here.iterdir())) < 2:  # nobody ends before all are here
        time.sleep(0.005)
    if os.environ["RANK"] == sys.argv[1]:
        {end}
    time.sleep(600)
except KeyboardInterrupt:
    print("asked to leave", flush=True)
    sys.exit(130)
"""


@pytest.fixture
def command(tmp_path) -> Callable[..., list[str]]:
    """What `rank` ends by itself; all others wait."""

    def words(end: str, rank: int = 1) -> list[str]:
        (tmp_path / "ranks").mkdir()
        return [sys.executable, "-c", RANKS.format(end=end), str(rank), str(tmp_path / "ranks")]

    return words


def ranks_in(said: str) -> dict[str, int]:
    """Process numbers by rank."""
    rows = [line.split() for line in said.splitlines() if line.endswith(" 2")]
    return {rank: int(number) for number, rank, _ in rows}


def gone(number: int) -> bool:
    """Whether a process ends (a zombie has ended)."""
    for _ in range(600):
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.1)
    return False


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Rank 0 is asked at once."""
    monkeypatch.setattr(processes, "_NOTICE", 0.0)


def test_when_another_is_killed_rank_0_may_leave_in_order(command, capfd):
    assert run(command("os.kill(os.getpid(), signal.SIGKILL)"), 2) == 128 + signal.SIGKILL
    said = capfd.readouterr()
    assert sorted(ranks_in(said.out)) == ["0", "1"]
    assert "asked to leave" in said.out
    assert "process 1 of 2 was killed from outside (SIGKILL)" in said.err
    assert all(gone(number) for number in ranks_in(said.out).values())


def test_when_another_fails_its_exit_code_counts(command, capfd):
    assert run(command("sys.exit(70)"), 2) == 70
    assert "killed" not in capfd.readouterr().err


def test_when_rank_0_ends_all_is_over(command, capfd):
    assert run(command("sys.exit(2)", rank=0), 2) == 2
    assert all(gone(number) for number in ranks_in(capfd.readouterr().out).values())


def test_all_well_is_zero():
    assert run([sys.executable, "-c", ""], 2) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_nobody_outlives_who_started_them(command, number):
    words = [
        sys.executable,
        "-c",
        f"from foldgym.cli.processes import run; run({command('pass')!r}, 2)",
    ]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout
        ranks = ranks_in(launcher.stdout.readline() + launcher.stdout.readline())
        launcher.send_signal(number)
        rest = launcher.stdout.read()
    assert sorted(ranks) == ["0", "1"]
    assert all(gone(each) for each in ranks.values())
    assert ("asked to leave" in rest) == (number != signal.SIGKILL)
