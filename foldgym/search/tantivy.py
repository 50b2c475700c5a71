"""The engine for large corpora: tantivy, a search library in Rust (extra [search]).

BM25 with its own constants (k1 = 1.2, b = 0.75) over its own English analysis: words of letters and
digits, lower case, Lucene's stop words removed, Porter's second stemmer. Not Lucene's ranking.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foldgym.errors import DataError, UserError
from foldgym.search.base import Document, Hit
from foldgym.search.documents import Documents
from foldgym.search.engines import Engine
from foldgym.search.extras import encodable, installed, optional
from foldgym.search.ties import best

FOLDER = "tantivy"
LONGEST = 255


def _tantivy() -> Any:
    return optional("tantivy", "the search engine 'tantivy'", "search")


def _analyzer(tantivy: Any) -> Any:
    part = tantivy.Filter
    return (
        tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
        .filter(part.remove_long(LONGEST))
        .filter(part.lowercase())
        .filter(part.stopword("english"))
        .filter(part.stemmer("english"))
        .build()
    )


class Builder:
    """Indexes in the background on `threads` threads (0: as many as tantivy likes).

    `heap` is the memory in megabytes that all of them may fill before they write to disk.
    """

    def __init__(self, folder: Path, threads: int = 0, heap: int = 512) -> None:
        if threads < 0 or heap < 16 * max(threads, 1):
            raise UserError(
                f"tantivy takes threads of at least 0 and a heap of at least 16 MB for each, "
                f"not {threads} and {heap}"
            )
        self._tantivy = tantivy = _tantivy()
        self.version = installed("tantivy")
        schema = tantivy.SchemaBuilder()
        schema.add_text_field("text", tokenizer_name="english", index_option="freq")
        schema.add_integer_field("number", fast=True)
        (folder / FOLDER).mkdir()
        index = tantivy.Index(schema.build(), path=str(folder / FOLDER))
        index.register_tokenizer("english", _analyzer(tantivy))
        self._writer = index.writer(heap_size=heap * 1_000_000, num_threads=threads)
        self._count = 0

    def add(self, document: Document) -> None:
        """Hand one document to the threads."""
        text = encodable(document.contents)
        try:
            self._writer.add_document(self._tantivy.Document(text=text, number=self._count))
        except ValueError as problem:  # one of its threads died; a full disk is the usual reason
            raise DataError(f"tantivy cannot go on: {problem}") from None
        self._count += 1

    def finish(self) -> dict[str, Any]:
        """Wait until everything is on disk."""
        try:
            self._writer.commit()
            self._writer.wait_merging_threads()
        except ValueError as problem:
            raise DataError(f"tantivy cannot finish: {problem}") from None
        return {}


class Tantivy:
    """An `Index` over what `Builder` wrote."""

    def __init__(self, folder: Path, documents: Documents) -> None:
        self._tantivy, self._documents = _tantivy(), documents
        self._index = self._tantivy.Index.open(str(folder / FOLDER))
        self._index.config_reader("Manual", 0)
        self._analyzer = _analyzer(self._tantivy)
        self._searcher = self._index.searcher()

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` of the documents that hold a term of the query; ties in corpus order."""
        return [self._search(query, k) for query in queries]

    def _search(self, query: str, k: int) -> list[Hit]:
        asked = self._query(query)
        if asked is None:
            return []
        searcher = self._searcher

        def ask(limit: int) -> list[tuple[float, int]]:
            hits = searcher.search(asked, limit, count=False).hits
            numbers = searcher.fast_field_values("number", [address for _, address in hits])
            return [(score, number) for (score, _), number in zip(hits, numbers, strict=True)]

        # ties would come in the order of segments, which differs from build to build
        found = best(ask, k, len(self))
        return [Hit(self._documents[number].id, score) for score, number in found]

    def _query(self, query: str) -> Any:
        make, schema = self._tantivy.Query, self._index.schema
        clauses: list[tuple[Any, Any]] = []
        for term, times in Counter(self._analyzer.analyze(encodable(query))).items():
            clause = make.term_query(schema, "text", term, "freq")
            clause = clause if times == 1 else make.boost_query(clause, float(times))
            clauses.append((self._tantivy.Occur.Should, clause))
        return make.boolean_query(clauses) if clauses else None

    def document(self, id: str) -> Document | None:
        """The document with this id."""
        return self._documents.find(id)

    def __len__(self) -> int:
        return len(self._documents)

    def close(self) -> None:
        """Give the files back."""
        self._documents.close()


def open_tantivy(folder: Path, documents: Documents, recorded: dict[str, Any]) -> Tantivy:
    """What `Builder` wrote."""
    del recorded
    return Tantivy(folder, documents)


ENGINE = Engine(Builder, open_tantivy)
