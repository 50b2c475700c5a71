"""A run that is killed leaves nothing that `foldgym sandbox reap` does not clear away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from foldgym.cli.main import main
from foldgym.containers import BoxSpec, available, find, open_box, reap
from foldgym.containers.labels import state_folder
from foldgym.containers.opening import choose
from foldgym.containers.processes import everyone
from foldgym.errors import SandboxError, UserError

pytestmark = pytest.mark.skipif(available("process") != "", reason="boxes need Linux and bash")

_RUN = """
import os, sys, time
from foldgym.containers import BoxSpec, open_box
spec = BoxSpec(untrusted=False, run="doomed")
boxes = [open_box(spec, sys.argv[1]) for _ in range(int(sys.argv[2]))]
for box in boxes:
    box.exec("S & setsid S & (env -i setsid S &)".replace("S", "sleep " + os.environ["NAP"]))
print("up", flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="boxes-") as name:  # pytest's own lets nobody else in
        folder = Path(name)
        folder.chmod(0o711)
        monkeypatch.setenv("FOLDGYM_STATE", name)
        yield folder


_NAP = f"777.{os.getpid()}"  # seconds; who sleeps so long is of this test, not of another worker's


def _sleepers() -> int:
    count = 0
    for process in everyone():
        try:
            count += _NAP.encode() in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
    return count


@pytest.mark.parametrize(
    ("backend", "boxes"),
    [
        ("bubblewrap", 4),
        ("process", 4),
        pytest.param("bubblewrap", 32, marks=pytest.mark.slow),
        pytest.param("docker", 32, marks=(pytest.mark.docker, pytest.mark.slow)),
    ],
)
def test_a_killed_run_leaves_nothing(
    backend: str, boxes: int, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        choose(backend, BoxSpec())
    except UserError as problem:
        pytest.skip(str(problem))
    run = subprocess.Popen(
        [sys.executable, "-c", _RUN, backend, str(boxes)],
        stdout=subprocess.PIPE,
        env={**os.environ, "NAP": _NAP},
    )
    assert run.stdout is not None
    with run.stdout:
        assert run.stdout.readline() == b"up\n"
        assert main(["sandbox", "list", "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)
        assert [(each["run"], each["owner"]) for each in listed] == [("doomed", run.pid)] * boxes
        assert not any(each["orphan"] for each in listed)
        assert reap() == []  # whose run lives is left alone
        until = time.monotonic() + 60
        while _sleepers() < 3 * boxes and time.monotonic() < until:  # some are shells yet
            time.sleep(0.05)
        assert _sleepers() == 3 * boxes
        run.kill()
        run.wait()
    assert main(["sandbox", "reap"]) == 0
    assert capsys.readouterr().out.startswith(f"reaped {boxes} boxes")
    until = time.monotonic() + 60
    while _sleepers() and time.monotonic() < until:  # the kernel may still be ending them
        time.sleep(0.05)
    assert _sleepers() == 0
    assert find() == []  # no container either
    assert list(state_folder().iterdir()) == []


def test_a_folder_without_a_label_is_told_by_its_name() -> None:
    early = state_folder() / "999999999-1-abc"
    early.mkdir()
    foreign = state_folder() / "notes"
    foreign.mkdir()
    assert [each.folder for each in reap()] == [early]
    assert not early.exists()
    assert foreign.exists()


def test_a_state_folder_of_somebody_else_is_refused(state: Path) -> None:
    folder = state / f"foldgym-boxes-{os.getuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(SandboxError, match="not ours alone"):
        open_box(BoxSpec(untrusted=False), "process")


def test_the_doctor_times_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sandbox", "doctor", "--commands", "3", "--json"]) in (0, 1)
    rows = {row["backend"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["process"]["ok"]
    assert "isolates nothing" in rows["process"]["detail"]
    assert rows["process"]["command"] > 0
    assert rows["process"]["start"] > 0
    assert main(["sandbox", "list"]) == 0
    assert capsys.readouterr().out == "no boxes\n"


def test_a_wrong_command_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sandbox", "rep"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
