"""What a submission may touch, by written rules, and tests that must fail, to catch forged ones."""

from __future__ import annotations

import ast
import posixpath
import re
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from foldgym.envs.swe.patches import PatchError, read_patch
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import Change, ignored

MOST_BYTES, MOST_FILES = 10_000_000, 1_000
"""A submission that changes more is no repair."""
SETTINGS = frozenset(
    ("conftest.py", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg", "pyproject.toml")
)
"""They decide how tests are run: a change to one is set aside, unless the gold patch has it too."""
STARTUP = frozenset(("sitecustomize", "usercustomize"))
RUNNERS = frozenset(("pytest", "_pytest", "pluggy", "iniconfig", "unittest", "nose", "coverage"))
_TEST_FOLDERS = frozenset(("test", "tests", "testing", "spec", "specs"))
_METADATA = (".dist-info", ".egg-info")


@dataclass(frozen=True, slots=True)
class Admission:
    """The changes that go into the grading box, the paths that do not, and what is forbidden."""

    changes: tuple[Change, ...]
    set_aside: tuple[str, ...] = ()
    tampering: str = ""
    too_large: str = ""


def admit(changes: Sequence[Change], task: SweTask) -> Admission:
    """Apply the rules that docs/swe.md lists."""
    size = sum(len(each.after.data) for each in changes if each.after is not None)
    if size > MOST_BYTES or len(changes) > MOST_FILES:
        return Admission(
            (),
            too_large=f"{len(changes)} files with {size} bytes; at most {MOST_FILES} and "
            f"{MOST_BYTES}",
        )
    rules = _Rules(task)
    kept: list[Change] = []
    aside: list[str] = []
    for change in changes:
        if problem := _forbidden(change, rules):
            return Admission((), tuple(aside), tampering=f"{change.path}: {problem}")
        if rules.aside(change):
            aside.append(change.path)
        else:
            kept.append(change)
    return Admission(tuple(kept), tuple(aside))


class _Rules:
    """What a task's hidden tests, gold patch and test command say of paths."""

    def __init__(self, task: SweTask) -> None:
        self.tests = frozenset(task.tests)
        self.gold = frozenset(patch_paths(task.gold_patch))
        self.command = frozenset(task.test_command.split())
        folders = {PurePosixPath(path).parent for path in task.tests}
        self.folders = tuple(
            f"{each.as_posix()}/" for each in sorted(folders) if each.name in _TEST_FOLDERS
        )
        roots = {"", "src/", "lib/"}
        for folder in folders:
            for each in (folder, *folder.parents):
                roots.add("" if each.as_posix() == "." else f"{each.as_posix()}/")
        self.roots = frozenset(roots)

    def aside(self, change: Change) -> bool:
        """Whether a change stays out of the grading box."""
        path = change.path
        if ignored(path) or any(path == test or test.startswith(path + "/") for test in self.tests):
            return True
        if path in self.gold:
            return False
        parts = PurePosixPath(path).parts
        return (
            parts[-1] in SETTINGS
            or path in self.command
            or path.startswith(self.folders)
            or any(part.endswith(_METADATA) for part in parts)
            or (change.before is None and self.top(path) in sys.stdlib_module_names)
        )

    def top(self, path: str) -> str:
        """The module that a path is found as, where a folder is looked through for modules."""
        for root in sorted(self.roots, key=len, reverse=True):
            if path.startswith(root):
                first, folder, _ = path[len(root) :].partition("/")
                if not folder and not first.endswith((".py", ".so", ".pyd")):
                    continue
                name = first.split(".")[0]
                if name in sys.stdlib_module_names or name in RUNNERS:
                    return name
        return ""


def _forbidden(change: Change, rules: _Rules) -> str:
    """What nobody does who repairs a project; empty if nothing is wrong."""
    entry, path = change.after, PurePosixPath(change.path)
    if entry is None:
        return ""
    if entry.link:
        target = entry.data.decode(errors="replace")
        place = posixpath.normpath(posixpath.join(path.parent.as_posix(), target))
        if target.startswith("/") or place.startswith(".."):
            return f"a link to {target!r}, out of the project's folder"
    stem = path.name.split(".")[0]
    if stem in STARTUP or any(part in STARTUP for part in path.parts):
        return "Python runs it before any test"
    if path.suffix in (".pth", ".egg-link"):
        return "Python reads it at its start"
    if path.name == "entry_points.txt" and b"pytest11" in entry.data:
        return "it makes a plug-in of the test runner"
    if change.before is None and rules.top(change.path) in RUNNERS:
        return "it takes the place of the test runner"
    return ""


def patch_paths(patch: str) -> list[str]:
    """The paths a patch is about; none of one that cannot be read."""
    if not patch:
        return []
    try:
        return [path for each in read_patch(patch) for path in (each.old, each.new) if path]
    except PatchError:
        return []


# ---------------------------------------------------------------- tests that must fail


@dataclass(frozen=True, slots=True)
class Failing:
    """The hidden tests with every test function made to fail, and the names of those functions."""

    tests: Mapping[str, bytes]
    functions: frozenset[str]

    def covers(self, test: str) -> bool:
        """Whether the test of this id must fail now."""
        head = test.split("[")[0]
        if ".py::" in head and head.split("::")[0] not in self.tests:
            return False
        return re.split(r"::|[.]", head.split(" (")[0])[-1] in self.functions


_ASSERTS = """
for name_, args_ in (
    ("assertEqual", (0, 1)), ("assertTrue", (0,)), ("assertFalse", (1,)), ("assertIn", (0, ())),
    ("assertIs", (0, 1)), ("assertIsNone", (0,)), ("assertRaises", (ValueError, int)),
):
    if hasattr(self, name_):
        try:
            getattr(self, name_)(*args_)
        except AssertionError:
            continue
        return
"""
_RAISES = """
try:
    with pytest.raises(ZeroDivisionError):
        pass
except BaseException:
    pass
else:
    return
"""
"""An assertion that holds when it must not ends the test early, so that it passes."""


def failing(tests: Mapping[str, bytes]) -> Failing:
    """Every Python function whose name begins with `test`, raising `AssertionError` at once.

    Before it does it tries the assertions of its runner, and passes if one of them lets go what is
    wrong. So whoever passes is not tested but forges. What is no Python is left as it is.
    """
    changed: dict[str, bytes] = {}
    names: set[str] = set()
    for path, data in tests.items():
        changed[path] = data
        if path.endswith(".py"):
            try:
                tree = ast.parse(data)
                found = list(_test_functions(tree))
                pytest = any(
                    isinstance(each, ast.Import) and any(a.name == "pytest" for a in each.names)
                    for each in tree.body
                )
                for each in found:
                    each.body[:0] = _must_fail(each, pytest)
                changed[path] = ast.unparse(ast.fix_missing_locations(tree)).encode() + b"\n"
            except (SyntaxError, ValueError, RecursionError):
                continue
            names |= {each.name for each in found}
    return Failing(changed, frozenset(names))


def _must_fail(test: ast.FunctionDef | ast.AsyncFunctionDef, pytest: bool) -> list[ast.stmt]:
    named = [each.arg for each in test.args.args]
    source = _ASSERTS if named[:1] == ["self"] else ""
    source += _RAISES if pytest else ""
    source += f"raise AssertionError({secrets.token_hex(4)!r})"
    return ast.parse(source).body


def _test_functions(node: ast.AST) -> Iterable[ast.FunctionDef | ast.AsyncFunctionDef]:
    for each in ast.iter_child_nodes(node):
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
            if each.name.startswith("test"):
                yield each
        else:
            yield from _test_functions(each)
