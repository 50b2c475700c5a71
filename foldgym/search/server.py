"""An index over HTTP, in the protocol that Search-R1 made common.

    POST /retrieve   {"queries": ["..."], "topk": 3, "return_scores": true}
                     {"query": "...", "topk": 3, "return_scores": true}
        -> {"result": [[{"document": {"id", "contents", "title", "text"}, "score"}, ...], ...]}
    GET  /documents/ID  -> one document, or 404
    GET  /health        -> {"status": "ok", "documents": 21015324}

One list of hits for each query; without `return_scores` a hit is the bare document. What is not
understood is answered with 400 and {"error": "one line"}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

from foldgym.console import note
from foldgym.errors import FoldgymError, UserError
from foldgym.listening import Handler, Listening, Refused
from foldgym.search.base import Document, Index
from foldgym.types import Json

TOPK = 3
MOST_BYTES = 16 << 20
MOST_TOPK = 1000


def retrieve(index: Index, request: object, topk: int = TOPK) -> Json:
    """The answer to one request body. Raises `Refused` for what is no request."""
    if not isinstance(request, Mapping):
        raise Refused(f"the body must be a JSON object, not {type(request).__name__}")
    table = cast("Mapping[str, Any]", request)
    queries, k = _queries(table), table.get("topk")
    k = topk if k is None else k
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= MOST_TOPK:
        raise Refused(f"topk must be a whole number from 1 to {MOST_TOPK}, not {k!r:.40}")
    scores = table.get("return_scores", False)
    if not isinstance(scores, bool):
        raise Refused(f"return_scores must be true or false, not {scores!r:.40}")
    result: list[list[Json]] = []
    for hits in index.search(queries, k):
        documents = [index.document(hit.id) for hit in hits]
        tables = [_table(each) for each in documents if each is not None]
        pairs = zip(tables, hits, strict=True)
        result.append(
            [{"document": table, "score": hit.score} for table, hit in pairs] if scores else tables
        )
    return {"result": result}


def _queries(table: Mapping[str, Any]) -> list[str]:
    named = [name for name in ("queries", "query") if table.get(name) is not None]
    if len(named) != 1:
        raise Refused('give "queries", a list of texts, or "query", one text')
    given = table[named[0]]
    if named == ["query"] and isinstance(given, str):
        return [given]
    found: object = given
    if not isinstance(found, list) or not all(isinstance(query, str) for query in given):
        kind = "a list of texts" if named == ["queries"] else "a text"
        raise Refused(f"{named[0]} must be {kind}, not {given!r:.80}")
    return given


def _table(document: Document) -> Json:
    return {
        "id": document.id,
        "contents": document.contents,
        "title": document.title,
        "text": document.text,
    }


class Server(Listening):
    """Answers on a thread for each connection, until closed.

        with Server(index, port=0) as server:
            requests.post(server.url, json={"query": "..."})

    Args:
        index: what is searched; it stays the caller's to close
        host: the address to listen on; 127.0.0.1 is heard on this machine only
        port: 0 for any free one; `url` says which
        topk: hits for a request that does not say how many
    """

    def __init__(
        self, index: Index, host: str = "127.0.0.1", port: int = 8000, topk: int = TOPK
    ) -> None:
        if not 1 <= topk <= MOST_TOPK:
            raise UserError(f"topk must be from 1 to {MOST_TOPK}, not {topk}")
        super().__init__(type("Handler", (_Handler,), {"index": index, "topk": topk}), host, port)

    @property
    def url(self) -> str:
        """Where searches go."""
        return f"{self.address}/retrieve"


class _Handler(Handler):
    index: Index
    topk: int

    def post(self) -> None:
        """A search."""
        self._answer(self._post)

    def get(self) -> None:
        """A document, or how the server is."""
        self._answer(self._get)

    def _post(self) -> Json:
        body = self.body(MOST_BYTES)
        if self.path.rstrip("/") != "/retrieve":
            raise Refused(f"there is no {self.path}; POST /retrieve searches", HTTPStatus.NOT_FOUND)
        try:
            request = json.loads(body)
        except (ValueError, RecursionError) as problem:
            raise Refused(f"the body is no JSON: {problem}") from None
        return retrieve(self.index, request, self.topk)

    def _get(self) -> Json:
        if self.path == "/health":
            return {"status": "ok", "documents": len(self.index)}
        start = "/documents/"
        if not self.path.startswith(start):
            raise Refused(f"there is no {self.path}; POST /retrieve searches", HTTPStatus.NOT_FOUND)
        id = unquote(self.path.removeprefix(start))
        document = self.index.document(id)
        if document is None:
            raise Refused(f"there is no document {id!r}", HTTPStatus.NOT_FOUND)
        return _table(document)

    def _answer(self, work: Any) -> None:
        try:
            status, table = HTTPStatus.OK, work()
        except Refused as problem:
            status, table = problem.status, {"error": " ".join(str(problem).split())}
        except FoldgymError as problem:  # such as a search server behind this one that is down
            status, table = HTTPStatus.BAD_GATEWAY, {"error": " ".join(str(problem).split())}
        except Exception as problem:
            note(f"{self.path}: {type(problem).__name__}: {problem}")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            table = {"error": f"{type(problem).__name__}; the server's log says more"}
        self.reply(status, json.dumps(table).encode(), "application/json")
