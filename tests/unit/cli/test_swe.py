"""`foldgym swe`: tasks from an archive, with a table; and what is refused, in one line."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_projects import SKETCH, sdist, wheel

from foldgym.cli.main import main
from foldgym.containers import available
from foldgym.envs.swe.task import load_tasks

pytestmark = pytest.mark.skipif(available("process") != "", reason="boxes need Linux and bash")

BACKEND = "process" if available("bubblewrap") else "bubblewrap"


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="boxes-") as name:
        Path(name).chmod(0o711)
        monkeypatch.setenv("FOLDGYM_STATE", name)
        yield


def test_make_writes_tasks_and_tells_what_it_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = sdist(tmp_path / "tally-1.5.tar.gz", SKETCH)
    bare = sdist(tmp_path / "bare-1.tar.gz", {"bare/core.py": b"x = 1\n"}, top="bare-1")
    out = tmp_path / "out"
    wheel(out / "wheels")
    words = ["swe", "make", str(bare), str(good), "--out", str(out), "--tasks", "2"]
    words += ["--bare", "--backend", BACKEND, "--operators", "swap_arithmetic", "negate_condition"]
    assert main(words) == 0
    said = capsys.readouterr()
    row = next(line for line in said.out.splitlines() if line.startswith("tally 1.5"))
    assert row.split()[2:5] == ["4", "0", "1"]  # stable, flaky and broken tests
    assert "refused: " in said.out
    assert "bare-1.tar.gz brings no folder tests/" in said.out
    tasks = load_tasks(out / "tasks.jsonl")
    assert len(tasks) == 2
    assert {task.metadata["operator"] for task in tasks} <= {"swap_arithmetic", "negate_condition"}
    assert Path(tasks[0].archive).is_file()

    assert main([*words, "--json"]) == 0  # nothing is tried again, and the file stays the same
    sheet = json.loads(capsys.readouterr().out)
    assert sheet["packages"][0]["tasks"] == 2
    assert load_tasks(out / "tasks.jsonl") == tasks


def test_nothing_made_is_told_by_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = sdist(tmp_path / "bare-1.tar.gz", {"bare/core.py": b"x = 1\n"}, top="bare-1")
    assert main(["swe", "make", str(bare), "--out", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out" / "tasks.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["make"], "PACKAGE"),
        (["make", "x", "--operators", "swap_compare"], "did you mean 'swap_comparison'?"),
        (["make", "x", "--tasks", "0"], "at least 1"),
        (["make", "x", "--bare", "--image", "y"], "--image and --bare: give one of them"),
        (["check", "missing.jsonl"], "cannot read missing.jsonl"),
    ],
)
def test_mistakes_are_told_in_one_line(
    words: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["swe", *words]) == 2
    assert said in capsys.readouterr().err
