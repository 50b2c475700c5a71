"""Building an index into a folder, all or nothing, and opening it again.

    manifest = build_index("wiki.index", documents, engine="bm25")
    index = open_index("wiki.index")

A folder holds the documents, the files of the engine, and last of all `manifest.json`. It is made
under another name and renamed when it is whole, so a build that dies leaves no half index.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from foldgym.config import resolve
from foldgym.errors import DataError, UserError
from foldgym.search.base import Document, Index
from foldgym.search.clients import connect
from foldgym.search.documents import OnDisk, Writer
from foldgym.search.engines import ENGINES, Engine, called
from foldgym.types import Json

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index is. `content` is a hash of the documents, equal for equal corpora."""

    engine: str
    version: str  # of the engine
    documents: int
    content: str
    options: dict[str, Json] = field(default_factory=dict[str, Json])
    schema: int = SCHEMA


def build_index(
    folder: str | Path,
    documents: Iterable[Document],
    engine: str = "bm25",
    **options: Any,
) -> Manifest:
    """Index `documents` into a new folder. `options` are the engine's, such as `k1=1.2`.

    Raises `DataError` where the folder exists, two documents have one id or there is none at all.
    """
    found: Engine = resolve("search engine", engine, ENGINES)
    with _building(Path(folder)) as half:
        writer = Writer(half)
        try:
            builder = called(found.build, f"the engine {engine!r}", options, half)
            for document in documents:
                writer.add(document)
                builder.add(document)
            if not len(writer):
                raise DataError(f"there is no document to build {folder} from")
            writer.finish()
            told = builder.finish()
            manifest = Manifest(engine, builder.version, len(writer), writer.content, told)
        finally:
            writer.close()
        _write(half / "manifest.json", asdict(manifest))
    return manifest


def read_manifest(folder: str | Path) -> Manifest:
    """Raises `DataError` where there is no index, or a newer foldgym built it."""
    path = Path(folder) / "manifest.json"
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        schema = table["schema"]
        if schema == SCHEMA:
            return Manifest(**table)
    except OSError as problem:
        raise DataError(
            f"there is no index in {str(folder)!r} ({problem.strerror}: {path.name}); "
            "`foldgym index build` makes one"
        ) from None
    except (ValueError, TypeError, KeyError) as problem:
        raise DataError(f"{path} is damaged ({problem}); build the index again") from None
    raise DataError(
        f"{path} has schema {schema!r}, this foldgym reads {SCHEMA}; build the index again"
    )


def open_index(where: str | Path, **options: Any) -> Index:
    """The index in a folder, memory-mapped, or behind an address such as "http://...".

    For a folder, `options` change what the manifest records; addresses are told in
    `foldgym.search.clients`. Raises `DataError` where there is no index.
    """
    if "://" in str(where):
        return connect(str(where), **options)
    path = Path(where)
    manifest = read_manifest(path)
    engine: Engine = resolve("search engine", manifest.engine, ENGINES)
    try:
        documents = OnDisk(path)
        given = (path, documents, dict(manifest.options))
        return called(engine.open, f"the engine {manifest.engine!r}", options, *given)
    except (OSError, EOFError, ValueError, KeyError) as problem:
        raise DataError(f"the index in {str(where)!r} is damaged: {problem}") from None


_lock = threading.Lock()  # the members of a group are made in threads, all at once
_shared: dict[str, Index] = {}


def shared_index(where: str) -> Index:
    """The one open index of this process for a folder or an address; nobody closes it."""
    with _lock:
        if where not in _shared:
            _shared[where] = open_index(where)
        return _shared[where]


@contextmanager
def _building(folder: Path) -> Generator[Path]:
    """A folder beside the wanted one that takes its name if all goes well."""
    if folder.exists():
        raise DataError(f"{folder} exists and is left alone; remove it or name another folder")
    half = folder.with_name(f".{folder.name}.half")
    try:
        half.mkdir(parents=True, exist_ok=True)
        lock = os.open(half / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as problem:
        raise DataError(f"cannot build in {folder.parent}: {problem.strerror}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another build of {folder} is under way") from None
        try:
            for left in half.iterdir():  # by a build that was killed
                if left.name != "lock":
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            yield half
            (half / "lock").unlink()
            half.rename(folder)
        except BaseException as problem:
            shutil.rmtree(half, ignore_errors=True)
            if isinstance(problem, OSError):
                raise DataError(f"cannot build {folder}: {problem.strerror or problem}") from None
            raise
    finally:
        os.close(lock)


def _write(path: Path, table: dict[str, Any]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(table, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
