"""Rows of genuine data files: JSON, JSON lines, CSV and Parquet, plain or gzipped.

A row that cannot be read costs that row and is reported with its file and line; with `strict` it
raises.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Generic, TypeVar, cast

from foldgym.errors import DataError, MissingExtra

Row = dict[str, Any]
T = TypeVar("T")
SUFFIXES = (".json", ".jsonl", ".csv", ".tsv", ".parquet")


class Malformed(ValueError):
    """A row that is not what its format says; the message says what is wrong with it."""


@dataclass(slots=True)
class Read(Generic[T]):
    """What could be read, and one line for every row that could not."""

    items: list[T] = field(default_factory=list[Any])
    problems: list[str] = field(default_factory=list[str])


def read_rows(path: str | Path, build: Callable[[Row], T], *, strict: bool = False) -> Read[T]:
    """Every row of a file, built by `build`, which raises `Malformed` for one that is wrong.

    Raises `DataError` when the file cannot be read at all, or holds no row that can be used; with
    `strict` at the first bad row.
    """
    source, found = Path(path), Read[T]()
    for where, row in _rows(source):
        try:
            if isinstance(row, Malformed):
                raise row
            found.items.append(build(row))
        except Malformed as problem:
            line = f"{source}:{where}: {problem}"
            if strict:
                raise DataError(line) from None
            found.problems.append(line)
    if not found.items:
        first = f"; the first problem: {found.problems[0]}" if found.problems else ""
        raise DataError(f"{source} holds no usable row{first}")
    return found


def first_row(path: str | Path) -> Row:
    """The first row that can be parsed, by which a format is recognised."""
    for _, row in _rows(Path(path)):
        if not isinstance(row, Malformed):
            return row
    raise DataError(f"{path} holds no row")


def _rows(path: Path) -> Iterator[tuple[int, Row | Malformed]]:
    """Line (or, in Parquet and JSON arrays, row) number from 1, and the row."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path}: cannot tell its format from its name; it must end in one of "
            f"{', '.join(SUFFIXES)}, or that and .gz"
        )
    try:
        if suffix == ".parquet":
            yield from _parquet(path)
            return
        with _open(path) as file:
            if suffix == ".json":
                yield from _array(path, file)
            elif suffix == ".jsonl":
                yield from _lines(file)
            else:
                yield from _table(file, "\t" if suffix == ".tsv" else ",")
    except (OSError, EOFError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise DataError(f"cannot read {path}: {reason}") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path} is not UTF-8 text: {problem.reason}") from None


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return cast("IO[str]", gzip.open(path, "rt", encoding="utf-8"))
    return path.open(encoding="utf-8-sig", newline="")


def _lines(file: IO[str]) -> Iterator[tuple[int, Row | Malformed]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            yield number, _parsed(line)


def _parsed(line: str) -> Row | Malformed:
    try:
        return _object(json.loads(line))
    except json.JSONDecodeError as problem:
        return Malformed(f"not JSON: {problem.msg} at column {problem.colno}")
    except RecursionError:
        return Malformed("not JSON: nested too deeply")


def _object(value: Any) -> Row | Malformed:
    if isinstance(value, dict):
        return cast("Row", value)
    return Malformed(f"a {type(value).__name__}, not an object")


def _array(path: Path, file: IO[str]) -> Iterator[tuple[int, Row | Malformed]]:
    """A JSON array of objects, or an object that holds one under `data` or `questions`."""
    text = file.read()
    try:
        whole: Any = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as problem:
        line = getattr(problem, "lineno", 1)
        raise DataError(f"{path}:{line}: not JSON: {getattr(problem, 'msg', problem)}") from None
    if isinstance(whole, dict):
        table = cast("Row", whole)
        whole = next((table[key] for key in ("data", "questions") if key in table), [whole])
    if not isinstance(whole, list):
        raise DataError(f"{path} must hold a JSON array of objects")
    for number, value in enumerate(cast("list[Any]", whole), 1):
        yield number, _object(value)


def _table(file: IO[str], delimiter: str) -> Iterator[tuple[int, Row | Malformed]]:
    reader = csv.DictReader(file, delimiter=delimiter)
    for row in reader:
        extra = row.pop(cast("str", None), None)
        if extra is not None or None in row.values():
            wanted = len(reader.fieldnames or ())
            yield reader.line_num, Malformed(f"not {wanted} columns, which the heading has")
        else:
            yield reader.line_num, dict(row)


def _parquet(path: Path) -> Iterator[tuple[int, Row | Malformed]]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError as problem:
        raise MissingExtra(f"reading {path}", "data") from problem
    try:
        file: Any = parquet.ParquetFile(path)
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except arrow.ArrowInvalid as problem:
        raise DataError(f"{path} is no readable Parquet file: {problem}") from None
