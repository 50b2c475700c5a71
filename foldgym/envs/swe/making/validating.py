"""Whether a fault makes a task: tests fail with it, and pass without it every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from foldgym.containers import End, Sandbox
from foldgym.envs.swe.making.faults import Fault, apply, differs, patch
from foldgym.envs.swe.making.report import statement
from foldgym.envs.swe.making.sources import Project
from foldgym.envs.swe.making.suite import Outcome, run_suite
from foldgym.errors import DataError, Failure

VALID = "valid"
_TIDY = "rm -rf ~/.cache /tmp/* 2>/dev/null; true"
_BACK = "/tmp/back.diff"
_BY_NAME = 40
"""Failing tests that run again by name; more than these run again with their whole files."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a package's tests say of the good code: `stable` passed in every one of `runs`."""

    stable: frozenset[str] = field(repr=False)
    flaky: tuple[str, ...]
    broken: tuple[str, ...]
    runs: int
    seconds: float
    log: str = field(repr=False, default="")

    @property
    def limit(self) -> float:
        """Seconds that a run with a fault may take: a loop that never ends must not cost much."""
        return 20.0 + 4.0 * self.seconds


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault, tried. `verdict` is `VALID` or the reason for refusing it."""

    fault: Fault
    verdict: str
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = field(default=(), repr=False)
    problem: str = ""
    patch: str = ""
    log: str = field(default="", repr=False)
    seconds: float = 0.0


def baseline(box: Sandbox, project: Project, runs: int = 2, timeout: float = 300.0) -> Baseline:
    """Run the good code's tests `runs` times, in a box that holds the project.

    Raises `DataError` if they do not run, or none passes.
    """
    outcomes: list[Outcome] = []
    for _ in range(max(runs, 2)):
        box.exec(_TIDY)
        outcome = run_suite(box, project.tests, timeout)
        if not outcome.statuses:
            last = [line for line in outcome.log.strip().splitlines() if line.strip()][-1:]
            why = outcome.end.value if outcome.end is not End.EXITED else f"code {outcome.code}"
            raise DataError(f"the tests of {project.name} do not run: {why}; {''.join(last)[:200]}")
        outcomes.append(outcome)
    sets = [outcome.passed() for outcome in outcomes]
    stable = frozenset.intersection(*map(frozenset, sets))
    ever = frozenset[str]().union(*sets)
    seen = {name for outcome in outcomes for name in outcome.statuses}
    broken = sorted(
        name
        for name in seen - ever
        if any(outcome.statuses.get(name) in ("FAILED", "ERROR") for outcome in outcomes)
    )
    if not stable:
        raise DataError(f"no test of {project.name} passes every time ({len(seen)} ran)")
    slowest = max(outcome.seconds for outcome in outcomes)
    log = outcomes[-1].log
    return Baseline(stable, tuple(sorted(ever - stable)), tuple(broken), len(sets), slowest, log)


def try_fault(
    box: Sandbox, project: Project, base: Baseline, fault: Fault, seed: int, share: float = 0.5
) -> Trial:
    """Try one fault in a box that holds the good project, and leave the box as it was found.

    The tests run once in full with the fault, and those that then fail run again by themselves:
    with the fault, where they must fail, and once it was taken back by `git apply`, where they must
    pass. The good code passed its whole suite before, `base.runs` times. More than `share` of the
    tests failing is refused: a package that hardly imports is no bug report.
    """
    good = project.files[fault.path]
    bad = apply(good, fault.edits)
    if not differs(good, bad):
        return Trial(fault, "same program, or no program")
    box.write(fault.path, bad)
    try:
        return _try(box, project, base, fault, (good, bad), seed, share)
    finally:
        box.write(fault.path, good)


def _try(
    box: Sandbox,
    project: Project,
    base: Baseline,
    fault: Fault,
    code: tuple[bytes, bytes],
    seed: int,
    share: float,
) -> Trial:
    good, bad = code
    box.exec(_TIDY)
    first = run_suite(box, project.tests, base.limit)
    spent = first.seconds
    if first.end is not End.EXITED:
        return Trial(fault, "time or memory limit", seconds=spent)
    if not first.statuses:
        return Trial(fault, "the tests do not even start", seconds=spent)
    failing = base.stable - first.passed()
    if not failing:
        return Trial(fault, "no test notices", seconds=spent)
    if len(failing) > share * len(base.stable):
        return Trial(fault, "nearly every test fails", seconds=spent)
    where = sorted(failing)
    if len(where) > _BY_NAME:
        where = sorted({name.partition("::")[0] for name in failing})
    box.exec(_TIDY)
    again = run_suite(box, where, base.limit)
    back = patch(fault.path, bad, good)
    box.exec(_TIDY)
    box.write(_BACK, back.encode())
    undone = box.exec(f"git apply {_BACK}")
    if not undone.ok or box.read(fault.path) != good:
        return Trial(fault, "its patch does not lead back", seconds=spent)
    gold = run_suite(box, where, base.limit)
    spent += again.seconds + gold.seconds
    confirmed = sorted((failing - again.passed()) & gold.passed()) if again.statuses else []
    if not confirmed:
        return Trial(fault, "the failures do not repeat", seconds=spent)
    kept = sorted(base.stable & first.passed())
    problem = statement(
        project.name, project.version, first.log, project.files, secrets(fault, good, bad), seed,
        confirmed,
    )  # fmt: skip
    if not problem:
        return Trial(fault, "no report can be told from its failures", seconds=spent)
    return Trial(fault, VALID, tuple(confirmed), tuple(kept), problem, back, first.log, spent)


def patch_of(fault: Fault, good: bytes) -> str:
    """The diff that plants a fault."""
    return patch(fault.path, good, apply(good, fault.edits))


def secrets(fault: Fault, good: bytes, bad: bytes) -> list[str]:
    """What a problem statement must not hold: the file's name, and the lines that were changed."""
    found = [PurePosixPath(fault.path).name, fault.path]
    found += [
        line[1:].strip()
        for line in patch(fault.path, good, bad).split("\n")
        if line[:1] in ("+", "-") and not line.startswith(("+++", "---"))
    ]
    return [each for each in dict.fromkeys(found) if len(each) > 1]


def interrupted(problem: Failure, fault: Fault) -> Trial:
    """The trial of a fault that cost its box: our failure or its doing, refused either way."""
    said = " ".join(str(problem).split())[:120]
    return Trial(fault, "the box was lost", problem=said)


def tally(trials: Sequence[Trial]) -> dict[str, int]:
    """How many trials came to each verdict, most frequent first."""
    counts: dict[str, int] = {}
    for trial in trials:
        counts[trial.verdict] = counts.get(trial.verdict, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
