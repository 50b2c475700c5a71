"""Logs of Python projects: pytest in four readings, unittest as Django runs it, sympy, seaborn.

The readings differ in what they take for a test's name, and a task's expected names were written
with one of them, so each is kept. Formats: SWE-bench 5.0.2, docs/swe_formats.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from foldgym.envs.swe.parsers import Status, Statuses

_WORDS = tuple(Status)
_COUNT = re.compile(r"\[\d+\]")
_OPTION = re.compile(r"(.*?)\[(.*)\]")
_COLOUR = re.compile(r"\[\d+m")
_CONTROL = dict.fromkeys(range(1, 32))


def pytest(log: str) -> Statuses:
    """`pytest -rA`: the word after the status, so that `t[a b]` and `t[a c]` are one test.

    `SKIPPED [2] file.py:3: why` counts skips and names no test.
    """
    return _first_words(log, str)


def pytest_options(log: str) -> Statuses:
    """As `pytest`, where a parameter that is a path is cut to its last part: `t[/tmp/x/a]`."""
    return _first_words(log, _short_option)


def _short_option(name: str) -> str:
    parts = _OPTION.search(name)
    if not parts:
        return name
    test, option = parts.groups()
    if option.startswith("/") and not option.startswith("//") and "*" not in option:
        option = "/" + option.rsplit("/", 1)[-1]
    return f"{test}[{option}]"


def _first_words(log: str, rename: Callable[[str], str]) -> Statuses:
    """Status and name from the first two words of each line that starts with a status."""
    found: Statuses = {}
    for line in log.split("\n"):
        if line.startswith("FAILED"):
            line = line.replace(" - ", " ")
        words = line.split()
        if line.startswith(_WORDS) and len(words) > 1 and not _counts(words[0], words[1]):
            _put(found, rename(words[1]), words[0])
    return found


def pytest_v2(log: str) -> Statuses:
    """All of the line after the status, or before it where the status ends the line (old pytest).

    Colours go first. A failure's name ends at ` - `, where its message begins.
    """
    found: Statuses = {}
    for line in log.split("\n"):
        line = _COLOUR.sub("", line).translate(_CONTROL)
        if line.startswith(_WORDS):
            if line.startswith("FAILED"):
                line = line.partition(" - ")[0]
            first, *rest = line.split()
            if rest and not _counts(first, rest[0]):
                _put(found, " ".join(rest), first)
        elif line.endswith(_WORDS):
            *rest, last = line.split()
            if rest:
                _put(found, " ".join(rest), last)
    return found


def matplotlib(log: str) -> Statuses:
    """As `pytest`, where mouse buttons in parameters are written as numbers."""
    return pytest(log.replace("MouseButton.LEFT", "1").replace("MouseButton.RIGHT", "3"))


def seaborn(log: str) -> Statuses:
    """Passes and failures only, the status before the name or, for a pass, behind it."""
    found: Statuses = {}
    for line in log.split("\n"):
        words = line.split()
        if len(words) < 2:
            continue
        if line.startswith("FAILED"):
            found[words[1]] = Status.FAILED
        elif " PASSED " in line:
            if words[1] == "PASSED":
                found[words[0]] = Status.PASSED
        elif line.startswith("PASSED"):
            found[words[1]] = Status.PASSED
    return found


_SYMPY_HEAD = re.compile(r"_* (.*)\.py:(.*) _*")
_SYMPY_MARKS: dict[str, Status] = {"E": Status.ERROR, "F": Status.FAILED, "ok": Status.PASSED}


def sympy(log: str) -> Statuses:
    """`bin/test --verbose`: `test_x ok`, `test_x F`, and a headline `___ file.py:test_x ___`."""
    found: Statuses = {
        f"{file}.py:{test}": Status.FAILED for file, test in _SYMPY_HEAD.findall(log)
    }
    for line in log.split("\n"):
        head, _, mark = line.strip().rpartition(" ")
        if head.startswith("test_") and mark in _SYMPY_MARKS:
            found[head.split()[0]] = _SYMPY_MARKS[mark]
    return found


_VERSION_TEST = "--version is equivalent to version"
_MIGRATION = "Applying sites.0002_alter_domain_unique...test_no_migrations"
_DJANGO_OK = (" ... ok", " ... OK", " ...  OK")
_DJANGO_BAD: dict[str, Status] = {"FAIL": Status.FAILED, "ERROR": Status.ERROR}
_DJANGO_BROKEN = (
    # A message of the framework stands between the dots and the "ok" on the next line.
    re.compile(
        r"^(.*?)\s\.\.\.\sTesting against Django installed in (?:(?s:.*?)) silenced\)\.\nok$", re.M
    ),
    re.compile(r"^(.*?)\s\.\.\.\sInternal Server Error: /(?:.*)/\nok$", re.M),
    re.compile(r"^(.*?)\s\.\.\.\sSystem check identified no issues \(0 silenced\)\nok$", re.M),
)


def django(log: str) -> Statuses:
    """unittest with verbosity 2: `test_x (module.Case) ... ok`, and the `FAIL:` blocks behind.

    Output that a test wrote between the dots and its `ok` does not hide it.
    """
    found: Statuses = {}
    latest = ""
    for line in log.split("\n"):
        line = line.strip()
        if _VERSION_TEST in line:
            found[_VERSION_TEST] = Status.PASSED
        if " ... " in line:
            latest = line.partition(" ... ")[0]
        passed = next((end for end in _DJANGO_OK if line.endswith(end)), "")
        if passed:
            name = line.partition("...")[2].strip() if line.startswith(_MIGRATION) else line
            found[name.removesuffix(passed)] = Status.PASSED
        if " ... skipped" in line:
            found[line.partition(" ... skipped")[0]] = Status.SKIPPED
        for word, status in _DJANGO_BAD.items():
            if line.endswith(f" ... {word}"):
                found[line.partition(f" ... {word}")[0]] = status
            if line.startswith(f"{word}: "):
                found[line.split()[1]] = status
        if line.startswith("ok") and latest:
            found[latest] = Status.PASSED
    for pattern in _DJANGO_BROKEN:
        for match in pattern.finditer(log):
            found[match[1]] = Status.PASSED
    return found


def _counts(status: str, name: str) -> bool:
    return status == Status.SKIPPED and _COUNT.fullmatch(name) is not None


def _put(found: Statuses, name: str, word: str) -> None:
    """Take a test in, unless the word only begins like a status (`ERROR: not found`)."""
    if word in Status.__members__:
        found[name] = Status[word]
