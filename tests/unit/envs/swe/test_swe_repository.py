"""SWE-bench 5's task repositories: what we write is read by us, and accepted by its own check."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from oracles import oracle_python

from foldgym.envs.swe.miniatures import miniatures
from foldgym.envs.swe.patches import apply_patch
from foldgym.envs.swe.rows import bench_task
from foldgym.envs.swe.rows.repository import bench_names, read_repository, write_repository
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import base_tree
from foldgym.errors import DataError

ROW = {
    "repo": "acme/sum",
    "instance_id": "acme__sum-12",
    "base_commit": "a" * 40,
    "patch": "diff --git a/s.py b/s.py\n--- a/s.py\n+++ b/s.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\r\n",
    "test_patch": "",
    "problem_statement": "x is 1:\n\nreally.",
    "hints_text": "look",
    "created_at": "2026",
    "version": "1.0",
    "FAIL_TO_PASS": ["t.py::a"],
    "PASS_TO_PASS": ["no", "1.0"],
    "environment_setup_commit": "b",
    "image": "swebench/sweb.eval.x86_64.acme_1776_sum-12:latest",
    "log_parser": "parse_log_pytest",
    "eval_type": "pass_and_fail",
    "eval_script": ": '>>>>> Start Test Output'\npytest -rA\n: '>>>>> End Test Output'\n",
}


def test_rows_come_back_as_they_were(tmp_path: Path):
    task = bench_task(ROW)
    (again,) = read_repository(write_repository(tmp_path / "r", [task], "me/set"))
    assert again.split == "test"
    assert {**again.metadata, "dockerfile": 0} == {
        **task.metadata,
        "datasets": ["me/set"],
        "dockerfile": 0,
    }
    for name in ("id", "gold_patch", "problem_statement", "fail_to_pass", "pass_to_pass", "image"):
        assert getattr(again, name) == getattr(task, name)
    assert again.test_command == "pytest -rA"


def test_our_tasks_carry_their_tests_as_a_patch(tmp_path: Path):
    task = miniatures()[0]
    (again,) = read_repository(write_repository(tmp_path / "r", [task], "me/set", "debian"))
    base = base_tree(task)
    assert base is not None
    tests = apply_patch(base, again.metadata["test_patch"])
    assert {path: tests[path].data for path in task.tests} == dict(task.tests)
    assert again.fail_to_pass == bench_names("unittest", task.fail_to_pass)
    assert (tmp_path / "r" / "tasks" / task.id / "project.tar").is_file()


def test_what_cannot_be_written(tmp_path: Path):
    with pytest.raises(DataError, match="no task"):
        write_repository(tmp_path / "a", [], "me/set")
    with pytest.raises(DataError, match="give a base image"):
        write_repository(tmp_path / "a", [miniatures()[0]], "me/set")
    assert not (tmp_path / "a").exists()


def test_what_cannot_be_read(tmp_path: Path):
    root = write_repository(tmp_path / "r", [bench_task(ROW)], "me/set")
    (root / "tasks" / "acme__sum-12" / "tests.json").write_text("{")
    with pytest.raises(DataError, match="acme__sum-12: Expecting"):
        read_repository(root)
    (root / "sweb.yaml").write_text("splits: [test]\n")
    with pytest.raises(DataError, match="names no datasets"):
        read_repository(root)


def test_names_for_swe_bench():
    assert bench_names("unittest", ["tests.a.Case.test_b"]) == ("test_b (tests.a.Case.test_b)",)
    assert bench_names("pytest_v2", ["t[a   b]", "t[a b]"]) == ("t[a b]",)
    assert bench_names("pytest", ["t[a b]", "t[a c]", "u"]) == ("t[a", "u")
    assert bench_names("parse_log_cargo", ["a  b"]) == ("a  b",)


CHECK = """
import json, sys
from swebench.task.checks import check_task_repo
from swebench.task.repo import load_task_repo
problems = [str(each) for each in check_task_repo(sys.argv[1])]
json.dump([problems, load_task_repo(sys.argv[1])], sys.stdout)
"""


@pytest.mark.oracle
def test_swebenchs_own_check_accepts_it(tmp_path: Path):
    tasks: list[SweTask] = [bench_task(ROW), *miniatures()]
    root = write_repository(tmp_path / "r", tasks, "me/set", "debian")
    done = subprocess.run(
        [oracle_python("swebench"), "-c", CHECK, str(root)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    problems, rows = json.loads(done.stdout)
    assert problems == []
    assert len(rows) == len(tasks)
    (row,) = [each for each in rows if each["instance_id"] == ROW["instance_id"]]
    assert {name: row[name] for name in ROW} == ROW
