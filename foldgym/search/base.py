"""What a search is made of: a document, a hit, and the index that answers queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Document:
    r"""One passage: `Document("0", "Ada Lovelace", "Ada Lovelace wrote the first program.")`.

    `contents` is what is indexed and what a server hands out, title in quotes on the first line, as
    the passages of wiki-18 have it:

    >>> Document("0", "Ada", "She wrote programs.").contents
    '"Ada"\nShe wrote programs.'
    """

    id: str
    title: str
    text: str

    @property
    def contents(self) -> str:
        """Title and text as one string; the text alone where there is no title."""
        return f'"{self.title}"\n{self.text}' if self.title else self.text


@dataclass(frozen=True, slots=True)
class Hit:
    """One result: which document, and how well it fits (higher is better)."""

    id: str
    score: float


class Index(Protocol):
    """Answers queries with documents. Safe to share by all episodes and threads of a process.

        found = index.search(["who wrote the first program"], k=3)
        documents = [index.document(hit.id) for hit in found[0]]

    `search` answers every query, in order, with at most `k` hits, best first; equal scores keep
    the order of the corpus. A query without any known word finds nothing. `document` is None where
    no document has the id. `len` is how many documents there are.
    """

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """At most `k` hits for each query."""
        ...

    def document(self, id: str) -> Document | None:
        """The document with this id."""
        ...

    def __len__(self) -> int: ...

    def close(self) -> None:
        """Give back files and connections; safe to call twice."""
        ...
