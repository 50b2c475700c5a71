"""A software task as a folder of Harbor or Terminal-Bench: project, hidden tests, reward."""

from __future__ import annotations

import json
import shlex
from typing import Literal

from foldgym.envs.swe.folders.task import FolderTask
from foldgym.envs.swe.rows.bench import WORKDIR
from foldgym.envs.swe.rows.repository import dockerfile_of
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import base_tree, write_tree
from foldgym.errors import DataError

REWARD = '''\
"""The reward of a test run by SWE-bench's rules: 1 if all expected tests passed, else 0."""

import json
import re
import sys

with open(sys.argv[1]) as file:
    expected = json.load(file)
with open(sys.argv[2], errors="replace") as file:
    log = [line.rstrip() for line in file]
code = int(sys.argv[3])
ENDS = re.compile(r"(?:^|\\s)(ok|expected failure|skipped .*|FAIL|ERROR|unexpected success)$")
WORDS = {"ok": "PASSED", "expected failure": "XFAIL", "FAIL": "FAILED", "ERROR": "ERROR"}


def by_pytest():
    found = {}
    tests = {*expected["FAIL_TO_PASS"], *expected["PASS_TO_PASS"]}
    for line in log:
        word, _, rest = line.partition(" ")
        if word in ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL"):
            parts = rest.split(" - ")
            heads = [" - ".join(parts[:n]) for n in range(1, len(parts) + 1)]
            for name in (head for head in [*heads, rest.split(" ")[0]] if head in tests):
                bad = found.get(name) in ("FAILED", "ERROR")
                found[name] = found[name] if bad else word
    return found


def by_unittest():
    found, current = {}, ""
    for line in log:
        begun = re.match(r"([\\w.]+) \\(([\\w.<>]+)\\)", line)
        if begun:
            test, place = begun.groups()
            whole = place == test or place.endswith("." + test)  # since Python 3.11
            current = place if whole else place + "." + test
        end = ENDS.search(line)
        if current and end:
            word = "SKIPPED" if end.group(1).startswith("skipped") else end.group(1)
            found.setdefault(current, WORDS.get(word, word))
            current = ""
    return found


found = by_unittest() if expected["parser"] == "unittest" else by_pytest()
good = all(found.get(test) in ("PASSED", "XFAIL") for test in expected["FAIL_TO_PASS"])
good &= all(found.get(t) in ("PASSED", "XFAIL", "SKIPPED") for t in expected["PASS_TO_PASS"])
failures = any(re.match(r"(FAILED|ERROR|FAIL)\\b", line) for line in log)
print(int(good and (code == 0 or failures)))
'''
"""Runs with Python 3 alone, where foldgym is not."""

_PARSERS = {
    "pytest": "pytest",
    "pytest_v2": "pytest",
    "unittest": "unittest",
    "parse_log_pytest": "pytest",
    "parse_log_pytest_v2": "pytest",
}
_TEST = """#!/bin/bash
cd {workdir} || exit 1
mkdir -p /logs/verifier
cp -r /tests/hidden/. .
{variables}({command}
) > /logs/verifier/log.txt 2>&1
python3 -I /tests/reward.py /tests/expected.json /logs/verifier/log.txt "$?" > /logs/verifier/said
{report}
"""
_HARBOR = "mv /logs/verifier/said /logs/verifier/reward.txt"
_TERMINAL = """echo '=== short test summary info ==='
if [ "$(cat /logs/verifier/said)" = 1 ]; then echo 'PASSED tests::resolved'
else echo 'FAILED tests::resolved'; fi"""


def folder_task(
    task: SweTask, base_image: str, kind: Literal["harbor", "terminal-bench"] = "harbor"
) -> FolderTask:
    """The task as a folder's; `base_image` has bash, git, Python and what the tests need.

    Raises `DataError` for a task that has no files of its own, no hidden tests, or logs that the
    folder's own script cannot read.
    """
    base = base_tree(task)
    if base is None:
        raise DataError(f"task {task.id}: its base is only in its image, which no folder can hold")
    if not task.tests:
        raise DataError(f"task {task.id}: it has no hidden tests")
    if task.log_parser not in _PARSERS:
        raise DataError(
            f"task {task.id}: logs read by {task.log_parser!r} cannot be judged in a folder; "
            f"these can: {', '.join(_PARSERS)}"
        )
    expected = {
        "parser": _PARSERS[task.log_parser],
        "FAIL_TO_PASS": task.fail_to_pass,
        "PASS_TO_PASS": task.pass_to_pass,
    }
    variables = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in task.environment.items())
    script = _TEST.format(
        workdir=WORKDIR,
        variables=variables,
        command=task.test_command,
        report=_HARBOR if kind == "harbor" else _TERMINAL,
    )
    name = "test.sh" if kind == "harbor" else "run-tests.sh"
    solve = "solve.sh" if kind == "harbor" else "solution.sh"
    gold = f"cd {WORKDIR} && git apply - <<'EOF_GOLD'\n{task.gold_patch}EOF_GOLD\n"
    return FolderTask(
        task.id,
        task.problem_statement,
        kind=kind,
        environment={
            "Dockerfile": dockerfile_of(base_image).encode(),
            "project.tar": write_tree(base).archive,
        },
        workdir=WORKDIR,
        tests={
            name: script.encode(),
            "reward.py": REWARD.encode(),
            "expected.json": json.dumps(expected, indent=1, ensure_ascii=False).encode(),
            **{f"hidden/{path}": data for path, data in task.tests.items()},
        },
        test_script=name,
        solution={solve: gold.encode()} if task.gold_patch else {},
        solution_script=solve,
        test_seconds=task.timeout,
        settings=_settings(task) if kind == "terminal-bench" else {},
    )


def _settings(task: SweTask) -> dict[str, object]:
    return {
        "instruction": task.problem_statement,
        "difficulty": "medium",
        "parser_name": "pytest",
        "max_agent_timeout_sec": 1800.0,
        "max_test_timeout_sec": task.timeout,
    }
