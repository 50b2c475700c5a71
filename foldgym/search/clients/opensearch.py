"""A client for OpenSearch and Elasticsearch: `_msearch` for queries, `_doc` for documents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from foldgym.errors import DataError, UserError
from foldgym.search.base import Document, Hit
from foldgym.search.clients.http import SECONDS, Http, Refused, in_path, part
from foldgym.search.clients.remembered import Remembered
from foldgym.search.corpora import Fields, split_contents
from foldgym.types import Json


class OpenSearch:
    """An `Index` behind "opensearch+http://user:password@host:9200/index".

    Args:
        url: the address of the index, without "opensearch+"
        title: the field of the title; left out of the query if empty
        text: the field of the text; a document without it is read from `contents`, as in wiki-18
        seconds: how long a request may take
    """

    def __init__(
        self, url: str, title: str = "title", text: str = "text", seconds: float = SECONDS
    ) -> None:
        self._http = Http(url, seconds)
        name = self._http.path.strip("/")
        if not name or "/" in name or not text:
            raise UserError(
                f"{self._http.shown}{self._http.path}: write it as http://host:9200/index"
            )
        self._name, self._fields = name, Fields(title=title, text=text)
        self._shown = f"{self._http.shown}/{name}"
        self._remembered = Remembered()

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """What the server finds, all queries in one request."""
        if k < 1 or not queries:
            return [[] for _ in queries]
        rows: list[Json] = []
        for query in queries:
            rows += [{"index": self._name}, {"query": self._match(query), "size": k}]
        answer = self._http.post_lines("/_msearch", rows)
        responses = cast("list[Any]", part(answer, "responses", of=self._shown))
        if len(responses) != len(queries):
            raise DataError(f"{self._shown} answers {len(responses)} of {len(queries)} queries")
        return [self._hits(response) for response in responses]

    def _match(self, query: str) -> Json:
        names = [name for name in (self._fields.title, self._fields.text) if name]
        names.append(self._fields.contents)
        return {"multi_match": {"query": query, "fields": names, "type": "most_fields"}}

    def _hits(self, response: Any) -> list[Hit]:
        if "error" in response:
            said = " ".join(str(response["error"]).split())[:200]
            raise DataError(f"{self._shown} cannot answer: {said}")
        found: list[Hit] = []
        for hit in part(response, "hits", "hits", of=self._shown):
            document = self._document(hit)
            self._remembered.add(document)
            found.append(Hit(document.id, float(part(hit, "_score", of=self._shown))))
        return found

    def _document(self, hit: Any) -> Document:
        id = str(part(hit, "_id", of=self._shown))
        source = cast("dict[str, Any]", part(hit, "_source", of=self._shown))
        title, text = source.get(self._fields.title) or "", source.get(self._fields.text)
        if text is None and self._fields.contents in source:
            title, text = split_contents(source[self._fields.contents])
        if not isinstance(text, str) or not isinstance(title, str):
            raise DataError(
                f"{self._shown}: document {id!r} has no text in the field {self._fields.text!r}; "
                f"there are {', '.join(source)}"
            )
        return Document(id, title, text)

    def document(self, id: str) -> Document | None:
        """The document with this id."""
        found = self._remembered.find(id)
        if found is not None:
            return found
        try:
            return self._document(self._http.get(f"/{self._name}/_doc/{in_path(id)}"))
        except Refused as problem:
            if problem.status == 404:
                return None
            raise

    def __len__(self) -> int:
        return int(part(self._http.get(f"/{self._name}/_count"), "count", of=self._shown))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
