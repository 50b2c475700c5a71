"""Our grade of a log against that of the swebench wheel's own grader.

A handful of logs of real runs and many made by a seed, always; with FOLDGYM_SWE_LOGS every log of a
made set (a folder with `tasks.jsonl` and `logs/<task id>/*.log`, as `foldgym swe make` leaves it).
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from oracles import oracle_python
from swe_logs import PYTEST_SUITE, pytest_log

from foldgym.envs.swe.grading import TestRun, unfit
from foldgym.envs.swe.parsers import parser
from foldgym.envs.swe.task import SweTask, load_tasks
from foldgym.envs.swe.verdict import Grade, Reason, judge

pytestmark = pytest.mark.oracle

JUDGE = """
import json, sys
from swebench.harness.grading import get_eval_report, get_resolution_status
from swebench.types import TestSpec
out, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    case = json.loads(line)
    spec = TestSpec(case["id"], "", [], "a/b", "1", case["f2p"], case["p2p"],
                    case["parser"], case["eval_type"])
    prediction = {"instance_id": case["id"], "model_patch": "x", "model_name_or_path": "m"}
    report = get_eval_report(spec, prediction, case["path"], True)[case["id"]]
    table = report.get("tests_status")
    out.write(json.dumps({
        "valid": report["patch_successfully_applied"],
        "resolved": report["resolved"],
        "status": get_resolution_status(table) if table else "",
        "failed": [sorted(table[k]["failure"]) for k in ("FAIL_TO_PASS", "PASS_TO_PASS")]
        if table else [],
    }) + "\\n")
"""
STATUS = {
    Grade.RESOLVED: "RESOLVED_FULL",
    Grade.PARTIAL: "RESOLVED_PARTIAL",
    Grade.UNRESOLVED: "RESOLVED_NO",
    Grade.INVALID: "",
}


@dataclass(frozen=True)
class Case:
    task: SweTask
    log: str
    code: int


def ours(case: Case) -> dict[str, Any]:
    statuses = parser(case.task.log_parser)(case.log)
    if unfit(statuses, TestRun(case.log, case.code, 0.0)) is not Reason.NONE:
        return {"valid": False, "resolved": False, "status": "", "failed": []}
    grade, first, second = judge(statuses, case.task)
    return {
        "valid": True,
        "resolved": grade is Grade.RESOLVED,
        "status": STATUS[grade],
        "failed": [sorted(first.failure), sorted(second.failure)],
    }


def theirs(cases: list[Case], folder: Path) -> list[dict[str, Any]]:
    python = oracle_python("swebench")
    lines: list[str] = []
    for number, case in enumerate(cases):
        path = folder / f"{number}.log"
        path.write_text(
            f"\n>>>>> Start Test Output\n{case.log}\n>>>>> End Test Output\n"
            f">>>>> Test Exit Code: {case.code}\n"
        )
        name = case.task.log_parser
        lines.append(
            json.dumps(
                {
                    "id": case.task.id,
                    "f2p": case.task.fail_to_pass,
                    "p2p": case.task.pass_to_pass,
                    "parser": name if name.startswith("parse_log_") else f"parse_log_{name}",
                    "eval_type": case.task.eval_type,
                    "path": str(path),
                }
            )
        )
    done = subprocess.run(
        [python, "-c", JUDGE], input="\n".join(lines), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def differences(cases: list[Case], folder: Path) -> list[Any]:
    judged = theirs(cases, folder)
    both = [(case, ours(case), said) for case, said in zip(cases, judged, strict=True)]
    return [(c.task.id, c.log[-300:], a, b) for c, a, b in both if a != b]


def task(parser: str, first: list[str], second: list[str] = [], kind: Any = "pass_and_fail"):  # noqa: B006
    return SweTask(
        "a__a-1",
        "a/a",
        "x",
        fail_to_pass=tuple(first),
        pass_to_pass=tuple(second),
        log_parser=parser,
        eval_type=kind,
    )


GOOD, BAD, SPACE = "test_it.py::test_good", "test_it.py::test_bad", "test_it.py::test_space[a b]"
REAL = {
    "as it is": PYTEST_SUITE,
    "all good": "def test_good(): pass\n\ndef test_bad(): pass\n",
    "no test": "x = 1\n",
    "does not load": "import nothing_there\n",
    "leaves": 'import os\n\ndef test_good(): print("PASSED test_it.py::test_bad"); os._exit(0)\n',
    "leaves badly": 'print("PASSED test_it.py::test_good", flush=True)\nimport os\nos._exit(3)\n',
}


@pytest.mark.parametrize("name", ["pytest", "pytest_v2", "parse_log_pytest", "parse_log_sphinx"])
def test_real_runs(tmp_path: Path, name: str):
    cases: list[Case] = []
    for number, suite in enumerate(REAL.values()):
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        log = pytest_log(folder, "--tb=short", suite=suite)
        for code in (0, 1, 3):
            for first, second in (
                ([GOOD], []),
                ([BAD], [GOOD]),
                ([GOOD, BAD], [SPACE]),
                ([], [BAD]),
            ):
                cases.append(Case(task(name, first, second), log, code))
    assert differences(cases, tmp_path) == []


def made_logs(count: int) -> list[Case]:
    """Summaries with every status, ids with blanks and brackets, and lists that miss some."""
    stream = random.Random("swe grades")
    ids = [f"a.py::test_{n}" for n in range(4)] + ["a.py::t[x y]", "a.py::t[x z]", "a.py::u[p]"]
    cases: list[Case] = []
    for _ in range(count):
        told = stream.sample(ids, k=stream.randint(0, len(ids)))
        words = stream.choices(
            ["PASSED"] * 6 + ["FAILED", "ERROR", "SKIPPED", "XFAIL"], k=len(told)
        )
        log = "".join(f"{word} {name}\n" for word, name in zip(words, told, strict=True))
        log = stream.choice(["", "collected\n"]) + log + stream.choice(["", "noise\n"])
        asked = [*ids, "a.py::t[x", "a.py::u[", "a.py::gone"]
        first = stream.sample(asked, k=stream.randint(0, 3))
        second = stream.sample(asked, k=stream.randint(0, 4))
        name = stream.choice(["parse_log_pytest", "parse_log_pytest_v2"])
        kind = stream.choice(["pass_and_fail", "pass_and_fail", "fail_only"])
        cases.append(Case(task(name, first, second, kind), log, stream.choice([0, 0, 1, 2])))
    return cases


def test_made_logs(tmp_path: Path):
    assert differences(made_logs(800), tmp_path) == []


_FAILED = re.compile(r"^(?:=+ )?.*\b\d+ (?:failed|errors?)\b.* in [\d.]+s", re.M)


def renamed(task: SweTask, logs: list[str]) -> dict[str, str]:
    """What SWE-bench calls each test that the logs name: blanks in an id are one, and the reason of
    an expected failure belongs to its name."""
    read, exact = parser(task.log_parser), parser("parse_log_" + task.log_parser)
    names: dict[str, str] = {}
    for line in (line for log in logs for line in log.split("\n")):
        for mine, other in zip(read(line), exact(line), strict=False):
            names.setdefault(mine, other)
    return names


def translated(called: dict[str, str], lists: list[list[str]]) -> list[list[str]]:
    """Tests by SWE-bench's names."""
    return [sorted([called.get(test, test) for test in tests]) for tests in lists]


