"""Our tasks as other people's: folders run here; the wheel grades the repository's script."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from oracles import oracle_python

from foldgym.cli.main import main
from foldgym.containers import available
from foldgym.envs.swe.folders import read_folder, write_harbor, write_terminal_bench
from foldgym.envs.swe.folders.export import folder_task
from foldgym.envs.swe.folders.running import solve, start_box, verify
from foldgym.envs.swe.miniatures import miniatures
from foldgym.envs.swe.rows.repository import write_repository
from foldgym.envs.swe.task import SweTask, load_tasks, save_tasks
from foldgym.envs.swe.trees import base_tree, write_tree
from foldgym.errors import DataError

boxes = pytest.mark.skipif(bool(available("bubblewrap")), reason="needs bubblewrap")


@boxes
@pytest.mark.parametrize(
    ("kind", "write"), [("harbor", write_harbor), ("terminal-bench", write_terminal_bench)]
)
def test_our_tasks_run_as_folders(tmp_path: Path, kind: Any, write: Any):
    task = miniatures()[0]
    base = base_tree(task)
    assert base is not None
    folder = read_folder(write(folder_task(task, "debian", kind), tmp_path / "task"))
    with start_box(folder, files=write_tree(base), backend="bubblewrap") as box:
        box.exec("git init -q . && git add -A")
        nothing = verify(folder, box.snapshot(), backend="bubblewrap")
        assert (nothing.score, nothing.problem) == (0.0, "")
        solve(folder, box)
        assert verify(folder, box.snapshot(), backend="bubblewrap").score == 1.0


def judged_by_its_script(expected: dict[str, Any], log: str, code: int, folder: Path) -> str:
    from foldgym.envs.swe.folders.export import REWARD

    for name, text in (("r.py", REWARD), ("e.json", json.dumps(expected)), ("log", log)):
        (folder / name).write_text(text)
    command = [sys.executable, "-I", "r.py", "e.json", "log", str(code)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("log", "code", "reward"),
    [
        ("PASSED t::a[x y]\nPASSED t::b\n", 0, "1"),
        ("XFAIL t::a[x y] - known\nSKIPPED [1] t:3\nSKIPPED t::b\n", 0, "1"),
        ("PASSED t::a[x y]\nFAILED t::b - Boom - x\n", 1, "0"),
        ("PASSED t::a[x y]\nFAILED t::a[x y] - x\nPASSED t::b", 1, "0"),
        ("FAILED t::a[x y] - x\nPASSED t::a[x y]\nPASSED t::b", 1, "0"),
        ("PASSED t::a[x y]\nPASSED t::b\nFAILED t::c", 1, "1"),  # a failure that was not asked for
        ("PASSED t::a[x y]\nPASSED t::b\n", 3, "0"),  # the exit code says otherwise
        ("", 0, "0"),
    ],
)
def test_the_reward_script(tmp_path: Path, log: str, code: int, reward: str):
    expected = {"parser": "pytest", "FAIL_TO_PASS": ["t::a[x y]"], "PASS_TO_PASS": ["t::b"]}
    assert judged_by_its_script(expected, log, code, tmp_path).strip() == reward


def test_what_no_folder_can_hold():
    with pytest.raises(DataError, match="only in its image"):
        folder_task(SweTask("a", "a/a", "x", image="i"), "debian")
    with pytest.raises(DataError, match="no hidden tests"):
        folder_task(SweTask("a", "a/a", "x", files={"f": b""}), "debian")
    with pytest.raises(DataError, match="'parse_log_cargo' cannot be judged"):
        folder_task(
            SweTask(
                "a", "a/a", "x", files={"f": b""}, tests={"t": b""}, log_parser="parse_log_cargo"
            ),
            "debian",
        )


def test_export_and_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_tasks(tmp_path / "tasks.jsonl", miniatures()[:2])
    source = str(tmp_path / "tasks.jsonl")
    for kind in ("harbor", "terminal-bench", "swe-bench"):
        words = ["swe", "export", source, "--to", kind, "--out", str(tmp_path / kind)]
        assert main([*words, "--base-image", "debian"]) == 0
        assert capsys.readouterr().out == f"2 tasks in {tmp_path / kind}\n"
        assert main([*words, "--base-image", "debian"]) == 2  # nothing is written over
        assert "is not empty" in capsys.readouterr().err
    out = tmp_path / "again.jsonl"
    assert main(["swe", "import", str(tmp_path / "swe-bench"), "--out", str(out)]) == 0
    assert "2 tasks in" in capsys.readouterr().out
    assert [task.id for task in load_tasks(out)] == sorted(t.id for t in miniatures()[:2])
    assert main(["swe", "import", source, "--out", str(tmp_path / "new.jsonl")]) == 2
    assert "is of no known format" in capsys.readouterr().err
    assert main(["swe", "export", source, "--to", "harbor", "--out", str(tmp_path / "z")]) == 2


GRADE = """
import json, sys
from swebench.harness.grading import get_eval_report
from swebench.harness.constants import *
from swebench.task.repo import load_task_repo
from swebench.types import TestSpec
row = load_task_repo(sys.argv[1])[0]
spec = TestSpec(row["instance_id"], "", [], row["repo"], "1", row["FAIL_TO_PASS"],
                row["PASS_TO_PASS"], row["log_parser"], row["eval_type"])
said = []
for log in sys.argv[2:]:
    prediction = {"instance_id": spec.instance_id, "model_patch": "x", "model_name_or_path": "m"}
    said.append(get_eval_report(spec, prediction, log, False)[spec.instance_id]["resolved"])
json.dump(said, sys.stdout)
"""


@pytest.mark.oracle
def test_the_repositorys_script_is_judged_by_the_wheel(tmp_path: Path):
    task = miniatures()[0]
    root = write_repository(tmp_path / "repo", [task], "me/set", "debian")
    pieces = root / "tasks" / task.id
    logs: list[str] = []
    for number, patch in enumerate(["", task.gold_patch]):
        work = tmp_path / f"work{number}"
        with tarfile.open(fileobj=io.BytesIO((pieces / "project.tar").read_bytes())) as archive:
            archive.extractall(work, filter="data")
        script = (pieces / "eval.sh").read_text().replace("/testbed", str(work))
        git = "git -c user.name=b -c user.email=b@b"
        done = subprocess.run(
            [
                "bash",
                "-c",
                f"git init -q . && git add -A && {git} commit -qm s; git apply - ; {script}",
            ],
            cwd=work,
            input=patch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "GIT_CONFIG_NOSYSTEM": "1"},
        )
        (tmp_path / f"{number}.log").write_text(done.stdout)
        logs.append(str(tmp_path / f"{number}.log"))
        assert not (work / next(iter(task.tests))).exists()  # it tidies up after itself
    judged = subprocess.run(
        [oracle_python("swebench"), "-c", GRADE, str(root), *logs], capture_output=True, text=True
    )
    assert judged.returncode == 0, judged.stderr[-2000:]
    assert json.loads(judged.stdout) == [False, True]
