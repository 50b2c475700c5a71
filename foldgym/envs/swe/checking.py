"""Whether a set of tasks is sound: gold resolves each, doing nothing none, garbage is an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from foldgym.envs.swe.grading import LOG_CAP, grade, run_tests, start_tree, with_tests
from foldgym.envs.swe.parsers import parser
from foldgym.envs.swe.preparing import prepare, unprepared
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.verdict import Grade, Reason, judge
from foldgym.errors import DataError
from foldgym.types import Json

GARBAGE = "--- a/no/such/file.py\n+++ b/no/such/file.py\n@@ -1,2 +1,2 @@\n context\n-old\n+new\n"
"""A patch in good form of a file that no project has."""


@dataclass(frozen=True, slots=True)
class Check:
    """What grading said of one task, three times; `seconds` for all of it.

    `gold`, `nothing` and `garbage` are grades, with the reason where there is one. `untouched` is
    the grade of the project as the agent finds it, its tests really run: grading itself does not
    run them when nothing was changed; empty if that was left out.
    """

    task: str
    gold: str
    nothing: str
    garbage: str
    untouched: str
    seconds: float = 0.0

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with the task; empty if nothing is."""
        found: list[str] = []
        if self.gold != Grade.RESOLVED.value:
            found.append(f"gold: {self.gold}")
        found += [
            f"{name}: {said}"
            for name, said in (("nothing", self.nothing), ("untouched", self.untouched))
            if said not in (Grade.UNRESOLVED.value, "")
        ]
        if self.garbage != f"{Grade.INVALID.value}: {Reason.PATCH.value}":
            found.append(f"garbage: {self.garbage}")
        return tuple(found)

    def row(self) -> dict[str, Json]:
        """As one JSON object."""
        return {
            "task": self.task,
            "gold": self.gold,
            "nothing": self.nothing,
            "garbage": self.garbage,
            "untouched": self.untouched,
            "seconds": round(self.seconds, 3),
        }

    @classmethod
    def of(cls, row: dict[str, Json]) -> Check:
        """From a row. Raises `DataError` for what is none."""
        try:
            return cls(**row)
        except TypeError as problem:
            raise DataError(f"no row of a check: {problem}") from None


def check_task(
    task: SweTask,
    backend: str = "auto",
    logs: Path | None = None,
    guard: bool = False,
    quick: bool = False,
) -> Check:
    """Grade the gold patch, an empty one and garbage, and run the untouched project's tests.

    `guard`: gold is also run with tests that must fail, as in training, which is slow where they
    are many. `quick` leaves the untouched project's tests out. `logs` is a folder for
    `<task id>/gold.log` and `<task id>/empty.log`, whole. Raises `SandboxError` if the boxes fail.
    """
    began = monotonic()
    said: dict[str, str] = {}
    for name, patch in (("gold", task.gold_patch), ("nothing", ""), ("garbage", GARBAGE)):
        verdict = grade(task, patch, backend=backend, check=guard, run="swe-check", keep=LOG_CAP)
        said[name] = verdict.grade.value
        if verdict.reason is not Reason.NONE:
            said[name] += f": {verdict.reason.value}"
        if name == "gold":
            _keep(logs, task, "gold", verdict.log)
    if quick:
        return Check(task.id, **said, untouched="", seconds=monotonic() - began)
    tree = start_tree(task, backend, "swe-check")
    if unprepared(task):
        task = prepare(task, tree)
    done = run_tests(task, with_tests(tree, task.tests), backend, "swe-check")
    _keep(logs, task, "empty", done.log)
    if done.reason is Reason.NONE:
        untouched = judge(parser(task.log_parser)(done.log), task)[0].value
    else:
        untouched = f"{Grade.INVALID.value}: {done.reason.value}"
    return Check(task.id, **said, untouched=untouched, seconds=monotonic() - began)


def _keep(logs: Path | None, task: SweTask, name: str, text: str) -> None:
    if logs is None:
        return
    path = logs / task.id / f"{name}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as problem:
        raise DataError(f"cannot write {path}: {problem.strerror}") from None


def check_tasks(
    tasks: Sequence[SweTask],
    backend: str = "auto",
    workers: int = 2,
    logs: Path | None = None,
    guard: bool = False,
    quick: bool = False,
    done: dict[str, Check] | None = None,
    advance: Callable[[Check], None] = lambda _: None,
) -> list[Check]:
    """Check tasks in parallel boxes, in their order; those in `done` are taken from there.

    `advance(check)` is called for each as it is finished.
    """
    known = done or {}

    def one(task: SweTask) -> Check:
        if task.id in known:
            return known[task.id]
        check = check_task(task, backend, logs, guard, quick)
        advance(check)
        return check

    with ThreadPoolExecutor(workers, thread_name_prefix="swe check") as threads:
        return list(threads.map(one, tasks))
