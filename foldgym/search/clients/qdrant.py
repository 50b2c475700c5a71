"""A client for Qdrant: the nearest points of a collection, by vectors that we make here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from foldgym.errors import DataError, UserError
from foldgym.search.base import Document, Hit
from foldgym.search.clients.http import SECONDS, Http, Refused, in_path, part
from foldgym.search.clients.remembered import Remembered
from foldgym.search.corpora import Fields, split_contents
from foldgym.search.encoders import Encoder, load_encoder, vectors
from foldgym.types import Json


class Qdrant:
    """An `Index` behind "qdrant+http://host:6333/collection".

    Args:
        url: the address of the collection, without "qdrant+"
        model: a sentence-transformers model; the one that made the collection's vectors
        encoder: instead of a model, a function from texts to vectors, or where one is
        query_prefix: put before every query, such as "query: " for E5
        vector: the name of the vector, where points have several
        id: the field of the payload that holds a document's id; empty for the point's own
        title: the field of the title
        text: the field of the text; a payload without it is read from `contents`, as in wiki-18
        api_key: sent with every request
        device: where the model computes
        seconds: how long a request may take
    """

    def __init__(
        self,
        url: str,
        model: str = "",
        encoder: str | Encoder = "",
        query_prefix: str = "",
        vector: str = "",
        id: str = "",
        title: str = "title",
        text: str = "text",
        api_key: str = "",
        device: str = "",
        seconds: float = SECONDS,
    ) -> None:
        self._http = Http(url, seconds, {"api-key": api_key} if api_key else None)
        name = self._http.path.strip("/")
        if not name or "/" in name or not text:
            raise UserError(
                f"{self._http.shown}{self._http.path}: write it as http://host:6333/collection"
            )
        self._encode = load_encoder(model, encoder, device)
        self._prefix, self._vector = query_prefix, vector
        self._fields = Fields(id=id, title=title, text=text)
        self._path = f"/collections/{in_path(name)}/points"
        self._shown = f"{self._http.shown}/collections/{name}"
        self._remembered = Remembered()

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The nearest points, all queries in one request."""
        if k < 1 or not queries:
            return [[] for _ in queries]
        named = {"using": self._vector} if self._vector else {}
        asked = vectors(self._encode, [self._prefix + query for query in queries])
        searches = [
            {"query": row.tolist(), "limit": k, "with_payload": True, **named} for row in asked
        ]
        answer = self._http.post(f"{self._path}/query/batch", {"searches": searches})
        results = cast("list[Any]", part(answer, "result", of=self._shown))
        if len(results) != len(queries):
            raise DataError(f"{self._shown} answers {len(results)} of {len(queries)} queries")
        return [self._hits(result) for result in results]

    def _hits(self, result: Any) -> list[Hit]:
        found: list[Hit] = []
        for point in part(result, "points", of=self._shown):
            document = self._document(point)
            self._remembered.add(document)
            found.append(Hit(document.id, float(part(point, "score", of=self._shown))))
        return found

    def _document(self, point: Any) -> Document:
        payload = cast("dict[str, Any]", point.get("payload") or {})
        own = payload.get(self._fields.id) if self._fields.id else None
        id = str(part(point, "id", of=self._shown) if own is None else own)
        title, text = payload.get(self._fields.title) or "", payload.get(self._fields.text)
        if text is None and self._fields.contents in payload:
            title, text = split_contents(payload[self._fields.contents])
        if not isinstance(text, str) or not isinstance(title, str):
            raise DataError(
                f"{self._shown}: point {id!r} has no text in the field {self._fields.text!r}; "
                f"there are {', '.join(payload) or 'none'}"
            )
        return Document(id, title, text)

    def document(self, id: str) -> Document | None:
        """The document with this id."""
        found = self._remembered.find(id)
        if found is not None:
            return found
        points = self._by_field(id) if self._fields.id else self._by_point(id)
        return self._document(points[0]) if points else None

    def _by_field(self, id: str) -> list[Any]:
        wanted: Json = {"must": [{"key": self._fields.id, "match": {"value": id}}]}
        asked = {"filter": wanted, "limit": 1, "with_payload": True}
        answer = self._http.post(f"{self._path}/scroll", asked)
        return part(answer, "result", "points", of=self._shown)

    def _by_point(self, id: str) -> list[Any]:
        asked: Json = {"ids": [int(id) if id.isdecimal() else id], "with_payload": True}
        try:
            return part(self._http.post(self._path, asked), "result", of=self._shown)
        except Refused as problem:
            if problem.status == 400:  # neither a number nor a UUID, so no point can have it
                return []
            raise

    def __len__(self) -> int:
        answer = self._http.post(f"{self._path}/count", {"exact": True})
        return int(part(answer, "result", "count", of=self._shown))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
