"""Rows of SWE-bench 4 and 5 and of sets with its columns: Lite, Verified, Multilingual, SWE-Gym."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from foldgym.envs.qa.rows import Malformed, Row
from foldgym.envs.swe.logs import parser_name
from foldgym.envs.swe.patches import PatchError, apply_patch
from foldgym.envs.swe.rows.columns import Columns, shown
from foldgym.envs.swe.rows.commands import REPOSITORIES, Rule, by_rule, by_script
from foldgym.envs.swe.rows.images import IMAGE_RULES, ImageRule
from foldgym.envs.swe.task import EVAL_TYPES, SweTask
from foldgym.errors import DataError

WORKDIR = "/testbed"
TIMEOUT = 1800.0
"""Seconds that SWE-bench gives a test run."""
FAILURES_ONLY_REPOSITORIES = frozenset(
    (
        "chartjs/Chart.js", "processing/p5.js", "markedjs/marked",
        "bpmn-io/bpmn-js", "openlayers/openlayers", "eslint/eslint",
    )
)  # fmt: skip
_TAKEN = (
    "instance_id", "repo", "problem_statement", "image", "base_commit", "patch", "test_patch",
    "FAIL_TO_PASS", "PASS_TO_PASS", "log_parser", "eval_type", "split",
)  # fmt: skip


def bench_task(row: Row, images: ImageRule = IMAGE_RULES["swe-bench"]) -> SweTask:
    """The task of a row with SWE-bench's columns.

    `image`, `eval_script`, `log_parser` and `eval_type` are version 5's; without them the image's
    name, the test command and the parser follow from the id and the repository. The hidden tests
    are there at once where the test patch only adds files; else see `prepare`.
    """
    columns = Columns(row)
    id, repo = columns.text("instance_id"), columns.text("repo")
    rule = REPOSITORIES.get(repo, Rule())
    patch = columns.text("test_patch", "")
    script = columns.text("eval_script", "")
    only = "fail_only" if repo in FAILURES_ONLY_REPOSITORIES else "pass_and_fail"
    task = SweTask(
        id=_id(id),
        repo=repo,
        problem_statement=columns.text("problem_statement"),
        image=columns.text("image", "") or images(id),
        workdir=WORKDIR,
        base_commit=columns.text("base_commit", ""),
        test_command=(by_script(script) if script else "") or by_rule(rule, patch),
        fail_to_pass=columns.tests("FAIL_TO_PASS"),
        pass_to_pass=columns.tests("PASS_TO_PASS", ()),
        log_parser=parser_name(columns.text("log_parser", "") or rule.parser, id),
        eval_type=_eval_type(columns.text("eval_type", "") or only),
        gold_patch=columns.text("patch", ""),
        timeout=TIMEOUT,
        split=columns.text("split", ""),
        metadata={"test_patch": patch, **columns.others(*_TAKEN)},
    )
    return replace(task, tests=added_files(patch))


def added_files(patch: str) -> dict[str, bytes]:
    """The files of a patch that changes none; none of one that does."""
    try:
        tree = apply_patch({}, patch) if patch else {}
    except PatchError:
        return {}
    return {path: entry.data for path, entry in tree.items() if not entry.link}


def bench_row(task: SweTask, version: int = 5) -> Row:
    """The row of a task, with version 5's columns or, less those, as version 4 has it.

    Raises `DataError` for a task whose base no image holds: write a repository of it.
    """
    if version not in (4, 5):
        raise DataError(f"SWE-bench has no version {version}: give 4 or 5")
    if task.archive or task.files or task.bug:
        raise DataError(
            f"task {task.id}: its base is not in an image, so that no row can hold it; "
            "write a task repository"
        )
    told: dict[str, Any] = dict(task.metadata)
    row: Row = {
        "repo": task.repo,
        "instance_id": task.id,
        "base_commit": task.base_commit,
        "patch": task.gold_patch,
        "test_patch": told.pop("test_patch", ""),
        "problem_statement": task.problem_statement,
        "hints_text": told.pop("hints_text", ""),
        "created_at": told.pop("created_at", ""),
        "version": told.pop("version", ""),
        "FAIL_TO_PASS": list(task.fail_to_pass),
        "PASS_TO_PASS": list(task.pass_to_pass),
        "environment_setup_commit": told.pop("environment_setup_commit", ""),
    }
    script = told.pop("eval_script", "")
    if version == 4:
        for name in ("FAIL_TO_PASS", "PASS_TO_PASS"):
            row[name] = json.dumps(row[name])
        return {**row, **told}
    row |= {"image": task.image, "log_parser": task.log_parser, "eval_type": task.eval_type}
    return {**row, "eval_script": script, **({"split": task.split} if task.split else {}), **told}


def _id(id: str) -> str:
    if not id or id != id.strip() or "\n" in id:
        raise Malformed(f"instance_id is {shown(id)}, no id")
    return id


def _eval_type(word: str) -> Any:
    if word not in EVAL_TYPES:
        raise Malformed(f"eval_type is {word!r}, none of {', '.join(EVAL_TYPES)}")
    return word
