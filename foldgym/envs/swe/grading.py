"""Grade a submission in a fresh box: base, admitted changes, hidden tests over them, the tests.

    verdict = grade(task, patch)        # a patch as text, or the changes themselves
    verdict.grade, verdict.reason, verdict.fail_to_pass.failure

Nothing of the agent's box comes here but the changes. A submission that passes is run once more,
in another box, with hidden tests that must all fail: one that passes those too forges its results.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from foldgym.containers import End
from foldgym.containers.sandbox import MB
from foldgym.envs.swe.guard import Failing, admit, failing
from foldgym.envs.swe.parsers import Status, Statuses, parser, suite_ran
from foldgym.envs.swe.patches import PatchError, apply_patch
from foldgym.envs.swe.places import LIMITS, Place
from foldgym.envs.swe.preparing import prepare, unprepared
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import Change, Entry, Tree, base_tree, compare, put, with_bug
from foldgym.envs.swe.verdict import Grade, Reason, Verdict, judge
from foldgym.errors import DataError, SandboxError

LOG_CAP = 20 * MB
_KEPT = 20_000
_SPARE = 900.0
"""Seconds of a box beside those of the test command."""
_BAD = (Status.FAILED, Status.ERROR)
_START, _END, _CODE = (
    ">>>>> Start Test Output",
    ">>>>> End Test Output",
    ">>>>> Test Exit Code",
)
_SCRIPT = f"""read -r nonce
exec </dev/null 2>&1
printf '\\n%s %s\\n' '{_START}' "$nonce"
(
COMMAND
)
code=$?
printf '\\n%s %s\\n%s %s: %s\\n' '{_END}' "$nonce" '{_CODE}' "$nonce" "$code"
exit "$code"
"""
"""The nonce comes by the standard input and is in no variable that the tests are given."""


@dataclass(frozen=True, slots=True)
class TestRun:
    """What the test command did: its log between the markers, and why there is none."""

    __test__ = False

    log: str
    code: int
    seconds: float
    reason: Reason = Reason.NONE


def run_tests(
    task: SweTask, tree: Mapping[str, Entry], backend: str = "auto", run: str = ""
) -> TestRun:
    """Run the task's test command on exactly these files, in a fresh box.

    Raises `SandboxError` if the box does not come up or dies.
    """
    limits = replace(LIMITS, seconds=task.timeout + _SPARE)
    nonce = secrets.token_hex(16)
    with Place(task, backend, limits, run) as place:
        place.fill(tree)
        if task.workdir:  # what is built there may ask git; the image's history may hold the answer
            place.commit()
        done = place.exec(
            _SCRIPT.replace("COMMAND", task.test_command),
            task.timeout,
            stdin=f"{nonce}\n".encode(),
            cap=LOG_CAP,
        )
    text = done.text
    if done.end is End.TIMEOUT:
        return TestRun(text, done.code, done.seconds, Reason.TIMEOUT)
    if done.end is End.MEMORY:
        return TestRun(text, done.code, done.seconds, Reason.MEMORY)
    if done.dropped:
        return TestRun(text, done.code, done.seconds, Reason.TRUNCATED)
    _, start, rest = text.partition(f"\n{_START} {nonce}\n")
    log, end, told = rest.rpartition(f"\n{_END} {nonce}\n")
    mark = f"{_CODE} {nonce}: "
    code = told.partition("\n")[0].removeprefix(mark)
    if not start or not end or not told.startswith(mark) or not code.isdigit():
        return TestRun(text, done.code, done.seconds, Reason.MARKERS)
    return TestRun(log, int(code), done.seconds)


def grade(
    task: SweTask,
    submission: str | Sequence[Change],
    *,
    backend: str = "auto",
    check: bool = True,
    retries: int = 1,
    run: str = "",
    keep: int = _KEPT,
) -> Verdict:
    """The verdict on a patch (git's or plain unified text) or on changes of the base tree.

    `check=False` leaves out the second run, with tests that must fail. A box that dies is tried
    again `retries` times. Raises `SandboxError` then: no verdict, and no 0. `keep` is how many
    characters of the log's end are kept. Raises `UserError` for a task that cannot be graded: an
    unknown parser, a base that cannot be read.
    """
    parser(task.log_parser)
    if not task.test_command or not task.fail_to_pass:
        raise DataError(
            f"task {task.id}: it has no test_command or no fail_to_pass to be graded by"
        )
    while True:
        try:
            return _grade(task, submission, backend, check, run, keep)
        except SandboxError:
            retries -= 1
            if retries < 0:
                raise


def start_tree(task: SweTask, backend: str = "auto", run: str = "") -> Tree:
    """What the agent starts from, out of the task or else out of its image."""
    tree = base_tree(task)
    if tree is None:
        with Place(task, backend, run=run) as place:
            tree = with_bug(place.tree(), task)
    return tree


def _grade(
    task: SweTask,
    submission: str | Sequence[Change],
    backend: str,
    check: bool,
    run: str,
    keep: int,
) -> Verdict:
    base = start_tree(task, backend, run)
    if unprepared(task):
        task = prepare(task, base)
    if isinstance(submission, str):
        try:
            changes = compare(base, apply_patch(base, submission)) if submission.strip() else ()
        except PatchError as problem:
            return Verdict(Grade.INVALID, Reason.PATCH, str(problem))
    else:
        changes = tuple(submission)
    admitted = admit(changes, task)
    aside = admitted.set_aside
    if admitted.too_large:
        return Verdict(Grade.INVALID, Reason.PATCH, admitted.too_large)
    if admitted.tampering:
        return Verdict(Grade.INVALID, Reason.TAMPERING, admitted.tampering, set_aside=aside)
    if not admitted.changes:
        told = "nothing but what is set aside was changed" if aside else "nothing was changed"
        return Verdict(Grade.UNRESOLVED, detail=told, set_aside=aside)
    tree = dict(base)
    for change in admitted.changes:
        put(tree, change.path, change.after)
    verdict, statuses = _tested(task, tree, backend, run, keep)
    if check and verdict.grade in (Grade.RESOLVED, Grade.PARTIAL):
        verdict = _checked(task, tree, verdict, statuses, backend, run)
    return replace(verdict, set_aside=aside)


def _tested(
    task: SweTask, tree: Tree, backend: str, run: str, keep: int
) -> tuple[Verdict, Statuses]:
    done = run_tests(task, with_tests(tree, task.tests), backend, run)
    statuses = parser(task.log_parser)(done.log)
    reason = done.reason if done.reason is not Reason.NONE else unfit(statuses, done)
    verdict = Verdict(
        Grade.INVALID,
        reason,
        reason.sentence,
        exit_code=done.code,
        seconds=done.seconds,
        log=done.log[-keep:],
    )
    if reason is Reason.NONE:
        found, first, second = judge(statuses, task)
        verdict = replace(verdict, grade=found, detail="", fail_to_pass=first, pass_to_pass=second)
    return verdict, statuses


def unfit(statuses: Statuses, done: TestRun) -> Reason:
    """Why a log cannot be judged, by SWE-bench's rules."""
    if not statuses and not suite_ran(done.log):
        return Reason.EMPTY
    if done.code != 0 and not any(status in _BAD for status in statuses.values()):
        return Reason.EXIT_CODE
    return Reason.NONE


def with_tests(tree: Mapping[str, Entry], tests: Mapping[str, bytes]) -> Tree:
    """The tree with hidden tests over whatever lies at their paths."""
    done = dict(tree)
    for path, data in tests.items():
        before = tree.get(path)
        put(done, path, Entry(data, before is not None and before.executable and not before.link))
    return done


def _checked(
    task: SweTask, tree: Tree, verdict: Verdict, statuses: Statuses, backend: str, run: str
) -> Verdict:
    """Run it with tests that must fail; whoever passes one forges results."""
    wrong = failing(task.tests)
    passed = (*verdict.fail_to_pass.success, *verdict.pass_to_pass.success)
    good = (Status.PASSED, None)  # one that is expected to fail does so whatever it holds
    must = [each for each in passed if wrong.covers(each) and statuses.get(each) in good]
    if not must:
        return verdict
    done = run_tests(task, with_tests(tree, wrong.tests), backend, run)
    problem = _forged(task, done, must, wrong)
    if not problem:
        return replace(verdict, checked=True)
    return replace(verdict, grade=Grade.INVALID, reason=Reason.TAMPERING, detail=problem)


def _forged(task: SweTask, done: TestRun, must: Sequence[str], wrong: Failing) -> str:
    statuses = parser(task.log_parser)(done.log)
    for test in must:
        if statuses.get(test) is Status.PASSED:
            return f"{test} passes although it raises at once"
    if done.reason is Reason.NONE and done.code == 0:
        return "the tests exit with 0 although they must fail"
    if not any(status in _BAD for status in statuses.values()):
        return f"no test fails although {len(wrong.functions)} functions raise at once"
    return ""
