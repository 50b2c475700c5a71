"""`symbols()`: everything that the standard library of the running interpreter documents."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from threading import Lock
from typing import Any

from foldgym.envs import pydocs_introspect
from foldgym.errors import EnvCrashed


@dataclass(frozen=True, slots=True)
class Symbol:
    """One public name. `homes` are the public modules that own it, the one asked about first."""

    name: str
    kind: str  # "class", "exception", "function" or "method"
    homes: tuple[str, ...]
    owner: str  # the class whose body defines a method, else ""
    bases: tuple[str, ...]  # names of direct base classes, `object` left out
    parameters: tuple[str, ...]  # names of parameters, `self` left out
    summary: str  # first line of the docstring, "" without one

    @property
    def qualified(self) -> str:
        """The name with its module and class, unique in the library."""
        return ".".join(part for part in (self.homes[0], self.owner, self.name) if part)


_LOCK = Lock()
_FOUND: list[tuple[Symbol, ...]] = []


def symbols() -> tuple[Symbol, ...]:
    """Every symbol, in order of qualified name; introspected once per process, in a fresh one.

    Raises `EnvCrashed` if the fresh interpreter fails.
    """
    with _LOCK:
        if not _FOUND:
            _FOUND.append(_introspect())
        return _FOUND[0]


def _introspect() -> tuple[Symbol, ...]:
    program = [sys.executable, "-I", "-S", pydocs_introspect.__file__]
    done = subprocess.run(
        program, stdin=subprocess.DEVNULL, capture_output=True, text=True, encoding="utf-8"
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvCrashed(f"introspection of the standard library failed: {last}")
    rows: list[list[Any]] = json.loads(done.stdout)
    found = [
        Symbol(name, kind, tuple(homes), owner, tuple(bases), tuple(parameters), summary)
        for name, kind, homes, owner, bases, parameters, summary in rows
    ]
    return tuple(sorted(found, key=lambda symbol: (symbol.qualified, symbol.kind)))
