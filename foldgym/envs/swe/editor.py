"""View and edit the text files of a box, with a way back for each of them."""

from __future__ import annotations

import posixpath
import re
import shlex

from foldgym.containers.sandbox import MB
from foldgym.envs.swe.places import Place

MOST = 2 * MB
"""Bytes of a file that can be viewed or edited."""
_AROUND = 4
"""Lines shown before and after an edit."""
_KIND = (
    "if [ -d {0} ]; then echo folder; elif [ -f {0} ]; then echo file; "
    "elif [ -e {0} ]; then echo other; fi"
)
_LISTING = (
    "cd {0} && find . -mindepth 1 -maxdepth 2 -not -path '*/.*' -not -name __pycache__ "
    "-printf '%P\\t%y\\n'"
)


class EditError(ValueError):
    """What cannot be done, in words for the model."""


class Editor:
    """Keeps what every file was before each edit, so that each can be undone."""

    def __init__(self) -> None:
        self.past: dict[str, list[bytes | None]] = {}

    def view(self, place: Place, path: str, start: int, end: int) -> str:
        """A folder's listing, or the lines `start` to `end` (0: to the last), numbered.

        This and all below raise `EditError`.
        """
        where = _where(place, path)
        if _kind(place, where) == "folder":
            if start != 1 or end != 0:
                raise EditError(f"{path} is a folder: it has no lines")
            done = place.exec(_LISTING.format(shlex.quote(where)), 60.0)
            rows = sorted(row.split("\t") for row in done.text.splitlines() if "\t" in row)
            names = [f"{name}/" if kind == "d" else name for name, kind, *_ in rows]
            return "\n".join(names) or "(an empty folder)"
        text = self._read(place, where, path)
        lines = text.split("\n")
        if lines and lines[-1] == "":
            lines.pop()
        last = end or len(lines)
        if not lines:
            return "(an empty file)"
        if not 1 <= start <= len(lines) or not start <= last <= len(lines):
            raise EditError(f"lines {start} to {last}: {path} has the lines 1 to {len(lines)}")
        return _numbered(lines[start - 1 : last], start)

    def create(self, place: Place, path: str, text: str) -> str:
        """Write a new file."""
        where = _where(place, path)
        if _kind(place, where):
            raise EditError(f"{path} is there already; edit it")
        self._write(place, where, path, None, text)
        return f"created {path}"

    def replace(self, place: Place, path: str, old: str, new: str) -> str:
        """Put `new` in the place of `old`, which must be there exactly once."""
        where = _where(place, path)
        text = self._read(place, where, path)
        if not old:
            raise EditError("old is empty: give the text that is to be replaced")
        if old == new:
            raise EditError("old and new are the same")
        count = text.count(old)
        if count != 1:
            at = [1 + text.count("\n", 0, start_) for start_ in _starts(text, old)]
            told = (
                f"it begins in the lines {at[:8]}" if count else "it must match exactly, spaces too"
            )
            raise EditError(f"old is {count} times in {path}, not once: {told}")
        begin = text.index(old)
        changed = text[:begin] + new + text[begin + len(old) :]
        self._write(place, where, path, text, changed)
        return _around(changed, 1 + text.count("\n", 0, begin), new.count("\n") + 1, path)

    def insert(self, place: Place, path: str, line: int, text: str) -> str:
        """Put lines after a line; 0 is before the first."""
        where = _where(place, path)
        before = self._read(place, where, path)
        lines = re.findall(r"[^\n]*\n|[^\n]+", before)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        if not 0 <= line <= len(lines):
            raise EditError(f"line {line}: {path} has the lines 0 to {len(lines)} to insert after")
        added = text if text.endswith("\n") else f"{text}\n"
        changed = "".join([*lines[:line], added, *lines[line:]])
        self._write(place, where, path, before, changed)
        return _around(changed, line + 1, added.count("\n"), path)

    def undo(self, place: Place, path: str) -> str:
        """Take back the last edit of a file."""
        where = _where(place, path)
        if not self.past.get(where):
            raise EditError(f"there is no edit of {path} to undo")
        before = self.past[where].pop()
        if before is None:
            done = place.exec(f"rm -f -- {shlex.quote(where)}", 60.0)
            if not done.ok:
                raise EditError(done.text.strip()[-200:])
            return f"removed {path}, which had been created"
        _store(place, where, path, before)
        return f"{path} is as it was before its last edit"

    def _read(self, place: Place, where: str, path: str) -> str:
        kind = _kind(place, where)
        if kind != "file":
            told = {"": "there is no such file", "folder": "it is a folder"}
            raise EditError(f"{path}: {told.get(kind, 'it is no ordinary file')}")
        try:
            return place.box.read(where, cap=MOST).decode("utf-8")
        except UnicodeDecodeError:
            raise EditError(f"{path} is no text in UTF-8") from None
        except OSError as problem:
            raise EditError(f"{path}: {problem.strerror}") from None

    def _write(self, place: Place, where: str, path: str, before: str | None, after: str) -> None:
        _store(place, where, path, after.encode("utf-8"))
        self.past.setdefault(where, []).append(None if before is None else before.encode("utf-8"))


def _store(place: Place, where: str, path: str, data: bytes) -> None:
    try:
        place.box.write(where, data)
    except OSError as problem:
        raise EditError(f"{path}: {problem.strerror}") from None


def _where(place: Place, path: str) -> str:
    if not path.strip() or "\0" in path or len(path) > 1000:
        raise EditError(f"{path[:40]!r} is no path")
    return posixpath.normpath(place.path(path))


def _kind(place: Place, where: str) -> str:
    return place.exec(_KIND.format(shlex.quote(where)), 60.0).stdout.decode().strip()


def _starts(text: str, part: str) -> list[int]:
    found: list[int] = []
    at = text.find(part)
    while at >= 0 and len(found) < 8:
        found.append(at)
        at = text.find(part, at + len(part))
    return found


def _numbered(lines: list[str], start: int) -> str:
    return "\n".join(f"{number:6}\t{line}" for number, line in enumerate(lines, start))


def _around(text: str, first: int, count: int, path: str) -> str:
    lines = text.removesuffix("\n").split("\n")
    low = max(1, first - _AROUND)
    high = min(len(lines), first + count - 1 + _AROUND)
    return f"{path} is changed, lines {low} to {high}:\n{_numbered(lines[low - 1 : high], low)}"
