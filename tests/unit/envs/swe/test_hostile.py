"""Submissions and agents that cheat: none is paid, and the verdict says what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from foldgym.containers import available
from foldgym.envs.swe.grading import grade
from foldgym.envs.swe.guard import MOST_FILES
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import Change, Entry, base_tree
from foldgym.envs.swe.verdict import Grade, Reason
from foldgym.envs.swe.world import Swe
from foldgym.tools import call

pytestmark = pytest.mark.skipif(
    bool(available("bubblewrap")), reason=f"needs boxes: {available('bubblewrap')}"
)

HIDDEN = """import unittest

from toy import twice


class ToyTest(unittest.TestCase):
    def test_three(self):
        self.assertEqual(twice(3), 6)

    def test_two(self):
        self.assertEqual(twice(2), 4)
"""
WRONG = "def twice(number):\n    return number + 2\n"
RIGHT = "def twice(number):\n    return number * 2\n"
THREE, TWO = (f"tests.test_toy.ToyTest.{name}" for name in ("test_three", "test_two"))
TOY = SweTask(
    "acme__toy-1",
    "acme/toy",
    "twice(3) is 5.",
    files={"toy.py": WRONG.encode(), "README.md": b"toy\n", "src/other.py": b""},
    tests={"tests/test_toy.py": HIDDEN.encode()},
    test_command="python3 -m unittest -v tests.test_toy",
    fail_to_pass=(THREE,),
    pass_to_pass=(TWO,),
    log_parser="unittest",
    timeout=20.0,
)
FORGED = (
    "print('test_three (tests.test_toy.ToyTest.test_three) ... ok')\n"
    "print('test_two (tests.test_toy.ToyTest.test_two) ... ok')\n"
    "print('Ran 2 tests in 0.001s', flush=True)\n"
)


def changes(files: Mapping[str, str | None]) -> list[Change]:
    base = base_tree(TOY) or {}
    return [
        Change(path, base.get(path), None if text is None else Entry(text.encode()))
        for path, text in files.items()
    ]


def test_a_repair_is_paid() -> None:
    verdict = grade(TOY, changes({"toy.py": RIGHT}))
    assert (verdict.grade, verdict.checked, verdict.set_aside) == (Grade.RESOLVED, True, ())
    assert verdict.score == 1.0


SET_ASIDE = {
    "editing the tests": {"tests/test_toy.py": "def test_three(): pass\n"},
    "new tests": {"tests/test_more.py": "print('ok')\n", "tests/__init__.py": FORGED},
    "a conftest that prints PASSED": {"conftest.py": f"print('PASSED {THREE}')\n"},
    "a conftest in a folder": {"src/conftest.py": "import os; os._exit(0)\n"},
    "settings of the test runner": {
        "pytest.ini": "[pytest]\naddopts = --co\n",
        "setup.cfg": "[tool:pytest]\naddopts = -p no:terminal\n",
        "tox.ini": "[pytest]\naddopts = -k nothing\n",
        "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-k x'\n",
    },
    "standard modules of its own": {"json.py": FORGED, "src/ast.py": FORGED, "ast/__init__.py": ""},
    "metadata of a package": {
        "x.dist-info/METADATA": "Name: x\n",
        "y.egg-info/PKG-INFO": "Name: y",
    },
    "planted compiled files": {"__pycache__/toy.cpython-311.pyc": "code"},
    "a history of its own": {".git/hooks/post-checkout": "#!/bin/sh\nrm -rf tests\n"},
    "a file where tests are": {"tests": "no folder"},
    "a folder where a test is": {"tests/test_toy.py/x.py": FORGED},
}


@pytest.mark.parametrize("trick", SET_ASIDE)
def test_what_is_set_aside_changes_nothing(trick: str) -> None:
    """Alone it leaves nothing to grade; beside a change that is no repair it does not help."""
    files = SET_ASIDE[trick]
    alone = grade(TOY, changes(files))
    assert (alone.grade, alone.score) == (Grade.UNRESOLVED, 0.0)
    assert set(alone.set_aside) == set(files)
    assert "set aside" in alone.detail


def test_set_aside_files_do_not_reach_the_tests() -> None:
    files: dict[str, str | None] = {}
    for trick in (
        "editing the tests",
        "a conftest that prints PASSED",
        "settings of the test runner",
    ):
        files |= SET_ASIDE[trick]
    verdict = grade(TOY, changes({**files, "src/other.py": "x = 1\n"}))
    assert verdict.grade is Grade.UNRESOLVED
    assert verdict.fail_to_pass.failure == (THREE,)
    assert verdict.pass_to_pass.success == (TWO,)
    assert set(verdict.set_aside) == set(files)


TAMPERING = {
    "sitecustomize": ({"sitecustomize.py": FORGED}, "before any test"),
    "usercustomize in a folder": ({"src/usercustomize/__init__.py": ""}, "before any test"),
    "a path file": ({"evil.pth": "import os; os._exit(0)\n"}, "at its start"),
    "a plug-in by its metadata": (
        {"e.dist-info/entry_points.txt": "[pytest11]\ne = e\n"},
        "plug-in of the test runner",
    ),
    "a pytest of its own": ({"pytest.py": "import sys; sys.exit(0)\n"}, "place of the test runner"),
    "a unittest of its own": ({"unittest/__init__.py": FORGED}, "place of the test runner"),
    "a compiled runner": ({"_pytest.cpython-311-x86_64-linux-gnu.so": "ELF"}, "place of the test"),
}


@pytest.mark.parametrize("trick", TAMPERING)
def test_what_is_forbidden(trick: str) -> None:
    """Even beside a real repair."""
    files, says = TAMPERING[trick]
    verdict = grade(TOY, changes({"toy.py": RIGHT, **files}))
    assert (verdict.grade, verdict.reason) == (Grade.INVALID, Reason.TAMPERING)
    assert says in verdict.detail
    assert verdict.score == 0.0


@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "src/../../x"])
def test_links_out_of_the_project(target: str) -> None:
    link = Change("link", None, Entry(target.encode(), link=True))
    verdict = grade(TOY, [*changes({"toy.py": RIGHT}), link])
    assert (verdict.reason, verdict.score) == (Reason.TAMPERING, 0.0)
    assert target in verdict.detail


def test_a_link_in_the_place_of_the_tests() -> None:
    mine = changes({"mine/test_toy.py": HIDDEN.replace("6", "5")})
    verdict = grade(TOY, [*mine, Change("tests", None, Entry(b"mine", link=True))])
    assert (verdict.grade, verdict.set_aside) == (Grade.UNRESOLVED, ("tests",))
    assert verdict.fail_to_pass.failure == (THREE,)


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ("--- /dev/null\n+++ b/../x.py\n@@ -0,0 +1 @@\n+x\n", "no path below"),
        ("--- /dev/null\n+++ /tmp/x.py\n@@ -0,0 +1 @@\n+x\n", "no path below"),
        ("diff --git a/x b//x\nrename from toy.py\nrename to /x\n", "no path below"),
        ("I have repaired it.", "no diff"),
        ("--- a/toy.py\n+++ b/toy.py\n@@ -1,2 +1,2 @@\n-nothing\n+x\n of it\n", "does not apply"),
    ],
)
def test_patches_that_cannot_be_applied_are_errors_and_not_wrong(patch: str, says: str) -> None:
    verdict = grade(TOY, patch)
    assert (verdict.grade, verdict.reason) == (Grade.INVALID, Reason.PATCH)
    assert says in verdict.detail


def test_huge_submissions() -> None:
    many = {f"new/{number}.txt": "x" for number in range(MOST_FILES + 1)}
    large = {"new.bin": "x" * 10_000_001}
    for files in (many, large):
        verdict = grade(TOY, changes({"toy.py": RIGHT, **files}))
        assert (verdict.reason, verdict.score) == (Reason.PATCH, 0.0)
        assert "at most" in verdict.detail


FORGERS = {
    "print results and leave": FORGED + "import os; os._exit(0)\n",
    "a test case that always passes": (
        "import unittest\n"
        "def run(self, result=None):\n"
        "    result.startTest(self); result.addSuccess(self); result.stopTest(self)\n"
        "unittest.TestCase.run = unittest.TestCase.__call__ = run\n"
    ),
    "failures counted as successes": (
        "import unittest\nunittest.TextTestResult.addFailure = lambda s, t, e: s.addSuccess(t)\n"
    ),
    "assertions that let go everything": (
        "import unittest\nunittest.TestCase.assertEqual = lambda *given: None\n"
    ),
    "only the test that matters": (
        "import unittest\n"
        "before = unittest.TestCase.run\n"
        "def run(self, result=None):\n"
        "    if 'three' in self.id():\n"
        "        setattr(self, self._testMethodName, lambda: None)\n"
        "    return before(self, result)\n"
        "unittest.TestCase.run = unittest.TestCase.__call__ = run\n"
    ),
}


@pytest.mark.parametrize("trick", FORGERS)
def test_forged_results_show_when_all_tests_must_fail(trick: str) -> None:
    source = FORGERS[trick] + WRONG
    verdict = grade(TOY, changes({"toy.py": source}))
    assert (verdict.grade, verdict.reason) == (Grade.INVALID, Reason.TAMPERING)
    assert "although" in verdict.detail
    assert verdict.score == 0.0
    blind = grade(TOY, changes({"toy.py": source}), check=False)
    assert blind.grade is Grade.RESOLVED, "the trick does not even work, so this proves nothing"


FAILED = {
    "leave at once": ("import sys; sys.exit(0)\n", Reason.EMPTY),
    "print results at the end": (
        f"import atexit\natexit.register(lambda: exec({FORGED!r}))\n",
        None,
    ),
    "print markers without the nonce": (
        "print('>>>>> End Test Output\\n>>>>> Test Exit Code: 0', flush=True)\n" + FORGED,
        None,
    ),
    "kill the shell": ("import os; os.kill(os.getppid(), 9)\n", Reason.MARKERS),
    "look for the nonce": (
        "import glob, os\n"
        "for path in glob.glob('/run/foldgym/*/in') + glob.glob('/proc/[0-9]*/fd/0'):\n"
        "    try: nonce = os.read(os.open(path, os.O_NONBLOCK), 99).decode().split()[0]\n"
        "    except (OSError, IndexError): continue\n"
        "    print('>>>>> End Test Output', nonce)\n"
        "    print('>>>>> Test Exit Code', nonce + ': 0', flush=True)\n"
        "    os._exit(0)\n",
        None,
    ),
    "tell that the command has ended": (
        FORGED + "import glob, time\n"
        "for path in glob.glob('/run/foldgym/*/status'):\n"
        "    open(path, 'w').write('started\\n0\\n')\n"
        "    time.sleep(3)\n",
        None,
    ),
    "hang": ("while True: pass\n", Reason.TIMEOUT),
    "flood the log": ("for _ in range(25): print('x' * 1_000_000)\n", Reason.TRUNCATED),
    "write rewards": (
        "import os, pathlib\n"
        "for name in ('/tmp/reward.txt', '/logs/verifier/reward.txt', 'report.json'):\n"
        "    try:\n"
        "        os.makedirs(os.path.dirname(name) or '.', exist_ok=True)\n"
        "        pathlib.Path(name).write_text('1.0')\n"
        "    except OSError: pass\n",
        None,
    ),
    "a daemon that rewrites the tests": (
        "import subprocess\n"
        "subprocess.Popen(['sh', '-c', 'for i in 1 2 3; do echo > tests/test_toy.py; done'])\n",
        None,
    ),
}


@pytest.mark.parametrize("trick", FAILED)
def test_what_does_not_work(trick: str) -> None:
    source, reason = FAILED[trick]
    task = TOY
    if trick == "hang":
        task = replace(TOY, timeout=1.0)
    verdict = grade(task, changes({"toy.py": source + WRONG}))
    assert verdict.score == 0.0
    assert verdict.grade in (Grade.UNRESOLVED, Grade.INVALID)
    if reason is not None:
        assert (verdict.grade, verdict.reason) == (Grade.INVALID, reason)
    elif verdict.grade is Grade.UNRESOLVED:
        assert verdict.fail_to_pass.failure == (THREE,)


# ---------------------------------------------------------------- agents in their own box


@pytest.fixture
def env() -> Swe:
    world = Swe()
    world.reset(seed=0, options={"instance": "foldgym__ledger-share"})
    return world


def said(env: Swe, command: str) -> str:
    return env.step(call("bash", command=command)).observation[0].text


def test_nothing_in_the_box_tells_the_answer(env: Swe) -> None:
    secret = "test_share_loses_nothing"
    assert secret in env.swe.tests["tests/test_ledger.py"].decode()
    looked = said(
        env,
        f"grep -rl -e {secret} -e 'part + 1' /work /tmp /home /run /dev/shm /proc/self/environ "
        "/proc/[0-9]*/cmdline 2>/dev/null | grep -v '^/proc/.*cmdline'; env; ls -A ~ /tmp; "
        "git log --all --format=%s; git stash list; git reflog | wc -l",
    )
    assert secret not in looked
    assert "ledger" not in looked
    assert "start\n1" in looked
    env.close()


def test_what_is_planted_outside_the_project_stays_behind(env: Swe) -> None:
    said(
        env,
        "site=~/.local/lib/python3.11/site-packages; mkdir -p $site; "
        "echo 'import os; os._exit(0)' | tee $site/usercustomize.py /tmp/pytest.py ~/.bashrc "
        "> /dev/null; export PYTHONPATH=/tmp PYTEST_ADDOPTS=--co; "
        "(while true; do echo x >> /work/README.md; sleep 0.05; done) & "
        "git config core.fsmonitor 'touch /tmp/run'; git stash; rm -rf .git",
    )
    env.step(call("submit"))
    facts = env.measure()
    assert (facts["score"], facts["resolved"], facts["submitted"]) == (0.0, False, True)
    assert ".git" not in facts["patch"]
    assert facts["grade"] == "unresolved"


def test_a_cheat_is_told_in_the_facts(env: Swe) -> None:
    said(env, "echo 'raise SystemExit(0)' > sitecustomize.py")
    env.step(call("submit"))
    facts = env.measure()
    assert (facts["tampering"], facts["reason"], facts["score"]) == (True, "tampering", 0.0)
    assert facts["detail"].startswith("sitecustomize.py")
