"""Tasks survive their file; logs are read; verdicts follow SWE-bench's rules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from foldgym.envs.swe.parsers import PARSERS, Status, parser, suite_ran
from foldgym.envs.swe.task import SweTask, load_tasks, save_tasks
from foldgym.envs.swe.verdict import Grade, Outcomes, Reason, judge, status_of
from foldgym.errors import DataError, UnknownName

TASK = SweTask(
    "acme__toy-1",
    "acme/toy",
    "It is wrong.",
    files={"toy.py": b"x = 1\n", "blob.bin": b"\xff\x00"},
    tests={"tests/test_toy.py": b"assert 1\n"},
    fail_to_pass=("t::a", "t::b"),
    pass_to_pass=("t::c",),
    environment={"A": "b"},
    metadata={"made": {"by": "hand"}},
)


def test_tasks_survive_their_file(tmp_path: Path) -> None:
    archived = replace(TASK, id="two", files={}, archive=str(tmp_path / "trees" / "toy.tar"))
    path = tmp_path / "tasks.jsonl"
    assert save_tasks(path, [TASK]) == 1
    assert save_tasks(path, [archived]) == 1
    assert load_tasks(path) == (TASK, archived)
    assert '"archive":"trees/toy.tar"' in path.read_text()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"schema":2,"id":"a"}', "line 1: schema 2: this foldgym reads 1"),
        ('{"schema":1,"id":"a","repo":"r"}', "problem_statement is None"),
        (
            '{"schema":1,"id":"a","repo":"r","problem_statement":"p","test":1}',
            "unknown field 'test'",
        ),
        (
            '{"schema":1,"id":"a","repo":"r","problem_statement":"p","timeout":0}',
            "timeout is 0: give more",
        ),
        (
            '{"schema":1,"id":"a","repo":"r","problem_statement":"p","files":{"../x":""}}',
            "no path below",
        ),
        (
            '{"schema":1,"id":"a","repo":"r","problem_statement":"p","files":{"x":{"base64":"!"}}}',
            "task a: ",
        ),
        ("", "holds no task"),
    ],
)
def test_wrong_rows_say_what_is_wrong(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(line + "\n" if line else "")
    with pytest.raises(DataError, match=says):
        load_tasks(path)


PYTEST = """
tests/test_a.py .F                                    [100%]
----- Captured stdout call -----
PASSED tests/test_a.py::test_two
=========== short test summary info ===========
PASSED tests/test_a.py::test_one
PASSED tests/test_a.py::test_p[a b]
PASSED tests/test_a.py::test_p[a c]
SKIPPED [1] tests/test_a.py:9: why
XFAIL tests/test_a.py::test_x - not yet
FAILED tests/test_a.py::test_two - assert 1 - 2 == 3
FAILED tests/test_a.py::test_p[x - y] - boom
ERROR tests/test_b.py
========= 2 failed, 3 passed in 0.1s =========
"""


def test_pytest_logs() -> None:
    passed, failed = Status.PASSED, Status.FAILED
    one = {
        "tests/test_a.py::test_one": passed,
        "tests/test_a.py::test_p[a": passed,
        "tests/test_a.py::test_x": Status.XFAIL,
        "tests/test_a.py::test_two": failed,  # and the printed line above it changes nothing
        "tests/test_a.py::test_p[x": failed,
        "tests/test_b.py": Status.ERROR,
    }
    assert PARSERS["pytest"](PYTEST) == one
    two = PARSERS["pytest_v2"](PYTEST)
    assert two["tests/test_a.py::test_p[a b]"] is passed
    assert two["tests/test_a.py::test_p[x - y]"] is failed
    assert two["tests/test_a.py::test_two"] is failed
    assert len(two) == 7
    assert suite_ran(PYTEST)
    assert PARSERS["pytest"]("\x1b[32mPASSED\x1b[0m t::a") == {"t::a": passed}


UNITTEST = """test_a (tests.test_x.Case.test_a) ... ok
test_b (tests.test_x.Case.test_b)
What it is about. ... FAIL
test_c (tests.test_x.Case.test_c) ... printed ok
then
ok
test_d (tests.test_x.Case.test_d) ... skipped 'no net'
test_e (tests.test_x.Case.test_e) ... expected failure
test_f (tests.test_x.Case.test_f) ... test_f said
ERROR

======
ERROR: test_f (tests.test_x.Case.test_f)
----
Ran 6 tests in 0.001s

FAILED (failures=1, errors=1)
"""


def test_unittest_logs() -> None:
    said = parser("unittest")(UNITTEST)
    assert {name.removeprefix("tests.test_x.Case.test_"): said[name] for name in said} == {
        "a": Status.PASSED,
        "b": Status.FAILED,
        "c": Status.PASSED,
        "d": Status.SKIPPED,
        "e": Status.XFAIL,
        "f": Status.ERROR,
    }
    assert suite_ran(UNITTEST)
    older = UNITTEST.replace(".Case.test_a)", ".Case)").replace(".Case.test_f)", ".Case)")
    assert parser("unittest")(older) == said
    lost = "ERROR: tests.test_x (unittest.loader._FailedTest.tests.test_x)"
    assert parser("unittest")(lost) == {"unittest.loader._FailedTest.tests.test_x": Status.ERROR}
    assert not suite_ran("Traceback\nPASSED x")
    with pytest.raises(UnknownName, match="did you mean 'unittest'"):
        parser("unitest")


@pytest.mark.parametrize(
    ("said", "grade"),
    [
        ({"t::a": "PASSED", "t::b": "XFAIL", "t::c": "SKIPPED"}, Grade.RESOLVED),
        ({"t::a": "PASSED", "t::b": "SKIPPED", "t::c": "PASSED"}, Grade.PARTIAL),
        ({"t::a": "PASSED", "t::c": "PASSED"}, Grade.PARTIAL),
        ({"t::a": "FAILED", "t::b": "ERROR", "t::c": "PASSED"}, Grade.UNRESOLVED),
        ({"t::a": "PASSED", "t::b": "PASSED", "t::c": "FAILED"}, Grade.UNRESOLVED),
        ({"t::a": "PASSED", "t::b": "PASSED"}, Grade.UNRESOLVED),
        ({}, Grade.UNRESOLVED),
    ],
)
def test_grades(said: dict[str, str], grade: Grade) -> None:
    assert judge({name: Status(word) for name, word in said.items()}, TASK)[0] is grade


def test_what_is_absent_passes_where_only_failures_are_told() -> None:
    only = replace(TASK, eval_type="fail_only")
    assert judge({}, only)[0] is Grade.RESOLVED
    grade, first, second = judge({"t::a": Status.FAILED}, only)
    assert (grade, first) == (Grade.PARTIAL, Outcomes(("t::b",), ("t::a",)))
    assert second == Outcomes(("t::c",), ())


def test_ids_that_were_cut_short() -> None:
    passed, failed = Status.PASSED, Status.FAILED
    both = {"t::a[x y]": passed, "t::a[x z]": passed, "t::a": failed}
    assert status_of(both, "t::a[x") is passed
    assert status_of({**both, "t::a[x z]": failed}, "t::a[x") is None
    assert status_of(both, "t::b[x") is None
    assert status_of({"t::a[x": failed, **both}, "t::a[x") is failed


def test_every_reason_has_its_sentence() -> None:
    assert all(reason.sentence.endswith(".") for reason in Reason)
