"""What grading says: resolved or not by which tests, or why there is nothing to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from foldgym.envs.swe.parsers import Status, Statuses
from foldgym.envs.swe.task import SweTask
from foldgym.types import Json


class Grade(Enum):
    """How a submission did. A failure of ours is none of these: it raises `SandboxError`."""

    RESOLVED = "resolved"
    PARTIAL = "partial"
    UNRESOLVED = "unresolved"
    INVALID = "invalid"


class Reason(Enum):
    """Why a submission is invalid, each with its sentence in `Reason.sentence`."""

    NONE = ""
    PATCH = "patch"
    TAMPERING = "tampering"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    MARKERS = "markers"
    TRUNCATED = "truncated"
    EXIT_CODE = "exit_code"
    EMPTY = "empty"

    @property
    def sentence(self) -> str:
        """What it means."""
        return _SENTENCES[self]


_SENTENCES = {
    Reason.NONE: "The tests were judged.",
    Reason.PATCH: "The patch cannot be read, or does not apply.",
    Reason.TAMPERING: "The submission interferes with how it is tested.",
    Reason.TIMEOUT: "The tests outlived their time.",
    Reason.MEMORY: "The tests held more memory than the box may.",
    Reason.MARKERS: "The test run ended before its end was marked.",
    Reason.TRUNCATED: "The log is longer than its cap, so that tests are missing in it.",
    Reason.EXIT_CODE: "The exit code does not agree with what the log says of the tests.",
    Reason.EMPTY: "The log names no test, and no test runner came to its end.",
}


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of one list of tests, those that are as they should be, and the others."""

    success: tuple[str, ...] = ()
    failure: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """`Verdict(Grade.RESOLVED, fail_to_pass=Outcomes(("t::a",)))`.

    `detail` says in words what was found. `set_aside` are changed paths that did not come into the
    grading box. `checked` says that the tests were also seen to fail when they had to (see
    `grade`). `log` is the end of the test run's output, `seconds` how long the tests took.
    """

    grade: Grade
    reason: Reason = Reason.NONE
    detail: str = ""
    fail_to_pass: Outcomes = Outcomes()
    pass_to_pass: Outcomes = Outcomes()
    set_aside: tuple[str, ...] = ()
    checked: bool = False
    exit_code: int = 0
    seconds: float = 0.0
    log: str = ""

    @property
    def resolved(self) -> bool:
        """All that had to pass passes."""
        return self.grade is Grade.RESOLVED

    @property
    def score(self) -> float:
        """1 if resolved, else 0."""
        return float(self.resolved)

    def report(self) -> dict[str, Json]:
        """As one JSON object, less the log and the time."""
        return {
            "grade": self.grade.value,
            "reason": self.reason.value,
            "detail": self.detail,
            "resolved": self.resolved,
            "checked": self.checked,
            "set_aside": list(self.set_aside),
            "tests_status": {
                "FAIL_TO_PASS": _table(self.fail_to_pass),
                "PASS_TO_PASS": _table(self.pass_to_pass),
            },
        }


def _table(tests: Outcomes) -> dict[str, Json]:
    return {"success": list(tests.success), "failure": list(tests.failure)}


def judge(statuses: Statuses, task: SweTask) -> tuple[Grade, Outcomes, Outcomes]:
    """The grade of a run by SWE-bench's rules, with the tests of both lists.

    A FAIL_TO_PASS test must be PASSED or XFAIL; of PASS_TO_PASS, SKIPPED is as good. A test that is
    missing has failed. An id that was cut short (it opens more brackets than it closes) is all
    tests that begin so, if they agree on having passed. With `fail_only` a test has failed if the
    log says FAILED of just its id. Partial: some but not all of FAIL_TO_PASS, and all of
    PASS_TO_PASS.
    """
    fixed = (Status.PASSED, Status.XFAIL)
    absent = task.eval_type == "fail_only"
    first = _split(statuses, task.fail_to_pass, fixed, absent)
    second = _split(statuses, task.pass_to_pass, (*fixed, Status.SKIPPED), absent)
    if second.failure:
        grade = Grade.UNRESOLVED
    elif not first.failure:
        grade = Grade.RESOLVED
    else:
        grade = Grade.PARTIAL if first.success else Grade.UNRESOLVED
    return grade, first, second


def _split(
    statuses: Mapping[str, Status], tests: Sequence[str], good: Sequence[Status], absent: bool
) -> Outcomes:
    success: list[str] = []
    failure: list[str] = []
    for test in tests:
        if absent:
            passed = statuses.get(test) is not Status.FAILED
        else:
            passed = status_of(statuses, test) in good
        (success if passed else failure).append(test)
    return Outcomes(tuple(success), tuple(failure))


def status_of(statuses: Mapping[str, Status], test: str) -> Status | None:
    """What became of a test; None if the log does not tell, or tells different things."""
    if test in statuses or test.count("[") <= test.count("]"):
        return statuses.get(test)
    found = [status for name, status in statuses.items() if name.startswith(test)]
    agree = len({status in (Status.PASSED, Status.XFAIL) for status in found}) == 1
    return found[0] if agree else None
