"""A client for servers that speak Search-R1's `/retrieve`, ours among them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, cast

from foldgym.errors import DataError, UnknownName
from foldgym.search.base import Document, Hit
from foldgym.search.clients.http import SECONDS, Http, Refused, in_path, part
from foldgym.search.clients.remembered import Remembered
from foldgym.search.corpora import split_contents

DIALECTS = ("queries", "query")


class Retrieve:
    """An `Index` behind "http://host:port/retrieve".

    `dialect` is "queries" (a list, Search-R1) or "query" (one text a request, verl and skyrl-gym).
    A server that returns bare documents gives no scores; a hit then scores 1 / rank. Only our own
    server finds a document by its id; of any other, those that were found lately are remembered.
    """

    def __init__(self, url: str, dialect: str = "queries", seconds: float = SECONDS) -> None:
        if dialect not in DIALECTS:
            raise UnknownName("dialect", dialect, DIALECTS)
        self._http = Http(url, seconds)
        self._path = self._http.path or "/retrieve"
        self._root = self._path.rpartition("/")[0]
        self._dialect, self._shown = dialect, f"{self._http.shown}{self._path}"
        self._remembered = Remembered()

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """What the server finds."""
        if k < 1 or not queries:
            return [[] for _ in queries]
        if self._dialect == "queries":
            return self._ask({"queries": list(queries)}, k, len(queries))
        return [self._ask({"query": query}, k, 1)[0] for query in queries]

    def _ask(self, asked: dict[str, Any], k: int, count: int) -> list[list[Hit]]:
        answer = self._http.post(self._path, {**asked, "topk": k, "return_scores": True})
        rows = part(answer, "result", of=self._shown)
        if not isinstance(rows, list) or len(cast("list[Any]", rows)) != count:
            raise DataError(f"{self._shown} does not answer {count} queries with {count} results")
        return [
            [self._hit(item, rank) for rank, item in enumerate(cast("list[Any]", row)[:k], 1)]
            for row in cast("list[Any]", rows)
        ]

    def _hit(self, item: Any, rank: int) -> Hit:
        scored = isinstance(item, dict) and "document" in item
        document = _document(item["document"] if scored else item, self._shown)
        self._remembered.add(document)
        score = item.get("score") if scored else None
        return Hit(document.id, float(score) if score is not None else 1.0 / rank)

    def document(self, id: str) -> Document | None:
        """The document with this id: remembered, or asked of the server if it is one of ours."""
        found = self._remembered.find(id)
        if found is not None:
            return found
        try:
            answer = self._http.get(f"{self._root}/documents/{in_path(id)}")
        except Refused as problem:
            if problem.status in (404, 405):
                return None
            raise
        return _document(answer, self._shown)

    def __len__(self) -> int:
        answer = self._http.get(f"{self._root}/health")
        return int(part(answer, "documents", of=f"{self._http.shown}{self._root}/health"))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def _document(table: Any, shown: str) -> Document:
    """A document as servers send it: contents, perhaps an id, perhaps title and text."""
    if isinstance(table, dict):
        row = cast("dict[str, Any]", table)
        if isinstance(row.get("contents"), str):
            title, text = split_contents(row["contents"])
            # without an id, equal contents are the same document
            coded = row["contents"].encode("utf-8", "surrogatepass")
            id = row.get("id", blake2b(coded, digest_size=8).hexdigest())
            return Document(str(id), title, text)
    raise DataError(f"{shown} answers with something that is no document: {str(table)[:120]}")
