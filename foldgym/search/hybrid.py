"""Words and vectors together: reciprocal rank fusion of any indexes.

Cormack, Clarke, Buettcher, Reciprocal rank fusion outperforms Condorcet and individual rank
learning methods, 2009: a document scores the sum of 1 / (60 + rank) over the indexes that found it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foldgym.config import resolve
from foldgym.errors import UnknownName, UserError
from foldgym.search import dense
from foldgym.search.base import Document, Hit, Index
from foldgym.search.documents import Documents
from foldgym.search.encoders import Encoder
from foldgym.search.engines import ENGINES, Engine

CONSTANT = 60.0
DEPTH = 100
LEXICAL = ("bm25", "tantivy")


class Hybrid:
    """An `Index` that fuses the first `depth` hits of each of several indexes of one corpus.

    Equal scores go to the document that an earlier index ranks, and then to the higher rank.
    """

    def __init__(
        self, indexes: Sequence[Index], depth: int = DEPTH, constant: float = CONSTANT
    ) -> None:
        if len(indexes) < 2 or depth < 1 or constant < 0:
            raise UserError(
                "a hybrid fuses at least 2 indexes, at least 1 hit of each, with a constant of at "
                f"least 0, not {len(indexes)}, {depth} and {constant}"
            )
        self._indexes, self._depth, self._constant = tuple(indexes), depth, constant

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` documents by fused rank."""
        depth = max(k, self._depth)
        answers = [index.search(queries, depth) for index in self._indexes]
        return [self._fuse(rankings)[:k] for rankings in zip(*answers, strict=True)]

    def _fuse(self, rankings: Sequence[Sequence[Hit]]) -> list[Hit]:
        scores: dict[str, float] = {}  # in the order in which documents are first met
        for ranking in rankings:
            for rank, hit in enumerate(ranking, 1):
                scores[hit.id] = scores.get(hit.id, 0.0) + 1.0 / (self._constant + rank)
        best = sorted(scores, key=lambda id: -scores[id])
        return [Hit(id, scores[id]) for id in best]

    def document(self, id: str) -> Document | None:
        """The document with this id, from the first index that has it."""
        for index in self._indexes:
            found = index.document(id)
            if found is not None:
                return found
        return None

    def __len__(self) -> int:
        return len(self._indexes[0])

    def close(self) -> None:
        """Close all of them."""
        for index in self._indexes:
            index.close()


class Builder:
    """Two engines in one folder: `lexical`, "bm25" or "tantivy", and dense with its options."""

    def __init__(
        self,
        folder: Path,
        lexical: str = "bm25",
        model: str = "",
        encoder: str | Encoder = "",
        query_prefix: str = "",
        passage_prefix: str = "",
        precision: str = "f16",
        device: str = "",
    ) -> None:
        if lexical not in LEXICAL:
            raise UnknownName("lexical engine", lexical, LEXICAL)
        self._lexical = lexical
        words: Engine = resolve("search engine", lexical, ENGINES)
        self._dense = dense.Builder(
            folder, model, encoder, query_prefix, passage_prefix, "cos", precision, device
        )
        self._words = words.build(folder)
        self.version = f"{lexical} {self._words.version}, usearch {self._dense.version}"

    def add(self, document: Document) -> None:
        """Hand one document to both."""
        self._words.add(document)
        self._dense.add(document)

    def finish(self) -> dict[str, Any]:
        """Write both; returns what the manifest records."""
        told = {"words": self._words.finish(), "dense": self._dense.finish()}
        return {"lexical": self._lexical, **told}


def open_hybrid(
    folder: Path,
    documents: Documents,
    recorded: dict[str, Any],
    model: str = "",
    encoder: str | Encoder = "",
    device: str = "",
    exact: bool = False,
    depth: int = DEPTH,
    constant: float = CONSTANT,
) -> Hybrid:
    """What `Builder` wrote; the options are those of `Hybrid` and of dense search."""
    words: Engine = resolve("search engine", recorded["lexical"], ENGINES)
    lexical = words.open(folder, documents, recorded["words"])
    near = dense.open_dense(folder, documents, recorded["dense"], model, encoder, device, exact)
    return Hybrid([lexical, near], depth, constant)


ENGINE = Engine(Builder, open_hybrid)
