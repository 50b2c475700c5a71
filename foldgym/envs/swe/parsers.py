"""What a test run's log says of each test: one parser for each test runner."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeAlias

from foldgym.errors import UnknownName


class Status(StrEnum):
    """How a test ended, in the field's words."""

    PASSED = "PASSED"
    XFAIL = "XFAIL"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    ERROR = "ERROR"


Statuses: TypeAlias = dict[str, Status]
Parser: TypeAlias = Callable[[str], Statuses]

_WORSE = tuple(Status)  # in the order of their definition
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def note(found: Statuses, test: str, status: Status) -> None:
    """A test that a log tells of twice counts as the worse of the two: prints prove nothing."""
    before = found.get(test, status)
    found[test] = max(before, status, key=_WORSE.index)


def plain(log: str) -> list[str]:
    """The lines of a log, without colours."""
    return _ESCAPES.sub("", log).replace("\r\n", "\n").split("\n")


def _summary(line: str) -> tuple[Status, str] | None:
    word, _, rest = line.partition(" ")
    if word not in Status.__members__ or not rest.strip():
        return None
    return Status[word], rest.strip()


def parse_pytest(log: str) -> Statuses:
    """Lines `PASSED id` of pytest's summary (`-rA`); an id ends at its first space.

    Parametrised ids with spaces collide, as they do in SWE-bench's lists made this way; see
    `parse_pytest_v2`.
    """
    found: Statuses = {}
    for line in plain(log):
        said = _summary(line)
        if said is not None:
            test = said[1].split()[0]
            if not (said[0] is Status.SKIPPED and test.startswith("[")):
                note(found, test, said[0])
    return found


def parse_pytest_v2(log: str) -> Statuses:
    """As `parse_pytest`, with ids whole: what follows the id is after ` - `, outside brackets."""
    found: Statuses = {}
    for line in plain(log):
        said = _summary(line)
        if said is not None and not (said[0] is Status.SKIPPED and said[1].startswith("[")):
            note(found, _whole_id(said[1]), said[0])
    return found


def _whole_id(text: str) -> str:
    parts = text.split(" - ")
    for end in range(1, len(parts) + 1):
        head = " - ".join(parts[:end])
        if head.count("[") <= head.count("]"):
            return head
    return parts[0]


_UNITTEST = re.compile(r"(?P<test>[\w.]+) \((?P<place>[\w.<>]+)\)(?P<rest>.*)")
_SUMMARY = re.compile(r"(?P<word>FAIL|ERROR|UNEXPECTED SUCCESS): ")
_ENDS = (
    (re.compile(r"(?:^|\s)ok$"), Status.PASSED),
    (re.compile(r"(?:^|\s)FAIL$"), Status.FAILED),
    (re.compile(r"(?:^|\s)ERROR$"), Status.ERROR),
    (re.compile(r"(?:^|\s)skipped .*$"), Status.SKIPPED),
    (re.compile(r"(?:^|\s)expected failure$"), Status.XFAIL),
    (re.compile(r"(?:^|\s)unexpected success$"), Status.FAILED),
)


def parse_unittest(log: str) -> Statuses:
    """Lines `test_a (tests.test_x.Case.test_a) ... ok` of `python -m unittest -v`.

    Ids are `TestCase.id()`, tests.test_x.Case.test_a, whatever version of Python printed them. A
    test's own output, or its docstring, may stand between the test and its status.
    """
    found: Statuses = {}
    current = ""
    for line in plain(log):
        said = _SUMMARY.match(line)
        begun = _UNITTEST.match(line, said.end() if said else 0)
        if begun is not None:
            current, line = _unittest_id(begun["test"], begun["place"]), begun["rest"]
        if said is not None:
            if begun is not None:
                status = Status.ERROR if said["word"] == "ERROR" else Status.FAILED
                note(found, current, status)
            current = ""
            continue
        for ending, status in _ENDS:
            if current and ending.search(line.rstrip()):
                note(found, current, status)
                current = ""
    return found


def _unittest_id(test: str, place: str) -> str:
    """Until Python 3.10 the place was the class, since then it is the whole id."""
    return place if place == test or place.endswith(f".{test}") else f"{place}.{test}"


PARSERS: dict[str, Parser] = {
    "pytest": parse_pytest,
    "pytest_v2": parse_pytest_v2,
    "unittest": parse_unittest,
}

_RAN = re.compile(
    r"^(?:=+ )?(?:.*, )?[1-9]\d* (?:passed|failed|errors?|skipped|xfailed)\b.* in [\d.]+s.*$|"
    r"^Ran [1-9]\d* tests? in [\d.]+s\s*$",
    re.MULTILINE,
)


def parser(name: str) -> Parser:
    """The parser of this name; `parse_log_...` are SWE-bench's own. Raises `UnknownName`."""
    if name.startswith("parse_log_"):
        from foldgym.envs.swe.logs import log_parser

        return log_parser(name)
    if name == "r2e":
        from foldgym.envs.swe.logs.r2e import parse_r2e

        return parse_r2e
    if name not in PARSERS:
        raise UnknownName("log parser", name, PARSERS)
    return PARSERS[name]


def suite_ran(log: str) -> bool:
    """Whether a test runner says that it came to its end and ran some test."""
    return _RAN.search(log) is not None


def counts(statuses: Mapping[str, Status]) -> dict[str, int]:
    """How many tests ended how."""
    return {each.value: sum(s is each for s in statuses.values()) for each in Status}
