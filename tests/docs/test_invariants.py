"""Each rule of docs/invariants.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_rule_names_a_test_that_is_there() -> None:
    rows = [
        line.split("|")[1:3]
        for line in (ROOT / "docs/invariants.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and "`" in line.split("|")[2]
    ]
    assert len(rows) > 15
    names = {path.name for path in (ROOT / "tests").rglob("*")}
    for rule, tests in rows:
        for named in re.findall(r"`([^`]+)`", tests):
            there = (ROOT / named).exists() or named in names or named == "lint-imports"
            assert there, f"{rule.strip()}: there is no {named}"
