"""Rows of the data sets, written by hand after their published columns, read as tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.envs.swe.parsers import parser
from foldgym.envs.swe.patches import apply_patch, write_patch
from foldgym.envs.swe.rows import (
    bench_row,
    bench_task,
    prepare,
    r2e_reward,
    read_dataset,
    smith_task,
)
from foldgym.envs.swe.rows.commands import by_script
from foldgym.envs.swe.rows.reversing import reverse_patch
from foldgym.envs.swe.trees import Entry, compare
from foldgym.errors import DataError, UnknownName

TEST_PATCH = (
    "diff --git a/tests/test_sum.py b/tests/test_sum.py\n--- a/tests/test_sum.py\n"
    "+++ b/tests/test_sum.py\n@@ -1 +1,2 @@\n import sum\n+def test_two(): pass\n"
)
PATCH = "diff --git a/sum.py b/sum.py\n--- a/sum.py\n+++ b/sum.py\n@@ -1 +1 @@\n-x = 1\n+x = 2\n"
V4 = {
    "repo": "acme/sum",
    "instance_id": "acme__sum-12",
    "base_commit": "a" * 40,
    "patch": PATCH,
    "test_patch": TEST_PATCH,
    "problem_statement": "x is 1.",
    "hints_text": "look",
    "created_at": "2026-01-01T00:00:00Z",
    "version": "1.2",
    "FAIL_TO_PASS": '["tests/test_sum.py::test_two"]',
    "PASS_TO_PASS": "[]",
    "environment_setup_commit": "b" * 40,
}
SCRIPT = """#!/bin/bash
set -uxo pipefail
source /opt/miniconda3/bin/activate
conda activate testbed
cd /testbed
git config --global --add safe.directory /testbed
git checkout aaaa tests/test_sum.py
git apply -v - <<'EOF_1'
--- a/tests/test_sum.py
pytest never
EOF_1
: '>>>>> Start Test Output'
pytest -rA tests/test_sum.py
SWEBENCH_TEST_EXIT_CODE=$?
: '>>>>> End Test Output'
echo ">>>>> Test Exit Code: $SWEBENCH_TEST_EXIT_CODE"
git checkout aaaa tests/test_sum.py
"""
V5 = {
    **V4,
    "FAIL_TO_PASS": ["tests/test_sum.py::test_two"],
    "PASS_TO_PASS": [],
    "image": "swebench/sweb.eval.x86_64.acme_1776_sum-12:latest",
    "eval_script": SCRIPT,
    "log_parser": "parse_log_pytest_v2",
    "eval_type": "pass_and_fail",
    "difficulty": "1 hour",
}
SMITH = {
    "instance_id": "acme__sum.12345678.func_basic__abc",
    "repo": "swesmith/acme__sum.12345678",
    "patch": PATCH,
    "FAIL_TO_PASS": ["tests/test_sum.py::test_two"],
    "PASS_TO_PASS": ["tests/test_more.py::test_one"],
    "image_name": "registry/swesmith.x86_64.acme_1776_sum.12345678",
    "problem_statement": "x is 2.",
}
REBENCH = {
    **V4,
    "FAIL_TO_PASS": ["t"],
    "install_config": {
        "test_cmd": "pytest -rA -q",
        "log_parser": "parse_log_pytest",
        "env_vars": {"LEVEL": 3},
        "python": "3.9",
    },
    "docker_image": "swerebench/sweb.eval.x86_64.acme_1776_sum-12",
    "meta": {"is_lite": True},
}
R2E = {
    "repo_name": "acme",
    "docker_image": "registry/acme:abc",
    "commit_hash": "abc",
    "problem_statement": "x is 1.",
    "expected_output_json": '{"Case.test_a": "PASSED", "test_b": "FAILED"}',
    "execution_result_content": json.dumps(
        {"test_file_names": ["test_1.py"], "test_file_codes": ["def test_b(): pass"]}
    ),
    "parsed_commit_content": json.dumps(
        {
            "file_diffs": [
                {
                    "header": {"file": {"path": "sum.py"}},
                    "old_file_content": "x = 1\n",
                    "new_file_content": "x = 2\n",
                },
                {
                    "header": {"file": {"path": "tests/test_sum.py"}},
                    "old_file_content": "",
                    "new_file_content": "x\n",
                },
            ]
        }
    ),
}
BASE = {"sum.py": Entry(b"x = 1\n"), "tests/test_sum.py": Entry(b"import sum\n")}


def saved(folder: Path, suffix: str, *rows: Any) -> Path:
    path = folder / f"rows{suffix}"
    if suffix == ".parquet":
        arrow = pytest.importorskip("pyarrow")
        import pyarrow.parquet as parquet

        parquet.write_table(arrow.Table.from_pylist(list(rows)), path)
    elif suffix == ".json":
        path.write_text(json.dumps(list(rows)))
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("row", [V4, V5, SMITH, REBENCH, R2E])
def test_every_format_is_known_by_its_columns(tmp_path: Path, suffix: str, row: Any):
    (task,) = read_dataset(saved(tmp_path, suffix, row)).items
    assert task.problem_statement == row["problem_statement"]
    assert task.workdir == "/testbed"
    assert task.image
    assert parser(task.log_parser)("") == {}


def test_version_four():
    task = bench_task(V4)
    assert task.image == "swebench/sweb.eval.x86_64.acme_1776_sum-12:latest"
    assert task.fail_to_pass == ("tests/test_sum.py::test_two",)
    assert task.test_command == (
        "source /opt/miniconda3/bin/activate && conda activate testbed && "
        "pytest -rA tests/test_sum.py"
    )
    assert task.tests == {}  # the test patch changes a file that only the image holds
    assert prepare(task, BASE).tests == {"tests/test_sum.py": b"import sum\ndef test_two(): pass\n"}


def test_version_five_takes_its_command_from_the_script():
    task = bench_task(V5)
    assert (task.log_parser, task.eval_type) == ("parse_log_pytest_v2", "pass_and_fail")
    assert task.test_command == (
        "source /opt/miniconda3/bin/activate\nconda activate testbed\ncd /testbed\n"
        "pytest -rA tests/test_sum.py"
    )
    assert by_script("pytest\n") == ""


def test_django_tests_are_modules():
    patch = TEST_PATCH.replace("tests/test_sum.py", "tests/app/test_a.py")
    task = bench_task({**V4, "repo": "django/django", "test_patch": patch})
    assert task.test_command.endswith("--parallel 1 app.test_a")
    assert task.log_parser == "parse_log_django"


def test_rows_come_back_as_they_were():
    assert bench_row(bench_task(V5)) == V5
    assert bench_row(bench_task(V4), 4) == V4


def test_swe_gym_has_the_columns_of_swe_bench_and_must_be_named(tmp_path: Path):
    (task,) = read_dataset(saved(tmp_path, ".jsonl", V4), "swe-gym").items
    assert task.image == "xingyaoww/sweb.eval.x86_64.acme_s_sum-12:latest"


def test_images_from_elsewhere(tmp_path: Path):
    path = saved(tmp_path, ".jsonl", V4)
    (task,) = read_dataset(path, images="my/{id}:1").items
    assert task.image == "my/acme__sum-12:1"


def test_swe_smith_gives_the_fault():
    task = smith_task(SMITH)
    assert task.bug == PATCH
    assert apply_patch(apply_patch(BASE, task.bug), task.gold_patch) == BASE
    assert task.test_command.endswith("-rA tests/test_more.py tests/test_sum.py")
    assert prepare(task, BASE).tests == {"tests/test_sum.py": b"import sum\n"}


def test_swe_rebench_says_how_to_test(tmp_path: Path):
    (task,) = read_dataset(saved(tmp_path, ".jsonl", REBENCH)).items
    assert task.image == REBENCH["docker_image"]
    assert task.environment == {"LEVEL": "3"}
    assert task.test_command.endswith("&& pytest -rA -q tests/test_sum.py")
    assert task.metadata["meta"] == {"is_lite": True}


def test_r2e_gym_expects_a_table(tmp_path: Path):
    (task,) = read_dataset(saved(tmp_path, ".jsonl", R2E)).items
    assert task.fail_to_pass == ("Case.test_a",)
    assert task.tests == {"r2e_tests/test_1.py": b"def test_b(): pass"}
    assert apply_patch(BASE, task.gold_patch)["sum.py"].data == b"x = 2\n"
    log = (
        "=== short test summary info ===\n"
        "PASSED r2e_tests/test_1.py::Case::test_a\nFAILED r2e_tests/test_1.py::test_b - Boom\n"
    )
    found = parser("r2e")(log)
    assert r2e_reward(found, task.metadata["expected"]) == 1.0
    assert r2e_reward({**found, "test_c": "PASSED"}, task.metadata["expected"]) == 0.0


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({**V4, "FAIL_TO_PASS": "[oops"}, "FAIL_TO_PASS is '[oops', which is no JSON"),
        ({**V4, "FAIL_TO_PASS": [3]}, "FAIL_TO_PASS is [3], not a list of tests' names"),
        ({**V4, "repo": 3}, "repo is 3, not a text"),
        ({**V4, "instance_id": "a\nb"}, "instance_id is 'a\\nb', no id"),
        ({**V5, "eval_type": "all"}, "eval_type is 'all', none of pass_and_fail, fail_only"),
        ({**SMITH, "patch": None}, "patch is missing"),
        ({**REBENCH, "install_config": "x"}, "install_config is 'x', which is no JSON"),
        ({**R2E, "expected_output_json": {"a": "WON"}}, "expected_output_json says 'WON' of 'a'"),
        ({**R2E, "execution_result_content": {"test_file_names": ["a"]}}, "1 test_file_names"),
        ({**R2E, "parsed_commit_content": {"file_diffs": [3]}}, "has a diff 3"),
    ],
)
def test_a_bad_row_says_file_row_field_and_value(tmp_path: Path, row: Any, told: str):
    path = saved(tmp_path, ".jsonl", row)
    with pytest.raises(DataError) as problem:
        read_dataset(path, strict=True)
    assert f"{path}:1: " in str(problem.value)
    assert told in str(problem.value)


def test_a_bad_row_costs_only_itself(tmp_path: Path):
    path = saved(tmp_path, ".jsonl", V4, {**V4, "instance_id": 3}, V4)
    read = read_dataset(path)
    assert [task.id for task in read.items] == ["acme__sum-12"]
    assert read.problems == [
        f"{path}:2: instance_id is 3, not a text",
        f"{path}:3: the task 'acme__sum-12' is there twice",
    ]


def test_other_rows_are_refused(tmp_path: Path):
    path = saved(tmp_path, ".jsonl", {"question": "?", "answer": "!"})
    with pytest.raises(DataError, match="a row with answer, question is of no known format"):
        read_dataset(path)
    with pytest.raises(UnknownName, match="swe-bench"):
        read_dataset(path, "swe-bensh")


def test_a_task_without_an_image_is_no_row():
    with pytest.raises(DataError, match="write a task repository"):
        bench_row(smith_task(SMITH))
    with pytest.raises(DataError, match="no version 3"):
        bench_row(bench_task(V4), 3)


def test_a_test_patch_that_does_not_apply():
    with pytest.raises(DataError, match="its test patch does not apply"):
        prepare(bench_task(V4), {})


LINES = st.lists(st.sampled_from(["a", "-- b", "++ c", "", "@@ -1 +1 @@", "d"]), max_size=12)


@given(LINES, LINES, st.booleans())
def test_a_reversed_patch_takes_it_back(before: list[str], after: list[str], end: bool):
    def tree(lines: list[str]) -> dict[str, Entry]:
        text = "\n".join(lines) + ("\n" if end else "")
        return {"f": Entry(text.encode())} if lines else {}

    changes = compare(tree(before), tree(after))
    if changes:
        patch = write_patch(changes)
        assert apply_patch(apply_patch(tree(before), patch), reverse_patch(patch)) == tree(before)
        assert reverse_patch(reverse_patch(patch)) == patch
