"""Hidden tests that only a task's own base can tell: those that its test patch changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from foldgym.envs.swe.patches import PatchError, apply_patch
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import Entry, compare
from foldgym.errors import DataError


def unprepared(task: SweTask) -> bool:
    """Whether it has hidden tests, but none as whole files."""
    told = task.metadata
    patch = str(told.get("test_patch", ""))
    return not task.tests and bool(patch.strip() or told.get("test_files"))


def prepare(task: SweTask, base: Mapping[str, Entry]) -> SweTask:
    """The task with its hidden tests as whole files, as grading has them.

    `base` is what the agent starts from (`grading.start_tree`). They are the files that the test
    patch leaves behind, and the files of the base that the expected names tell of. Files that a
    test patch removes stay. Raises `DataError` where the patch does not apply.
    """
    tests = dict(task.tests)
    for path in task.metadata.get("test_files", ()):
        if path in base:
            tests[path] = base[path].data
    patch = str(task.metadata.get("test_patch", ""))
    if patch.strip():
        try:
            changes = compare(base, apply_patch(dict(base), patch))
        except PatchError as problem:
            raise DataError(f"task {task.id}: its test patch does not apply: {problem}") from None
        tests |= {each.path: each.after.data for each in changes if each.after is not None}
    if not tests:
        raise DataError(f"task {task.id}: there is no test file in its base, nor in a test patch")
    return replace(task, tests=tests)
