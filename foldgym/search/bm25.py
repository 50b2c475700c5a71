"""The index that needs nothing: Lucene's BM25 over memory-mapped postings.

Made for up to about a hundred thousand passages; for more there is the engine "tantivy".
"""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldgym.search.analysis import English
from foldgym.search.base import Document, Hit
from foldgym.search.documents import Documents, InMemory
from foldgym.search.engines import Engine
from foldgym.search.keys import Keys, Table, digest, mapped
from foldgym.search.similarity import ANSERINI, Bm25Weights, byte_of, contribution, idf


@dataclass(frozen=True, slots=True)
class Postings:
    """Which documents hold a term, and how often.

    `starts` [V + 1] cuts `numbers` and `frequencies` [P] into one stretch for each term, documents
    ascending; `lengths` [N] are bytes as `similarity.byte_of` makes them. `counted` documents hold
    a term at all, and `total` is how many terms there are in all of them.
    """

    starts: NDArray[np.int64]
    numbers: NDArray[np.uint32]
    frequencies: NDArray[Any]
    lengths: NDArray[np.uint8]
    counted: int
    total: int


class Bm25:
    """An `Index` over postings; `Bm25.of(documents)` makes one in memory.

    >>> ada = Document("a", "", "Ada Lovelace wrote the first program.")
    >>> index = Bm25.of([ada, Document("b", "", "The dogs run.")])
    >>> [hit.id for hit in index.search(["programs", "dog running"], k=3)[0]]
    ['a']
    """

    def __init__(
        self,
        documents: Documents,
        postings: Postings,
        find: Callable[[str], int],
        k1: float = ANSERINI[0],
        b: float = ANSERINI[1],
    ) -> None:
        self._documents, self._postings, self._find = documents, postings, find
        mean = postings.total / max(postings.counted, 1)
        # an empty corpus has no mean length; nothing will ever be scored with it
        self._inverse = Bm25Weights(k1, b).inverse_norms(mean or 1.0)
        self._analyse = English()

    @classmethod
    def of(
        cls, documents: Iterable[Document], k1: float = ANSERINI[0], b: float = ANSERINI[1]
    ) -> Bm25:
        """In memory. Raises `DataError` where two documents have one id."""
        shelf = InMemory(documents)
        builder = PostingsBuilder()
        for number in range(len(shelf)):
            builder.add(shelf[number])
        return cls(shelf, builder.postings(), Table(builder.terms).find, k1, b)

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` of the documents that hold a term of the query; ties in corpus order."""
        return [self._search(query, k) for query in queries]

    def _search(self, query: str, k: int) -> list[Hit]:
        postings = self._postings
        sums = np.zeros(len(postings.lengths), dtype=np.float64)
        for term, times in Counter(self._analyse(query)).items():
            found = self._find(term)
            if found < 0:
                continue
            start, end = int(postings.starts[found]), int(postings.starts[found + 1])
            numbers = postings.numbers[start:end]
            weight = np.float32(times) * idf(end - start, postings.counted)
            inverse = self._inverse[postings.lengths[numbers]]
            frequencies = postings.frequencies[start:end].astype(np.float32)
            sums[numbers] += contribution(weight, frequencies, inverse)
        best, scores = top(sums.astype(np.float32), k)
        return [
            Hit(self._documents[int(number)].id, float(score))
            for number, score in zip(best, scores, strict=True)
        ]

    def document(self, id: str) -> Document | None:
        """The document with this id."""
        return self._documents.find(id)

    def __len__(self) -> int:
        return len(self._documents)

    def close(self) -> None:
        """Give the files back."""
        self._documents.close()


def top(scores: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Where the `k` highest positive scores are, best first, the first of equals first."""
    found = np.flatnonzero(scores > 0)
    if len(found) > k > 0:
        reached = scores[found]
        least = np.partition(reached, len(found) - k)[len(found) - k]
        found = found[reached >= least]
    order = np.argsort(-scores[found], kind="stable")[:k]
    return found[order], scores[found[order]]


class PostingsBuilder:
    """Collects the terms of documents 0, 1, 2, ... in memory, 8 bytes a posting."""

    def __init__(self) -> None:
        self.terms: defaultdict[str, int] = defaultdict()
        self.terms.default_factory = self.terms.__len__
        self._analyse = English()
        self._terms, self._frequencies = array("I"), array("I")
        self._sizes, self._lengths = array("I"), array("B")
        self._counted = self._total = 0

    def add(self, document: Document) -> None:
        """Index one document under the next number."""
        found = self._analyse(document.contents)
        counts = Counter(found)
        self._terms.extend(map(self.terms.__getitem__, counts))
        self._frequencies.extend(counts.values())
        self._sizes.append(len(counts))
        self._lengths.append(byte_of(len(found)))
        self._counted += bool(found)
        self._total += len(found)

    def postings(self) -> Postings:
        """Everything that was added, by term."""
        terms = np.asarray(self._terms, dtype=np.uint32)
        order = np.argsort(terms, kind="stable")
        starts = np.zeros(len(self.terms) + 1, dtype=np.int64)
        np.cumsum(np.bincount(terms, minlength=len(self.terms)), out=starts[1:])
        numbers = np.repeat(np.arange(len(self._sizes), dtype=np.uint32), self._sizes)[order]
        frequencies = np.asarray(self._frequencies, dtype=np.uint32)
        most = int(frequencies.max(initial=0))
        small = np.min_scalar_type(most)
        lengths = np.asarray(self._lengths, dtype=np.uint8)
        return Postings(
            starts, numbers, frequencies[order].astype(small), lengths, self._counted, self._total
        )

    def keys(self) -> Keys:
        """From a term to its number."""
        return Keys.of(array("Q", map(digest, self.terms)))


class Builder:
    """The engine "bm25" on disk: four arrays and the keys of the terms."""

    version = "1"

    def __init__(self, folder: Path, k1: float = ANSERINI[0], b: float = ANSERINI[1]) -> None:
        weights = Bm25Weights(k1, b)
        self._folder, self._postings = folder, PostingsBuilder()
        self._options = {"k1": weights.k1, "b": weights.b, "analyzer": English.name}

    def add(self, document: Document) -> None:
        """Index one document under the next number."""
        self._postings.add(document)

    def finish(self) -> dict[str, Any]:
        """Write the files; returns what the manifest records."""
        built = self._postings.postings()
        for name in ("starts", "numbers", "frequencies", "lengths"):
            np.save(self._folder / f"postings.{name}.npy", getattr(built, name))
        self._postings.keys().save(self._folder, "terms")
        return {**self._options, "counted": built.counted, "total": built.total}


def open_bm25(
    folder: Path,
    documents: Documents,
    recorded: dict[str, Any],
    k1: float | None = None,
    b: float | None = None,
) -> Bm25:
    """What `Builder` wrote; `k1` and `b` may differ from those it was built with."""
    names = ("starts", "numbers", "frequencies", "lengths")
    arrays = {name: mapped(folder / f"postings.{name}.npy") for name in names}
    postings = Postings(**arrays, counted=recorded["counted"], total=recorded["total"])
    return Bm25(
        documents,
        postings,
        Keys.load(folder, "terms").find,
        recorded["k1"] if k1 is None else k1,
        recorded["b"] if b is None else b,
    )


ENGINE = Engine(Builder, open_bm25)
