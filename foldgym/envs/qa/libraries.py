"""What search worlds search: documents in memory, an index on disk, or a server."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from foldgym.search import Bm25, Document, Index, shared_index


class Pages:
    """Documents in memory, indexed when they are first searched; never changes."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self.documents = tuple(documents)

    @cached_property
    def _index(self) -> Bm25:
        return Bm25.of(self.documents)

    def search(self, query: str, k: int) -> list[Document]:
        """The best `k` documents, best first."""
        return found(self._index, query, k)

    def get(self, id: str) -> Document | None:
        """The document of this id; None if there is none."""
        return self._index.document(id)


class Shelves:
    """Any `Index` as a library."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def search(self, query: str, k: int) -> list[Document]:
        """The best `k` documents, best first."""
        return found(self._index, query, k)

    def get(self, id: str) -> Document | None:
        """The document of this id; None if there is none."""
        return self._index.document(id)


def found(index: Index, query: str, k: int) -> list[Document]:
    """The documents of an index's hits."""
    (hits,) = index.search([query], k)
    return [each for hit in hits if (each := index.document(hit.id)) is not None]


def open_library(where: str) -> Shelves:
    """The index in a folder or at an address, open once in this process.

    Raises `DataError` if there is none.
    """
    return Shelves(shared_index(where))
