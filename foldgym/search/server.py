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
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self, cast
from urllib.parse import unquote

from foldgym.console import note
from foldgym.errors import DataError, FoldgymError, UserError
from foldgym.search.base import Document, Index
from foldgym.types import Json

TOPK = 3
MOST_BYTES = 16 << 20
MOST_TOPK = 1000


class Bad(Exception):
    """A request that cannot be answered, and the status that says so."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


def retrieve(index: Index, request: object, topk: int = TOPK) -> Json:
    """The answer to one request body. Raises `Bad` for what is no request."""
    if not isinstance(request, Mapping):
        raise Bad(f"the body must be a JSON object, not {type(request).__name__}")
    table = cast("Mapping[str, Any]", request)
    queries, k = _queries(table), table.get("topk")
    k = topk if k is None else k
    if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= MOST_TOPK:
        raise Bad(f"topk must be a whole number from 1 to {MOST_TOPK}, not {k!r:.40}")
    scores = table.get("return_scores", False)
    if not isinstance(scores, bool):
        raise Bad(f"return_scores must be true or false, not {scores!r:.40}")
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
        raise Bad('give "queries", a list of texts, or "query", one text')
    given = table[named[0]]
    if named == ["query"] and isinstance(given, str):
        return [given]
    found: object = given
    if not isinstance(found, list) or not all(isinstance(query, str) for query in given):
        kind = "a list of texts" if named == ["queries"] else "a text"
        raise Bad(f"{named[0]} must be {kind}, not {given!r:.80}")
    return given


def _table(document: Document) -> Json:
    return {
        "id": document.id,
        "contents": document.contents,
        "title": document.title,
        "text": document.text,
    }


class Server:
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
        handler = type("Handler", (_Handler,), {"index": index, "topk": topk})
        try:
            self._server = _Listener((host, port), handler)
        except (OSError, OverflowError) as problem:
            why = getattr(problem, "strerror", None) or problem
            raise DataError(f"cannot listen on {host}:{port}: {why}") from None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where searches go."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}/retrieve"

    def run(self) -> None:
        """Answer until interrupted."""
        try:
            self._server.serve_forever(poll_interval=0.2)
        finally:
            self._server.server_close()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop answering; safe to call twice."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._thread = None
        self._server.server_close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's error."""


class _Handler(BaseHTTPRequestHandler):
    index: Index
    topk: int
    protocol_version = "HTTP/1.1"
    timeout = 60.0  # an idle connection gives its thread back
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self._answer(self._post)

    def do_GET(self) -> None:
        self._answer(self._get)

    def _post(self) -> Json:
        body = self._body()  # read in any case: the next request of the connection comes after it
        if self.path.rstrip("/") != "/retrieve":
            raise Bad(f"there is no {self.path}; POST /retrieve searches", HTTPStatus.NOT_FOUND)
        try:
            request = json.loads(body)
        except (ValueError, RecursionError) as problem:
            raise Bad(f"the body is no JSON: {problem}") from None
        return retrieve(self.index, request, self.topk)

    def _get(self) -> Json:
        if self.path == "/health":
            return {"status": "ok", "documents": len(self.index)}
        start = "/documents/"
        if not self.path.startswith(start):
            raise Bad(f"there is no {self.path}; POST /retrieve searches", HTTPStatus.NOT_FOUND)
        id = unquote(self.path.removeprefix(start))
        document = self.index.document(id)
        if document is None:
            raise Bad(f"there is no document {id!r}", HTTPStatus.NOT_FOUND)
        return _table(document)

    def _body(self) -> bytes:
        try:
            size = int(self.headers.get("Content-Length", ""))
        except ValueError:
            size = -1
        if not 0 <= size <= MOST_BYTES:
            self.close_connection = True  # what follows cannot be told from a request
            if size < 0:
                raise Bad("a Content-Length is needed", HTTPStatus.LENGTH_REQUIRED)
            message = f"the body has {size} bytes; at most {MOST_BYTES} are read"
            raise Bad(message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return self.rfile.read(size)

    def _answer(self, work: Any) -> None:
        try:
            status, table = HTTPStatus.OK, work()
        except Bad as problem:
            status, table = problem.status, {"error": " ".join(str(problem).split())}
        except FoldgymError as problem:  # such as a search server behind this one that is down
            status, table = HTTPStatus.BAD_GATEWAY, {"error": " ".join(str(problem).split())}
        except Exception as problem:
            note(f"{self.path}: {type(problem).__name__}: {problem}")
            status = HTTPStatus.INTERNAL_SERVER_ERROR
            table = {"error": f"{type(problem).__name__}; the server's log says more"}
        data = json.dumps(table).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for every search would bury what matters."""
