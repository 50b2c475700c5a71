"""JSON over HTTP with what Python has: connections kept open, errors in one line."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from foldgym.errors import DataError, UserError
from foldgym.types import Json

SECONDS = 30.0


class Refused(DataError):
    """The server answered with a status that is no success."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Http:
    """One server. Each thread has its own connection; a name and password in the address are sent
    as basic authentication.
    """

    def __init__(
        self, address: str, seconds: float = SECONDS, headers: dict[str, str] | None = None
    ) -> None:
        parts = _split(address)
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self.path = parts.path.rstrip("/")
        self.shown = f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        self._headers = {"Accept": "application/json", **(headers or {})}
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            coded = base64.b64encode(pair.encode()).decode()
            self._headers["Authorization"] = f"Basic {coded}"
        self._seconds = seconds
        self._local = threading.local()
        self._lock = threading.Lock()
        self._open: list[http.client.HTTPConnection] = []

    def get(self, path: str) -> Json:
        """The JSON at a path."""
        return self._ask("GET", path, None, "")

    def post(self, path: str, table: Json) -> Json:
        """The JSON that answers a JSON body."""
        return self._ask("POST", path, json.dumps(table).encode(), "application/json")

    def post_lines(self, path: str, rows: list[Json]) -> Json:
        """The JSON that answers a body of JSON lines."""
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
        return self._ask("POST", path, body, "application/x-ndjson")

    def close(self) -> None:
        """Close the connections of all threads; the next call opens new ones."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    def _ask(self, method: str, path: str, body: bytes | None, kind: str) -> Json:
        headers = {**self._headers, **({"Content-Type": kind} if kind else {})}
        try:
            status, data = self._send(method, path, body, headers)
        except (http.client.HTTPException, OSError) as problem:
            self._connection().close()
            why = getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
            raise DataError(f"cannot reach {self.shown}{path}: {why}") from None
        text = data.decode("utf-8", "replace")
        if not 200 <= status < 300:
            said = " ".join(text.split())[:200]
            raise Refused(f"{self.shown}{path} answers {status}: {said}", status)
        try:
            return json.loads(text)
        except ValueError:
            said = " ".join(text.split())[:80]
            raise DataError(f"{self.shown}{path} answers no JSON: {said!r}") from None

    def _send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> tuple[int, bytes]:
        connection = self._connection()
        fresh = connection.sock is None
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if fresh:
                raise
        connection.close()  # the server had closed a connection that was kept; searches may repeat
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if found is None:
            make = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            found = make(self._host or "", self._port, timeout=self._seconds)
            self._local.connection = found
            with self._lock:
                self._open.append(found)
        return found


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as problem:
        raise UserError(f"{address!r} is no address: {problem}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise UserError(f"{address!r} is no address; write it as http://host:port/path")
    return parts


def in_path(text: str) -> str:
    """Text as one part of a path."""
    return quote(text, safe="")


def part(table: Any, *names: str | int, of: str) -> Any:
    """`table[names[0]][names[1]]...`; raises `DataError` where the answer has another shape."""
    found = table
    for name in names:
        try:
            found = found[name]
        except (KeyError, IndexError, TypeError):
            trail = ".".join(map(str, names))
            raise DataError(f"{of} answers without {trail!r}: {str(table)[:120]}") from None
    return found
