"""A served policy over HTTP: one connection a thread, all requests in one event loop.

A client that goes away takes its request with it: nothing more is sampled for it. A server that
closes finishes the answers under way, for 30 seconds at most, and begins no more.
"""

from __future__ import annotations

import asyncio
import json
import queue
import select
import socket
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote, urlsplit

from foldgym.agents.engines.serve import Emit, NoModel, Service, TooLong
from foldgym.agents.engines.serve_requests import parse_body, read_chat, read_completion
from foldgym.agents.tasks import cancelled
from foldgym.console import note
from foldgym.errors import EngineError, UserError
from foldgym.listening import Handler, Listening, Refused
from foldgym.types import Json

MOST_BYTES = 64 << 20
GRACE = 30.0  # seconds that a closing server waits for answers under way
_LOOK = 0.25  # seconds between looks at whether the client is still there


class PolicyServer(Listening):
    """A service on a port of this machine.

        with PolicyServer(service) as server:
            openai.OpenAI(base_url=f"{server.url}", api_key="none")

    Closing it lets answers under way finish, for 30 seconds at most.
    """

    def __init__(self, service: Service, host: str = "127.0.0.1", port: int = 0) -> None:
        handler: Any = type("Handler", (_Handler,), {"service": service})
        super().__init__(handler, host, port)
        self._loop = handler.loop = asyncio.new_event_loop()
        self._worker = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._worker.start()

    @property
    def url(self) -> str:
        """The base URL for clients."""
        return f"{self.address}/v1"

    def run(self) -> None:
        """Answer until interrupted, then finish what is under way."""
        try:
            super().run()
        finally:
            self._end()

    def close(self) -> None:
        """Stop answering; safe to call twice."""
        super().close()
        self._end()

    def _end(self) -> None:
        if self._loop.is_closed():
            return
        try:
            if left := self.drain(GRACE):
                note(f"{left} answers were not finished within {GRACE:g} seconds")
        finally:  # also when it is told to stop a second time
            self._abandon()

    def _abandon(self) -> None:
        tasks = cancelled({*asyncio.all_tasks(self._loop)})
        asyncio.run_coroutine_threadsafe(tasks, self._loop).result()
        self.drain(1.0)  # clients are told
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._worker.join()
        self._loop.close()


class _Handler(Handler):
    service: Service
    loop: asyncio.AbstractEventLoop

    def get(self) -> None:
        """What there is."""
        path = self._place()
        models = self.service.models()
        if path == "/v1/models":
            self._json(HTTPStatus.OK, models)
        elif path == f"/v1/models/{self.service.name}":
            self._json(HTTPStatus.OK, models["data"][0])
        elif path == "/health":
            self._json(HTTPStatus.OK, {"status": "ok", "model": self.service.name})
        else:
            self._refuse(Refused(f"there is no {self.path}", HTTPStatus.NOT_FOUND))

    def post(self) -> None:
        """A completion."""
        with self.answering():
            try:
                self._post()
            except OSError:  # the client went away
                self.close_connection = True
            except Exception as problem:
                self._refuse(problem)

    def _post(self) -> None:
        body = self.body(MOST_BYTES)
        if self.closing:
            self.close_connection = True
            raise Refused("the server is closing", HTTPStatus.SERVICE_UNAVAILABLE)
        path = self._place()
        if path == "/v1/chat/completions":
            asked, answer = read_chat(parse_body(body)), self.service.chat
        elif path == "/v1/completions":
            asked, answer = read_completion(parse_body(body)), self.service.complete
        else:
            raise Refused(f"there is no {self.path}", HTTPStatus.NOT_FOUND)
        if asked.stream:
            self._stream(lambda emit: answer(asked, emit))
        else:
            self._json(HTTPStatus.OK, self._wait(answer(asked)))

    def _place(self) -> str:
        return unquote(urlsplit(self.path).path).rstrip("/")

    def _wait(self, job: Coroutine[Any, Any, Json]) -> Json:
        events: queue.SimpleQueue[Json] = queue.SimpleQueue()
        future = self._begun(job, events)
        self._next(events, future)
        return future.result()

    def _begun(
        self, job: Coroutine[Any, Any, Json], events: queue.SimpleQueue[Json]
    ) -> Future[Json]:
        """A job of the event loop, with None as the last event."""
        future = asyncio.run_coroutine_threadsafe(job, self.loop)
        future.add_done_callback(lambda _: events.put(None))
        return future

    def _next(self, events: queue.SimpleQueue[Json], future: Future[Json]) -> Json:
        """The next event. Raises `ConnectionError` and ends the job if the client went away."""
        while True:
            try:
                return events.get(timeout=_LOOK)
            except queue.Empty:
                if self._gone():
                    future.cancel()
                    raise ConnectionError("the client went away") from None

    def _gone(self) -> bool:
        """Whether nothing more can come from the client; a request that waits is not read."""
        poll = select.poll()
        poll.register(self.connection, select.POLLIN)
        return bool(poll.poll(0)) and not self.connection.recv(1, socket.MSG_PEEK)

    def _stream(self, job: Callable[[Emit], Coroutine[Any, Any, Json]]) -> None:
        """Server-sent events. Nothing is sent before the first, so that a refusal has a status."""
        events: queue.SimpleQueue[Json] = queue.SimpleQueue()
        future = self._begun(job(events.put), events)
        first = self._next(events, future)
        if first is None:
            future.result()
        try:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Cache-Control", "no-store")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            event = first
            while event is not None:
                self._event(json.dumps(event))
                event = self._next(events, future)
            problem = CancelledError() if future.cancelled() else future.exception()
            self._event("[DONE]" if problem is None else json.dumps(_error(problem)[1]))
        except OSError:  # the client went away
            future.cancel()

    def _event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def _refuse(self, problem: BaseException) -> None:
        status, table = _error(problem)
        if status == HTTPStatus.INTERNAL_SERVER_ERROR:
            note(f"{self.path}: {type(problem).__name__}: {problem}")
        self._json(status, table)

    def _json(self, status: int, table: Json) -> None:
        self.reply(status, json.dumps(table).encode(), "application/json")


def _error(problem: BaseException) -> tuple[int, Json]:
    """The status and body for what went wrong."""
    text = " ".join(str(problem).split())
    status, kind, code = HTTPStatus.INTERNAL_SERVER_ERROR, "server_error", None
    if isinstance(problem, Refused):
        status, kind = problem.status, "invalid_request_error"
        code = "context_length_exceeded" if isinstance(problem, TooLong) else None
        code = "model_not_found" if isinstance(problem, NoModel) else code
    elif isinstance(problem, CancelledError):
        status, text = HTTPStatus.SERVICE_UNAVAILABLE, "the server is closing"
    elif isinstance(problem, UserError):
        status, kind = HTTPStatus.BAD_REQUEST, "invalid_request_error"
    elif not isinstance(problem, EngineError):
        text = f"{type(problem).__name__}; the server's log says more"
    param = text.partition(":")[0] if kind == "invalid_request_error" and ": " in text else None
    return status, {"error": {"message": text, "type": kind, "param": param, "code": code}}
