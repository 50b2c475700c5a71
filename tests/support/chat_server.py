"""A chat endpoint on this machine: a function answers, and every request is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Table = dict[str, Any]


@dataclass
class Endpoint:
    """`answer(request)` gives a status, a JSON object and headers."""

    url: str
    requests: list[Table] = field(default_factory=list[Table])
    keys: list[str] = field(default_factory=list[str])


def said(text: str | None = "", *calls: tuple[str, str, str], **more: Any) -> Table:
    """A whole answer: text and calls (name, arguments, id); `more` goes to the message."""
    message: Table = {"role": "assistant", "content": text, **more}
    if calls:
        message["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for name, arguments, id in calls
        ]
    finish = "tool_calls" if calls else "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


Answer = Callable[[Table], "Table | tuple[int, Table, Mapping[str, str]]"]


@contextmanager
def endpoint(answer: Answer) -> Generator[Endpoint]:
    """Listens while the block runs."""
    made = Endpoint("")
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                made.requests.append(body)
                made.keys.append(self.headers.get("Authorization", ""))
                found = answer(body)
            status, table, headers = found if isinstance(found, tuple) else (200, found, {})
            data = json.dumps(table).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
