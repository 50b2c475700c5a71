"""Third-party judges: an interpreter of their own, so that they never meet our dependencies."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parents[2]


def oracle_python(*packages: str) -> str:
    """A Python that can import these packages, made by `make oracles`; skips where there is none.

    `FOLDGYM_ORACLES` names another virtual environment. Where `FOLDGYM_REQUIRE` names `oracle`,
    a missing judge is a failure.
    """
    folder = Path(os.environ.get("FOLDGYM_ORACLES", _HERE / ".oracles"))
    python = folder / "bin" / "python"
    problem = _missing(str(python), packages)
    if problem and "oracle" in os.environ.get("FOLDGYM_REQUIRE", "").split(","):
        pytest.fail(f"FOLDGYM_REQUIRE names oracle, but {problem}")
    if problem:
        pytest.skip(f"needs the oracles: {problem} (make oracles)")
    return str(python)


@cache
def _missing(python: str, packages: tuple[str, ...]) -> str:
    """What is missing, in a few words; empty when all is there."""
    if not Path(python).is_file():
        return "there is no virtual environment for them"
    script = (
        "import importlib.util as u, sys; "
        "print(*[name for name in sys.argv[1:] if u.find_spec(name) is None])"
    )
    found = subprocess.run([python, "-c", script, *packages], capture_output=True, text=True)
    if found.returncode:
        return f"their Python does not start: {found.stderr.strip().splitlines()[-1:]}"
    return f"they lack {found.stdout.strip()}" if found.stdout.strip() else ""
