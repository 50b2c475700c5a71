"""Logs in which the parts of one test's result lie apart: Maven, Gradle, PHPUnit, Karma, doctest.

Formats: SWE-bench 5.0.2, docs/swe_formats.md.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

from foldgym.envs.swe.parsers import Status, Statuses

_RUN = re.compile(r".*-Dtest=(\S+)")
_BUILD = re.compile(r".*BUILD (SUCCESS|FAILURE)$")


def maven(log: str) -> Statuses:
    """One `mvn -Dtest=NAME` a test, under `set -x`: the builds' ends in the order of the starts.

    A name without an end is left out, which a grader takes for a failure.
    """
    waiting: list[str] = []
    early: list[str] = []  # ends that were printed before any start
    found: Statuses = {}
    for line in log.split("\n"):
        line = line.strip()
        if run := _RUN.match(line):
            waiting.append(run[1])
        if build := _BUILD.match(line):
            if waiting:
                found[waiting.pop(0)] = Status.PASSED if build[1] == "SUCCESS" else Status.FAILED
            else:
                early.append(build[1])
    for name, end in zip(waiting, early, strict=False):
        found[name] = Status.PASSED if end == "SUCCESS" else Status.FAILED
    return found


_GRADLE_TEST = re.compile(r"([^>].+)\s+(PASSED|FAILED)$")
_GRADLE_NAME = re.compile(r"[^>]\S*\s+>\s+\S+$")


def gradle_custom(log: str) -> Statuses:
    """`com.a.Case > test PASSED`, the status on a later line if something was printed between."""
    found: Statuses = {}
    waiting = ""
    for line in log.split("\n"):
        line = line.strip()
        if test := _GRADLE_TEST.match(line):
            found[test[1]] = Status.PASSED if test[2] == "PASSED" else Status.FAILED
            waiting = ""
        elif _GRADLE_NAME.match(line):
            waiting = line
        elif waiting and line in ("PASSED", "FAILED"):
            found[waiting] = Status.PASSED if line == "PASSED" else Status.FAILED
            waiting = ""
    return found


_SUITE = re.compile(r"(\w.+) \(.+\)$")
_TESTDOX = re.compile(r"\s*([✔✘↩])\s*(.*)$")
_TESTDOX_MARKS: dict[str, Status] = {"✔": Status.PASSED, "✘": Status.FAILED, "↩": Status.SKIPPED}


def phpunit(log: str) -> Statuses:
    """`phpunit --testdox`: a headline `Suite (Its\\Class)`, below it one marked line a test."""
    found: Statuses = {}
    suite = "None"  # as the expected names have it where a test comes before any headline
    for line in log.split("\n"):
        if head := _SUITE.match(line):
            suite = head[1]
        elif test := _TESTDOX.match(line):
            found[f"{suite} > {test[2]}"] = _TESTDOX_MARKS[test[1]]
    return found


_KARMA = re.compile(r"(\s*)([✔✖])?\s(.*)$")


def karma(log: str) -> Statuses:
    """The suites by their indent, from `Starting browser` to `SUMMARY:`."""
    found: Statuses = {}
    suites: list[str] = []
    depth, started = -1, False
    for line in log.split("\n"):
        if line.startswith("SUMMARY:"):
            break
        if "Starting browser" in line:
            started = True
            continue
        part = _KARMA.match(line) if started else None
        if not part:
            continue
        indent, mark, name = len(part[1]), part[2], part[3]
        if mark:
            found[" > ".join([*suites, name])] = Status.PASSED if mark == "✔" else Status.FAILED
        elif indent > max(depth, 0):
            depth = indent
            suites.append(name)
        elif 0 < indent < depth:
            depth = indent
            del suites[-1:]
    return found


def doctest(log: str) -> Statuses:
    """C++ doctest with `-s -r=xml`: a subcase passes if every expression in it succeeds.

    XML that is cut short or broken says nothing of any test.
    """
    start = log.find("<doctest")
    end = log.find("</doctest>", start)
    if start < 0 or end < 0:
        return {}
    try:
        root = ElementTree.fromstring(log[start : end + len("</doctest>")])
    except ElementTree.ParseError:
        return {}
    found: Statuses = {}
    for case in root.iter("TestCase"):
        for part in case.iter("SubCase"):
            good = all(item.get("success") == "true" for item in part.iter("Expression"))
            found[f"{case.get('name')} > {part.get('name')}"] = (
                Status.PASSED if good else Status.FAILED
            )
    return found
