"""Sound tasks pass the check, and every way in which one can be unsound is told."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from foldgym.containers import available
from foldgym.envs.swe.checking import Check, check_task, check_tasks
from foldgym.envs.swe.task import SweTask

pytestmark = pytest.mark.skipif(available("process") != "", reason="boxes need Linux and bash")

BACKEND = "process" if available("bubblewrap") else "bubblewrap"
TESTS = b"""import unittest
from toy import thrice, twice

class T(unittest.TestCase):
    def test_twice(self):
        self.assertEqual(twice(2), 4)
    def test_thrice(self):
        self.assertEqual(thrice(2), 6)
"""
GOLD = """--- a/toy.py
+++ b/toy.py
@@ -1,2 +1,2 @@
 def twice(n):
-    return n + n + 1
+    return n + n
"""
TASK = SweTask(
    "toy-1",
    "acme/toy",
    "`twice(2)` gives 5.",
    files={"toy.py": b"def twice(n):\n    return n + n + 1\ndef thrice(n):\n    return 3 * n\n"},
    tests={"tests/test_toy.py": TESTS, "tests/__init__.py": b""},
    test_command="python3 -m unittest -v tests.test_toy",
    log_parser="unittest",
    fail_to_pass=("tests.test_toy.T.test_twice",),
    pass_to_pass=("tests.test_toy.T.test_thrice",),
    gold_patch=GOLD,
)


@pytest.fixture(scope="module", autouse=True)
def state() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="boxes-") as name, pytest.MonkeyPatch.context() as m:
        Path(name).chmod(0o711)
        m.setenv("FOLDGYM_STATE", name)
        yield


def test_a_sound_task_passes_and_leaves_its_logs(tmp_path: Path) -> None:
    check = check_task(TASK, BACKEND, tmp_path, guard=True)
    assert replace(check, seconds=0.0) == Check(
        "toy-1", "resolved", "unresolved", "invalid: patch", "unresolved"
    )
    assert check.problems == ()
    assert "Ran 2 tests" in (tmp_path / "toy-1" / "gold.log").read_text()
    assert "FAIL: test_twice" in (tmp_path / "toy-1" / "empty.log").read_text()


def test_a_task_without_a_fault_is_unsound() -> None:
    mended = {"toy.py": TASK.files["toy.py"].replace(b" + 1", b"")}
    extra = GOLD.replace(
        "-    return n + n + 1\n+    return n + n\n", "-    return n + n\n+    ret\n"
    )
    check = check_task(replace(TASK, files=mended, gold_patch=extra), BACKEND)
    assert check.problems == ("gold: unresolved", "untouched: resolved")


def test_a_gold_patch_that_does_not_apply_is_unsound() -> None:
    check = check_task(replace(TASK, gold_patch=GOLD.replace("n + n + 1", "7")), BACKEND)
    assert check.problems == ("gold: invalid: patch",)


def test_a_quick_check_runs_gold_alone(tmp_path: Path) -> None:
    check = check_task(TASK, BACKEND, tmp_path, quick=True)
    assert (check.untouched, check.problems) == ("", ())
    assert [path.name for path in (tmp_path / "toy-1").iterdir()] == ["gold.log"]


def test_what_was_checked_is_not_checked_again() -> None:
    before = Check("toy-1", "resolved", "unresolved", "invalid: patch", "unresolved", 1.0)
    seen: list[Check] = []
    other = replace(TASK, id="toy-2")
    found = check_tasks([TASK, other], BACKEND, 2, done={"toy-1": before}, advance=seen.append)
    assert found[0] is before
    assert [each.task for each in seen] == ["toy-2"]
    assert Check.of(found[1].row()).task == "toy-2"
