"""Logs with one test a line: a pattern with the parts `mark` and `name`, and what the marks mean.

Formats: SWE-bench 5.0.2, docs/swe_formats.md. Every line is stripped before it is matched.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from foldgym.envs.swe.parsers import Status, Statuses


@dataclass(frozen=True, slots=True)
class Lines:
    """`Lines(r"(?P<mark>PASS|FAIL): (?P<name>.+)$", {"PASS": Status.PASSED})`.

    A mark that is not in `marks` is no test. `trim` removes a pattern from names with that status.
    """

    pattern: str
    marks: Mapping[str, Status]
    trim: Mapping[Status, str] = field(default_factory=dict[Status, str])

    def __call__(self, log: str) -> Statuses:
        """What the log says of each test; the last line about it counts."""
        found: Statuses = {}
        pattern = re.compile(self.pattern)
        for line in log.split("\n"):
            match = pattern.match(line.strip())
            status = self.marks.get(match["mark"]) if match else None
            if match and status:
                name = match["name"]
                if status in self.trim:
                    name = re.sub(self.trim[status], "", name)
                found[name] = status
        return found


_OK: Mapping[str, Status] = {"ok": Status.PASSED, "not ok": Status.FAILED, "FAILED": Status.FAILED}
_PASS: Mapping[str, Status] = {"PASS": Status.PASSED, "FAIL": Status.FAILED, "SKIP": Status.SKIPPED}
_LETTERS: Mapping[str, Status] = {
    ".": Status.PASSED,
    "F": Status.FAILED,
    "E": Status.FAILED,
    "O": Status.SKIPPED,
}

gotest = Lines(r"--- (?P<mark>PASS|FAIL|SKIP): (?P<name>.+) \(.+\)$", _PASS)
cargo = Lines(r"test\s+(?P<name>\S+)\s+\.\.\.\s+(?P<mark>\w+)$", _OK)
tap = Lines(r"(?P<mark>ok|not ok) \d+ (?P<name>.+)$", _OK)
jq = Lines(r"(?P<mark>PASS|FAIL):\s(?P<name>.+)$", _PASS)
googletest = Lines(
    r".*\[\s*(?P<mark>OK|FAILED)\s*\]\s(?P<name>.*)\s\(.*\)$", {**_OK, "OK": Status.PASSED}
)
redis = Lines(
    r"\[(?P<mark>ok|err|skip|ignore)\]:\s(?P<name>.+?)(?:\s\(\d+\s*m?s\))?$",
    {"ok": Status.PASSED, "err": Status.FAILED, "skip": Status.SKIPPED, "ignore": Status.SKIPPED},
    {Status.FAILED: r"\s+in\s+\S+$"},
)
micropython = Lines(
    r"(?P<mark>pass|FAIL|skip)\s+(?P<name>.+)$",
    {"pass": Status.PASSED, "FAIL": Status.FAILED, "skip": Status.SKIPPED},
)
ant = Lines(
    r"\[junit\]\s+\[(?P<mark>PASS|FAIL|ERR)\]\s+(?P<name>.*)$", {**_PASS, "ERR": Status.FAILED}
)
jest = Lines(
    r"(?P<mark>[✓✕○])\s+(?P<name>\S.*?)\s*(?:\s\(\d+\s*m?s\))?$",
    {"✓": Status.PASSED, "✕": Status.FAILED, "○": Status.SKIPPED},
)
jest_json = Lines(
    r"\[(?P<mark>PASSED|FAILED)\]\s(?P<name>.+)$",
    {"PASSED": Status.PASSED, "FAILED": Status.FAILED},
)
vitest = Lines(
    r"(?P<mark>[✓×↓])\s(?P<name>.+?)(?:\s(?:\d+\s*m?s?|\[skipped\]))?$",
    {"✓": Status.PASSED, "×": Status.FAILED, "↓": Status.SKIPPED},
)
minitest = Lines(r"(?P<name>.+)\. .*=.*(?P<mark>[.FE]).*$", _LETTERS)
cucumber = Lines(r"(?P<name>.*) \.+(?P<mark>[.F])", _LETTERS)
ruby_unit = Lines(r"(?:test: )?(?P<name>.+):\s+(?P<mark>\.|[EFO]\b)", _LETTERS)
rspec_transformed_json = Lines(
    r"(?P<name>.+) - (?P<mark>passed|failed)", {"passed": Status.PASSED, "failed": Status.FAILED}
)
