"""Rows of SWE-smith, SWE-rebench and R2E-Gym, which have columns of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from foldgym.envs.qa.rows import Malformed, Row
from foldgym.envs.swe.logs import parser_name
from foldgym.envs.swe.parsers import Status
from foldgym.envs.swe.patches import write_patch
from foldgym.envs.swe.rows.bench import TIMEOUT, WORKDIR, bench_task
from foldgym.envs.swe.rows.columns import Columns, shown
from foldgym.envs.swe.rows.commands import ACTIVATE, Rule, by_rule
from foldgym.envs.swe.rows.images import IMAGE_RULES
from foldgym.envs.swe.rows.reversing import reverse_patch
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import Change, Entry
from foldgym.types import Json

SMITH_COMMAND = "pytest --disable-warnings --color=no --tb=no -rA {tests}"
R2E_COMMAND = "ln -sfn /root/r2e_tests r2e_tests; bash run_tests.sh"
R2E_FOLDER = "r2e_tests"


def smith_task(row: Row) -> SweTask:
    """SWE-smith: `patch` is the fault, so that the gold patch is its reverse.

    The tests are files of the image that the expected names tell of: see `prepare`.
    """
    columns = Columns(row)
    id, bug = columns.text("instance_id"), columns.text("patch")
    expected = columns.tests("FAIL_TO_PASS"), columns.tests("PASS_TO_PASS", ())
    files = sorted({name.partition("::")[0] for names in expected for name in names})
    return SweTask(
        id=id,
        repo=columns.text("repo"),
        problem_statement=columns.text("problem_statement", ""),
        image=columns.text("image_name"),
        workdir=WORKDIR,
        bug=bug,
        gold_patch=reverse_patch(bug),
        test_command=f"{ACTIVATE} && {SMITH_COMMAND.replace('{tests}', ' '.join(files))}",
        fail_to_pass=expected[0],
        pass_to_pass=expected[1],
        log_parser="parse_log_pytest",
        timeout=TIMEOUT,
        metadata={
            "test_files": files,
            **columns.others(
                "instance_id", "repo", "problem_statement", "image_name", "patch",
                "FAIL_TO_PASS", "PASS_TO_PASS",
            ),
        },
    )  # fmt: skip


def rebench_task(row: Row) -> SweTask:
    """SWE-rebench: SWE-bench's columns, and how to run the tests in `install_config`."""
    columns = Columns(row)
    config = Columns(columns.table("install_config"))
    named = columns.text("docker_image", "") or columns.text("image_name", "")
    task = bench_task({**row, "image": named or None}, IMAGE_RULES["swe-rebench"])
    variables = config.table("env_vars", {})
    activate = "" if config.row.get("no_use_env") else ACTIVATE
    command = config.text("test_cmd", "pytest -rA")
    rule = Rule(command if "{tests}" in command else command + " {tests}")
    return replace(
        task,
        test_command=by_rule(rule, str(task.metadata["test_patch"]), activate),
        log_parser=parser_name(config.text("log_parser", "parse_log_pytest"), task.id),
        environment={name: str(value) for name, value in variables.items()},
    )


def r2e_task(row: Row) -> SweTask:
    """R2E-Gym: the whole table of statuses is expected; see `r2e_reward`.

    FAIL_TO_PASS are the tests that must pass. Tests that are expected to fail are only in
    `metadata["expected"]`: by SWE-bench's rules a grade cannot ask for a failure.
    """
    columns = Columns(row)
    expected = _statuses(columns.table("expected_output_json"))
    repo, commit = columns.text("repo_name"), columns.text("commit_hash")
    result = Columns(columns.table("execution_result_content", {}))
    names, codes = result.tests("test_file_names", ()), result.tests("test_file_codes", ())
    if len(names) != len(codes):
        raise Malformed(
            f"execution_result_content has {len(names)} test_file_names and {len(codes)} codes"
        )
    return SweTask(
        id=f"{repo}-{commit}",
        repo=repo,
        problem_statement=columns.text("problem_statement"),
        image=columns.text("docker_image"),
        workdir=WORKDIR,
        base_commit=f"{commit}^",
        gold_patch=_gold(columns.table("parsed_commit_content", {})),
        tests={f"{R2E_FOLDER}/{n}": c.encode() for n, c in zip(names, codes, strict=True)},
        test_command=R2E_COMMAND,
        fail_to_pass=tuple(name for name, status in expected.items() if status == "PASSED"),
        log_parser="r2e",
        timeout=TIMEOUT,
        metadata={
            "expected": expected,
            **columns.others(
                "repo_name", "commit_hash", "problem_statement", "docker_image",
                "expected_output_json", "execution_result_content", "parsed_commit_content",
            ),
        },
    )  # fmt: skip


def r2e_reward(statuses: Mapping[str, str], expected: Mapping[str, str]) -> float:
    """R2E-Gym's reward: 1 if both tables are equal, key by key, else 0."""
    return float(dict(statuses) == dict(expected))


def _statuses(table: Mapping[str, Json]) -> dict[str, str]:
    for name, status in table.items():
        if status not in Status.__members__:
            raise Malformed(f"expected_output_json says {shown(status)} of {shown(name)}")
    return cast("dict[str, str]", dict(table))


def _gold(commit: Mapping[str, Any]) -> str:
    """The commit's changes, less those of tests, where it holds whole files."""
    changes: list[Change] = []
    diffs: Any = commit.get("file_diffs")
    for diff in diffs if isinstance(diffs, list) else ():
        try:
            path = str(diff["header"]["file"]["path"])
            before, after = diff.get("old_file_content"), diff.get("new_file_content")
        except (KeyError, TypeError, AttributeError):
            raise Malformed(f"parsed_commit_content has a diff {shown(diff)}") from None
        if "test" not in path and before != after:
            changes.append(Change(path, _entry(before), _entry(after)))
    return write_patch(changes)


def _entry(text: Any) -> Entry | None:
    return Entry(text.encode()) if isinstance(text, str) and text else None
