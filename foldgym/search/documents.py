"""The documents behind an index: one line each on disk, found by number or by id."""

from __future__ import annotations

import json
import mmap
from array import array
from collections.abc import Iterable
from hashlib import blake2b
from json.encoder import encode_basestring as quote
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from foldgym.errors import DataError
from foldgym.search.base import Document
from foldgym.search.keys import Keys, digest, mapped

MOST_DOCUMENTS = 2**32 - 1


class Documents(Protocol):
    """Documents by number, 0, 1, 2, ..., and by id."""

    def __len__(self) -> int: ...
    def __getitem__(self, number: int, /) -> Document: ...
    def find(self, id: str) -> Document | None: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102


class InMemory:
    """Documents in a list. Raises `DataError` where two have one id."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._documents = tuple(documents)
        self._numbers = {each.id: number for number, each in enumerate(self._documents)}
        if len(self._numbers) < len(self._documents):
            twice = next(
                each.id
                for number, each in enumerate(self._documents)
                if self._numbers[each.id] != number
            )
            raise DataError(f"two documents have the id {twice!r}; ids must differ")

    def __len__(self) -> int:
        return len(self._documents)

    def __getitem__(self, number: int) -> Document:
        return self._documents[number]

    def find(self, id: str) -> Document | None:
        """The document with this id, if there is one."""
        number = self._numbers.get(id)
        return None if number is None else self._documents[number]

    def close(self) -> None:
        """Nothing to give back."""


class OnDisk:
    """Documents in a memory-mapped file that `Writer` wrote. Raises `ValueError` if it was cut."""

    def __init__(self, folder: Path) -> None:
        self._starts = mapped(folder / "documents.starts.npy")
        self._keys = Keys.load(folder, "documents")
        with (folder / "documents.jsonl").open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._map) != int(self._starts[-1]):
            raise ValueError(f"{file.name} has {len(self._map)} bytes, not {self._starts[-1]}")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> Document:
        line = self._map[int(self._starts[number]) : int(self._starts[number + 1])]
        return Document(*json.loads(line.decode("utf-8", "surrogatepass")))

    def find(self, id: str) -> Document | None:
        """The document with this id, if there is one."""
        number = self._keys.find(id)
        document = self[number] if number >= 0 else None
        return document if document is not None and document.id == id else None

    def number(self, id: str) -> int:
        """The number of the document with this id, or -1."""
        number = self._keys.find(id)
        return number if number >= 0 and self[number].id == id else -1

    def close(self) -> None:
        """Unmap the file; safe to call twice."""
        self._map.close()


class Writer:
    """Writes documents one after the other; `content` is a hash of all that was written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: IO[bytes] = (folder / "documents.jsonl").open("wb")
        self._starts = array("Q", [0])
        self._digests = array("Q")
        self._hash = blake2b(digest_size=16)

    def __len__(self) -> int:
        return len(self._digests)

    @property
    def content(self) -> str:
        """Hexadecimal; equal for equal documents in equal order."""
        return self._hash.hexdigest()

    def add(self, document: Document) -> None:
        """Append one; its number is how many came before."""
        if len(self) == MOST_DOCUMENTS:
            raise DataError(f"an index holds at most {MOST_DOCUMENTS} documents; split the corpus")
        id, title, text = quote(document.id), quote(document.title), quote(document.text)
        line = f"[{id},{title},{text}]\n".encode("utf-8", "surrogatepass")
        self._file.write(line)
        self._hash.update(line)
        self._starts.append(self._starts[-1] + len(line))
        self._digests.append(digest(document.id))

    def finish(self) -> None:
        """Write what finds documents again. Raises `DataError` where two have one id."""
        self._file.close()
        keys = Keys.of(self._digests)
        np.save(self._folder / "documents.starts.npy", np.asarray(self._starts, dtype=np.uint64))
        keys.save(self._folder, "documents")
        same = np.flatnonzero(keys.digests[1:] == keys.digests[:-1])
        if len(same):
            first, second = (int(keys.numbers[same[0] + offset]) for offset in (0, 1))
            documents = OnDisk(self._folder)
            id, other = documents[first].id, documents[second].id
            documents.close()
            if id == other:
                raise DataError(f"documents {first} and {second} have the same id {id!r}")
            raise DataError(f"the ids {id!r} and {other!r} collide; rename one of them")

    def close(self) -> None:
        """Close the file, finished or not."""
        self._file.close()
