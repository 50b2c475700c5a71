"""R2E-Gym's reading of pytest's summary (from memory of its code; not seen at work)."""

from __future__ import annotations

import re

from foldgym.envs.swe.parsers import Status, Statuses

_SECTION = re.compile(r"short test summary info")
_RESULT = re.compile(r"(PASSED|FAILED|ERROR)\b(.*)")


def parse_r2e(log: str) -> Statuses:
    """pytest's summary by R2E-Gym's names: `tests/a.py::Case::test_b - Boom` is `Case.test_b`."""
    parts = _SECTION.split(log, maxsplit=1)
    found: Statuses = {}
    for line in parts[1].split("\n") if len(parts) > 1 else []:
        match = _RESULT.match(line.strip())
        if match:
            _, _, name = match[2].partition("::")
            name = name.replace("::", ".").split(" - ")[0].strip()
            if name:
                found[name] = Status[match[1]]
    return found