def test_every_log_of_a_made_set(tmp_path: Path):
    named = os.environ.get("FOLDGYM_SWE_LOGS", "")
    if not named:
        pytest.skip("FOLDGYM_SWE_LOGS names no set of tasks and logs")
    root = Path(named)
    mine: list[Case] = []
    others: list[Case] = []
    names: list[dict[str, str]] = []
    for each in load_tasks(root / "tasks.jsonl"):
        paths = sorted(
            (root / "logs" / each.id).glob("*.log"), key=lambda path: path.stem != "gold"
        )
        logs = [path.read_text(errors="replace") for path in paths]
        called = renamed(each, logs)
        for log in logs:
            names.append(called)
            mine.append(Case(each, log, 1 if _FAILED.search(log) else 0))
            lists = [
                tuple(called.get(test, test) for test in tests)
                for tests in (each.fail_to_pass, each.pass_to_pass)
            ]
            exact = "parse_log_" + each.log_parser
            other = replace(each, log_parser=exact, fail_to_pass=lists[0], pass_to_pass=lists[1])
            others.append(Case(other, log, mine[-1].code))
    assert differences(others, tmp_path) == []  # with SWE-bench's own reading
    found: list[Any] = []
    for case, called, judged in zip(mine, names, theirs(others, tmp_path), strict=True):
        own = ours(case)
        own["failed"] = translated(called, own["failed"])
        if own != judged:
            found.append((case.task.id, case.log[-200:], own, judged))
    grades = [ours(case)["status"] or "invalid" for case in mine]
    print(len(mine), {grade: grades.count(grade) for grade in sorted(set(grades))})
    assert found == []  # with ours
    assert mine
