"""JSON lines: whole ones only, whatever crashes or fills up, and numbers that JSON lacks."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from foldgym.errors import DataError
from foldgym.types import Json

_FLOAT = "$float"  # {"$float": "nan"}: what JSON has no number for
_MARK = f'"{_FLOAT}":'


class JsonlWriter:
    """Appends whole lines to a file; a crash or a full disk never leaves half of one.

    Opening moves a torn last line into `<file>.torn`. `offset` is the size in bytes so far; a run
    that resumes calls `truncate_to` with the offset of its checkpoint. Raises `DataError`.
    """

    def __init__(self, path: str | Path, *, fsync: bool = False) -> None:
        self.path = Path(path)
        self._fsync = fsync
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as problem:
            raise DataError(f"cannot open {self.path}: {problem.strerror}") from None
        try:
            self._offset = self._repair()
        except OSError as problem:
            os.close(self._file)
            raise DataError(f"cannot repair {self.path}: {problem.strerror}") from None

    @property
    def offset(self) -> int:
        """Bytes of whole lines in the file."""
        return self._offset

    def write(self, table: Mapping[str, Json]) -> None:
        """Append one object as one line."""
        data = (dumps(table) + "\n").encode("utf-8")
        try:
            rest = data
            while rest:  # once, unless a nearly full disk takes only a part before it says so
                rest = rest[os.write(self._file, rest) :]
            if self._fsync:
                os.fsync(self._file)
        except OSError as problem:
            with suppress(OSError):  # what then stays is repaired when the file is next opened
                os.ftruncate(self._file, self._offset)
            raise DataError(
                f"cannot write {self.path}: {problem.strerror}; the {self._offset} bytes "
                "before are intact: make room, then resume"
            ) from None
        self._offset += len(data)

    def truncate_to(self, offset: int) -> None:
        """Drop all lines from byte `offset` on, which must be where a line starts."""
        at_start = offset == 0 or (
            0 < offset <= self._offset and os.pread(self._file, 1, offset - 1) == b"\n"
        )
        if not at_start:
            raise DataError(
                f"cannot cut {self.path} at byte {offset}: no line starts there "
                f"(the file has {self._offset} bytes)"
            )
        os.ftruncate(self._file, offset)
        self._offset = offset

    def close(self) -> None:
        """Flush to disk and close; safe to call twice."""
        if self._file < 0:
            return
        file, self._file = self._file, -1
        try:
            os.fsync(file)
        except OSError as problem:
            if problem.errno != errno.EINVAL:  # a pipe or device, which has no disk behind it
                raise DataError(f"cannot write {self.path}: {problem.strerror}") from None
        finally:
            os.close(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _repair(self) -> int:
        size = os.fstat(self._file).st_size
        start, tail = size, b""
        while start > 0 and b"\n" not in tail:
            step = min(start, 65536)
            start -= step
            tail = os.pread(self._file, step, start) + tail
        torn = tail[tail.rfind(b"\n") + 1 :]
        if not torn:
            return size
        if _is_object(torn):  # whole but for its newline
            os.write(self._file, b"\n")
            return size + 1
        with open(f"{self.path}.torn", "ab") as aside:
            aside.write(torn + b"\n")
            aside.flush()
            os.fsync(aside.fileno())
        os.ftruncate(self._file, size - len(torn))
        return size - len(torn)


class JsonlReader:
    """Iterates over the objects of a JSONL file; `skipped` counts bad lines when they may be.

    Raises `DataError` with file and line number on a bad line unless `skip_bad`.
    """

    def __init__(self, path: str | Path, *, skip_bad: bool = False) -> None:
        self.path = Path(path)
        self.skip_bad = skip_bad
        self.skipped = 0

    def __iter__(self) -> Iterator[dict[str, Json]]:
        for _, table in self.numbered():
            yield table

    def numbered(self) -> Iterator[tuple[int, dict[str, Json]]]:
        """The objects with their line numbers, from 1."""
        self.skipped = 0
        try:
            file = self.path.open("rb")
        except OSError as problem:
            raise DataError(f"cannot read {self.path}: {problem.strerror}") from None
        with file:
            for number, line in enumerate(file, 1):
                try:
                    table = loads(line)
                except ValueError as problem:
                    if not self.skip_bad:
                        raise DataError(
                            f"{self.path}, line {number}: not a JSON object: {problem}"
                        ) from None
                    self.skipped += 1
                    continue
                yield number, table


def dumps(table: Mapping[str, Json]) -> str:
    """One line of standard JSON; NaN and infinities survive as {"$float": "nan"}."""
    try:
        text = _compact(table, ascii_only=False)
    except ValueError:  # NaN or infinite
        return _compact(_mark_floats(table), ascii_only=True)
    if _MARK in text:  # quotes inside strings are escaped, so this is a key
        raise _reserved()
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, which only an escape can carry
        return _compact(table, ascii_only=True)
    return text


def loads(line: str | bytes) -> dict[str, Json]:
    """The object of one line. Raises `ValueError` for anything else."""
    table = json.loads(line, parse_constant=_no_constant)
    if not isinstance(table, dict):
        raise ValueError(f"it is a {type(table).__name__}")
    text = line if isinstance(line, str) else line.decode("utf-8")
    return _unmark_floats(table) if _MARK in text else cast("dict[str, Json]", table)


def _compact(table: Json, ascii_only: bool) -> str:
    return json.dumps(table, ensure_ascii=ascii_only, allow_nan=False, separators=(",", ":"))


def _reserved() -> DataError:
    return DataError(f"the key {_FLOAT!r} is reserved for numbers that JSON lacks; rename it")


def _mark_floats(value: Json) -> Json:
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: repr(value)}
    if isinstance(value, Mapping):
        if _FLOAT in value:
            raise _reserved()
        return {key: _mark_floats(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mark_floats(item) for item in cast("Sequence[Any]", value)]
    return value


def _unmark_floats(value: Json) -> Json:
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        if list(table) == [_FLOAT]:
            return float(table[_FLOAT])
        return {key: _unmark_floats(item) for key, item in table.items()}
    if isinstance(value, list):
        return [_unmark_floats(item) for item in cast("list[Any]", value)]
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _is_object(data: bytes) -> bool:
    try:
        loads(data)
    except ValueError:
        return False
    return True
