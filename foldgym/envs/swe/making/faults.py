"""A fault: a small change to working code, kept as edits that can be undone byte for byte."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from foldgym.errors import DataError, MissingExtra
from foldgym.seeding import generator

if TYPE_CHECKING:
    import libcst as cst

    from foldgym.envs.swe.making.places import Place


@dataclass(frozen=True, slots=True)
class Edit:
    """`Edit(10, 12, b"<=")` puts `text` where bytes 10 and 11 were."""

    start: int
    stop: int
    text: bytes


Edits: TypeAlias = tuple[Edit, ...]
Operator: TypeAlias = "Callable[[Place, cst.CSTNode], Iterator[Edits]]"


@dataclass(frozen=True, slots=True)
class Fault:
    """`Fault("swap_comparison", "toolz/core.py", "take", 412, (Edit(10, 12, b"<"),))`.

    `name` is the function or class around it (dotted, empty at the top of a file); `line` counts
    from 1 and is where the first edit begins in the good file.
    """

    operator: str
    path: str
    name: str
    line: int
    edits: Edits


def apply(source: bytes, edits: Edits) -> bytes:
    """The source with every edit made. Raises `ValueError` if two of them overlap."""
    pieces: list[bytes] = []
    at = 0
    for edit in sorted(edits, key=lambda each: (each.start, each.stop)):
        if not at <= edit.start <= edit.stop <= len(source):
            raise ValueError(f"{edit} overlaps the edit before it, or leaves the source")
        pieces += [source[at : edit.start], edit.text]
        at = edit.stop
    return b"".join([*pieces, source[at:]])


def reverse(source: bytes, edits: Edits) -> Edits:
    """The edits that lead from `apply(source, edits)` back to `source`."""
    back: list[Edit] = []
    shift = 0
    for edit in sorted(edits, key=lambda each: (each.start, each.stop)):
        start = edit.start + shift
        back.append(Edit(start, start + len(edit.text), source[edit.start : edit.stop]))
        shift += len(edit.text) - (edit.stop - edit.start)
    return tuple(back)


def differs(source: bytes, changed: bytes) -> bool:
    """Whether a change still is Python, and other Python than before."""
    try:
        return ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError):
        return False


def operators() -> Mapping[str, Operator]:
    """Every operator by name, in the order in which sites are enumerated.

    Raises `MissingExtra` where libcst is not installed.
    """
    try:
        from foldgym.envs.swe.making import expressions, statements
    except ImportError:
        raise MissingExtra("making tasks from source code", "swe") from None
    return {**expressions.OPERATORS, **statements.OPERATORS}


def sites(path: str, source: bytes, names: Sequence[str] = ()) -> list[Fault]:
    """Every fault that the operators (all, or those named) can make in one file.

    The order is that of the operators, then of the file; the same source always gives the same
    list. Whether the result differs from the source is for `differs` to say. Raises `DataError` if
    the file is no Python.
    """
    known = operators()
    from foldgym.envs.swe.making.places import Place

    place = Place.of(path, source)
    nodes = place.nodes()
    found: list[Fault] = []
    for name in names or known:
        if name not in known:
            raise DataError(f"no operator {name!r}; there are {', '.join(known)}")
        for node in nodes:
            for edits in known[name](place, node):
                line = source.count(b"\n", 0, min(edit.start for edit in edits)) + 1
                found.append(Fault(name, path, place.name(node), line, edits))
    return found


def choose(faults: Sequence[Fault], seed: int, label: str = "") -> list[Fault]:
    """All of them in a seeded order in which the operators take turns.

    Common operators would else crowd out the rare ones. `label` (the package's name) gives each
    package a stream of its own.
    """
    piles: dict[str, list[Fault]] = {}
    for fault in faults:
        piles.setdefault(fault.operator, []).append(fault)
    rng = generator(seed, "faults", label)
    for pile in piles.values():
        rng.shuffle(pile)
    chosen: list[Fault] = []
    while piles:
        names = list(piles)
        rng.shuffle(names)
        for name in names:
            chosen.append(piles[name].pop())
            if not piles[name]:
                del piles[name]
    return chosen


def combine(faults: Sequence[Fault]) -> Fault:
    """One fault of several in one file. Raises `ValueError` if their edits overlap or files differ.

    Operators are joined with `+`; name and line are those of the first.
    """
    paths = {fault.path for fault in faults}
    if len(paths) != 1:
        raise ValueError(f"faults of {len(paths)} files cannot be combined: {sorted(paths)}")
    edits = tuple(edit for fault in faults for edit in fault.edits)
    ordered = sorted(edits, key=lambda each: (each.start, each.stop))
    for before, after in pairwise(ordered):
        if after.start < before.stop or after.start == before.start:
            raise ValueError(f"{before} and {after} overlap")
    first = faults[0]
    label = "+".join(fault.operator for fault in faults)
    return Fault(label, first.path, first.name, first.line, edits)


def patch(path: str, before: bytes, after: bytes) -> str:
    """A unified diff as `git apply` and `patch -p1` take it; empty if nothing changed.

    Raises `DataError` unless both are UTF-8.
    """
    try:
        old, new = _lines(before.decode()), _lines(after.decode())
    except UnicodeDecodeError as problem:
        raise DataError(f"{path} is not UTF-8: {problem.reason}") from None
    body = "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
        for line in unified_diff(old, new, f"a/{path}", f"b/{path}")
    )
    return f"diff --git a/{path} b/{path}\n{body}" if body else ""


def _lines(text: str) -> list[str]:
    """Lines as git counts them: they end at a newline and at nothing else."""
    *whole, rest = text.split("\n")
    return [line + "\n" for line in whole] + ([rest] if rest else [])
