"""Small servers that speak the REST of OpenSearch and Qdrant, over documents in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import encoding
import numpy as np

from foldgym.search import Bm25, Document

Route = Callable[[str, str, bytes, Any], tuple[int, Any]]


@contextmanager
def serving(route: Route) -> Iterator[str]:
    """The address of a server that answers with `route(method, path, body, headers)`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, table = route(self.command, self.path, body, self.headers)
            data = table if isinstance(table, bytes) else json.dumps(table).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class FakeOpenSearch:
    """An index "wiki" with the fields title and text, for the user "ada", password "p@ss"."""

    def __init__(self, documents: list[Document]) -> None:
        self._index, self._documents = Bm25.of(documents), {each.id: each for each in documents}
        self.bodies: list[bytes] = []

    def __call__(self, method: str, path: str, body: bytes, headers: Any) -> tuple[int, Any]:
        self.bodies.append(body)
        if headers["Authorization"] != "Basic YWRhOnBAc3M=":  # ada:p@ss
            return 401, b"Unauthorized"
        if (method, path) == ("POST", "/_msearch"):
            assert headers["Content-Type"] == "application/x-ndjson"
            assert body.endswith(b"\n")
            rows = [json.loads(line) for line in body.splitlines()]
            responses = [
                self._search(head, asked) for head, asked in zip(rows[::2], rows[1::2], strict=True)
            ]
            return 200, {"took": 3, "responses": responses}
        if (method, path) == ("GET", "/wiki/_count"):
            shards = {"total": 1, "successful": 1, "skipped": 0, "failed": 0}
            return 200, {"count": len(self._documents), "_shards": shards}
        start = "/wiki/_doc/"
        if method == "GET" and path.startswith(start):
            found = self._documents.get(path.removeprefix(start).replace("%2F", "/"))
            if found is None:
                return 404, {"_index": "wiki", "_id": path, "found": False}
            return 200, {**self._hit(found), "found": True}
        return 405, {"error": f"Incorrect HTTP method for uri [{path}]", "status": 405}

    def _search(self, head: Any, asked: Any) -> Any:
        if head != {"index": "wiki"}:
            why = {"type": "index_not_found_exception", "reason": f"no such index {head}"}
            return {"error": {"root_cause": [why], **why}, "status": 404}
        (hits,) = self._index.search([asked["query"]["multi_match"]["query"]], asked["size"])
        found = [{**self._hit(self._documents[hit.id]), "_score": hit.score} for hit in hits]
        total = {"value": len(found), "relation": "eq"}
        return {
            "took": 1,
            "timed_out": False,
            "status": 200,
            "hits": {"total": total, "hits": found},
        }

    def _hit(self, document: Document) -> Any:
        if document.title == "Contents":
            source = {"contents": document.text}
        else:
            source = {"title": document.title, "text": document.text, "more": [1]}
        return {"_index": "wiki", "_id": document.id, "_source": source}


class FakeQdrant:
    """A collection "wiki" of named vectors "text"; a payload holds the id as "docid"."""

    def __init__(self, documents: list[Document]) -> None:
        self._documents = documents
        self._vectors = _units([each.contents for each in documents])
        self.keys: list[str | None] = []

    def __call__(self, method: str, path: str, body: bytes, headers: Any) -> tuple[int, Any]:
        self.keys.append(headers["api-key"])
        asked = json.loads(body)
        points = "/collections/wiki/points"
        if (method, path) == ("POST", f"{points}/query/batch"):
            result: Any = [self._query(search) for search in asked["searches"]]
        elif (method, path) == ("POST", f"{points}/count"):
            result = {"count": len(self._documents)}
        elif (method, path) == ("POST", f"{points}/scroll"):
            (wanted,) = asked["filter"]["must"]
            result = {
                "points": [
                    self._point(number)
                    for number, each in enumerate(self._documents)
                    if wanted == {"key": "docid", "match": {"value": each.id}}
                ][: asked["limit"]],
                "next_page_offset": None,
            }
        elif (method, path) == ("POST", points):
            bad = [each for each in asked["ids"] if not isinstance(each, int)]
            if bad:
                said = f"Format error in JSON body: value {bad[0]} is not a valid point ID"
                return 400, {"status": {"error": said}, "time": 0.0}
            result = [self._point(each) for each in asked["ids"] if each < len(self._documents)]
        else:
            said = "Not found: Collection `x` doesn't exist!"
            return 404, {"status": {"error": said}, "time": 0.0}
        return 200, {"result": result, "status": "ok", "time": 0.001}

    def _query(self, search: Any) -> Any:
        assert search["using"] == "text"
        near = self._vectors @ np.array(search["query"])
        best = sorted(range(len(near)), key=lambda number: (-near[number], number))
        return {
            "points": [
                {**self._point(number), "version": 0, "score": float(near[number])}
                for number in best[: search["limit"]]
            ]
        }

    def _point(self, number: int) -> Any:
        found = self._documents[number]
        payload = {"docid": found.id, "title": found.title, "text": found.text}
        return {"id": number, "payload": payload, "vector": None}


def _units(texts: list[str]) -> Any:
    found = encoding.pairs(texts)
    return found / np.linalg.norm(found, axis=1, keepdims=True)
