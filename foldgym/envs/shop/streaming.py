"""Large JSON files, element by element: a file of gigabytes is never in memory as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from foldgym.errors import DataError

CHUNK = 1 << 20
_SPACE = " \t\r\n"


def read_array(path: Path) -> Iterator[Any]:
    """The elements of a JSON array. Raises `DataError` for anything else."""
    with _opened(path) as file:
        text = _Text(file, path)
        text.expect("[")
        if not text.ends("]"):
            while True:
                yield text.value()
                if text.ends("]"):
                    return
                text.expect(",")


def read_object(path: Path) -> Iterator[tuple[str, Any]]:
    """The pairs of a JSON object. Raises `DataError` for anything else."""
    with _opened(path) as file:
        text = _Text(file, path)
        text.expect("{")
        if not text.ends("}"):
            while True:
                key = text.value()
                text.expect(":")
                yield key, text.value()
                if text.ends("}"):
                    return
                text.expect(",")


def _opened(path: Path) -> IO[str]:
    try:
        return path.open(encoding="utf-8-sig")
    except OSError as problem:
        raise DataError(f"cannot read {path}: {problem.strerror}") from None


class _Text:
    """A window on a file: what is before `_at` was read, what is after it was not."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file, self._path = file, path
        self._window, self._at, self._before, self._over = "", 0, 0, False
        self._decode = json.JSONDecoder().raw_decode

    def _more(self, size: int) -> None:
        try:
            read = self._file.read(size)
        except UnicodeDecodeError as problem:
            raise DataError(f"{self._path} is no UTF-8: {problem.reason}") from None
        self._before += self._at
        self._window, self._at = self._window[self._at :] + read, 0
        self._over = not read

    def _skip(self) -> str:
        """The next character that is no space; empty at the end of the file."""
        while True:
            while self._at < len(self._window):
                if self._window[self._at] not in _SPACE:
                    return self._window[self._at]
                self._at += 1
            if self._over:
                return ""
            self._more(CHUNK)

    def expect(self, mark: str) -> None:
        """Step over `mark`."""
        found = self._skip()
        if found != mark:
            raise self._wrong(f"expected {mark!r}, found {found!r}" if found else "the file ends")
        self._at += 1

    def ends(self, mark: str) -> bool:
        """Whether `mark` comes next; steps over it."""
        if self._skip() != mark:
            return False
        self._at += 1
        return True

    def value(self) -> Any:
        """The next value, however long it is."""
        self._skip()
        size = CHUNK
        while True:
            try:
                value, end = self._decode(self._window, self._at)
                # a number that touches the window's end may go on after it
                if end < len(self._window) or self._over:
                    self._at = end
                    return value
            except ValueError as problem:
                if self._over:
                    raise self._wrong(str(problem)) from None
            except RecursionError:
                raise self._wrong("it is nested too deep") from None
            self._more(size)
            size *= 2

    def _wrong(self, why: str) -> DataError:
        return DataError(f"{self._path}, near character {self._before + self._at}: {why}")
