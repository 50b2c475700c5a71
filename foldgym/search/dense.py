"""Dense retrieval: the nearest vectors, in a memory-mapped graph of usearch (extra [search])."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foldgym.errors import DataError, UnknownName, UserError
from foldgym.search.base import Document, Hit
from foldgym.search.documents import Documents
from foldgym.search.encoders import BATCH, Encoder, load_encoder, vectors
from foldgym.search.engines import Engine
from foldgym.search.extras import installed, optional
from foldgym.search.ties import best

FILE = "vectors.usearch"
METRICS = ("cos", "ip")
PRECISIONS = ("f32", "f16", "i8")


def _usearch() -> Any:
    return optional("usearch.index", "dense search", "search").Index


class Builder:
    """Encodes documents in batches and links them into a graph.

    Args:
        model: a sentence-transformers model, by name or folder
        encoder: instead of a model, a function from texts to vectors, or where one is
        query_prefix: put before every query, such as "query: " for E5
        passage_prefix: put before every document, such as "passage: "
        metric: "cos" or "ip", the inner product
        precision: of the kept vectors: "f32", "f16" or "i8"
        device: where the model computes, such as "cuda"; empty for its own choice
    """

    def __init__(
        self,
        folder: Path,
        model: str = "",
        encoder: str | Encoder = "",
        query_prefix: str = "",
        passage_prefix: str = "",
        metric: str = "cos",
        precision: str = "f16",
        device: str = "",
    ) -> None:
        for what, given, known in (
            ("metric", metric, METRICS),
            ("precision", precision, PRECISIONS),
        ):
            if given not in known:
                raise UnknownName(what, given, known)
        self._make = _usearch()
        self.version = installed("usearch")
        self._encode = load_encoder(model, encoder, device)
        self._folder, self._prefix = folder, passage_prefix
        self._metric, self._precision = metric, precision
        self._index: Any = None
        self._waiting: list[str] = []
        self._told = {
            "model": model,
            "encoder": encoder if isinstance(encoder, str) else "",
            "query_prefix": query_prefix,
            "metric": metric,
        }

    def add(self, document: Document) -> None:
        """Encode one document, with the others of its batch."""
        self._waiting.append(self._prefix + document.contents)
        if len(self._waiting) == BATCH:
            self._flush()

    def _flush(self) -> None:
        size = self._index.ndim if self._index is not None else 0
        found = vectors(self._encode, self._waiting, size)
        if self._index is None:
            self._index = self._make(
                ndim=found.shape[1], metric=self._metric, dtype=self._precision
            )
        done = len(self._index)
        # one thread: the graph, and so every answer, is then the same in each build
        self._index.add(np.arange(done, done + len(found)), found, threads=1)
        self._waiting = []

    def finish(self) -> dict[str, Any]:
        """Write the graph; returns what the manifest records."""
        if self._waiting:
            self._flush()
        self._index.save(str(self._folder / FILE))
        return {**self._told, "size": int(self._index.ndim)}


class Dense:
    """An `Index` over vectors. Scores are cosines, or inner products."""

    def __init__(
        self,
        graph: Any,
        documents: Documents,
        encode: Encoder,
        *,
        query_prefix: str = "",
        exact: bool = False,
    ) -> None:
        self._graph, self._documents, self._encode = graph, documents, encode
        self._prefix, self._exact = query_prefix, exact

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The nearest `k` documents of each query; equally near ones in corpus order."""
        if k < 1 or not queries:
            return [[] for _ in queries]
        texts = [self._prefix + query for query in queries]
        asked = vectors(self._encode, texts, self._graph.ndim)
        return [self._nearest(vector, k) for vector in asked]

    def _nearest(self, vector: NDArray[np.float32], k: int) -> list[Hit]:
        def ask(limit: int) -> list[tuple[float, int]]:
            near = self._graph.search(vector, limit, threads=1, exact=self._exact)
            pairs = zip(near.distances, near.keys, strict=True)
            return [(1.0 - float(distance), int(number)) for distance, number in pairs]

        found = best(ask, k, len(self))
        return [Hit(self._documents[number].id, score) for score, number in found]

    def document(self, id: str) -> Document | None:
        """The document with this id."""
        return self._documents.find(id)

    def __len__(self) -> int:
        return len(self._documents)

    def close(self) -> None:
        """Give the files back."""
        self._documents.close()


def open_dense(
    folder: Path,
    documents: Documents,
    recorded: dict[str, Any],
    model: str = "",
    encoder: str | Encoder = "",
    device: str = "",
    exact: bool = False,
) -> Dense:
    """What `Builder` wrote. A `model` or `encoder` takes the place of the recorded one; `exact`
    compares a query with every vector instead of walking the graph.
    """
    if not (model or encoder):
        model, encoder = recorded["model"], recorded["encoder"]
        if not (model or encoder):
            raise UserError("this index was built with a function; open it with encoder=...")
    graph = _usearch().restore(str(folder / FILE), view=True)
    if graph is None or len(graph) != len(documents):
        raise DataError(f"{folder / FILE} is damaged; build the index again")
    encode = load_encoder(model, encoder, device)
    return Dense(graph, documents, encode, query_prefix=recorded["query_prefix"], exact=exact)


ENGINE = Engine(Builder, open_dense)
