"""HTTP servers of this machine: a thread for each connection, until closed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from foldgym.errors import DataError


class Refused(Exception):
    """A request that is answered with a status other than 200, and one line that says why."""

    def __init__(self, message: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(message)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """One connection; a subclass answers in `get` (which is asked for heads too) and `post`."""

    protocol_version = "HTTP/1.1"
    timeout = 60.0  # an idle connection gives its thread back
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """A request to read."""
        self.get()

    def do_HEAD(self) -> None:
        """A request for the head of an answer."""
        self.get()

    def do_POST(self) -> None:
        """A request with a body."""
        self.post()

    def get(self) -> None:
        """Answers GET and HEAD."""
        self.send_error(HTTPStatus.NOT_IMPLEMENTED)

    def post(self) -> None:
        """Answers POST."""
        self.send_error(HTTPStatus.NOT_IMPLEMENTED)

    def body(self, most: int) -> bytes:
        """The body of a request. Raises `Refused` if it is of no known length, or too long.

        Read it in any case: the next request of the connection comes after it.
        """
        try:
            size = int(self.headers.get("Content-Length", ""))
        except ValueError:
            size = -1
        if not 0 <= size <= most:
            self.close_connection = True  # what follows cannot be told from a request
            if size < 0:
                raise Refused("a Content-Length is needed", HTTPStatus.LENGTH_REQUIRED)
            message = f"the body has {size} bytes; at most {most} are read"
            raise Refused(message, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        return self.rfile.read(size)

    def reply(
        self, status: int, data: bytes, kind: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """A whole answer; `HEAD` gets its head."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @contextmanager
    def answering(self) -> Generator[None]:
        """Around an answer that a closing server should wait for."""
        server: Any = self.server
        with server.count:
            server.busy += 1
        try:
            yield
        finally:
            with server.count:
                server.busy -= 1
                server.count.notify_all()

    @property
    def closing(self) -> bool:
        """Whether the server takes no more connections, and this one should end."""
        server: Any = self.server
        return server.closing

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for every request would bury what matters."""


class Listening:
    """Listens as soon as it is made, and answers inside its `with` block or while it runs.

    Args:
        handler: what answers
        host: the address to listen on; 127.0.0.1 is heard on this machine only
        port: 0 for any free one; `address` says which

    Raises `DataError` for an address that cannot be had.
    """

    def __init__(self, handler: type[Handler], host: str, port: int) -> None:
        try:
            self._server = _Listener((host, port), handler)
        except (OSError, OverflowError) as problem:
            why = getattr(problem, "strerror", None) or problem
            raise DataError(f"cannot listen on {_place(host, port)}: {why}") from None
        self._thread: threading.Thread | None = None

    @property
    def address(self) -> str:
        """Where it is, without a slash at the end."""
        host, port = self._server.server_address[:2]
        return f"http://{_place(str(host), port)}"

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

    def drain(self, seconds: float) -> int:
        """Waits for answers under way, that long at most; returns how many are left."""
        until = time.monotonic() + seconds
        with self._server.count:
            while self._server.busy and (left := until - time.monotonic()) > 0:
                self._server.count.wait(left)
            return self._server.busy


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.count = threading.Condition()
        self.busy = 0
        self.closing = False
        super().__init__(address, handler)

    def server_close(self) -> None:
        """No more connections."""
        self.closing = True
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is nobody's error."""
