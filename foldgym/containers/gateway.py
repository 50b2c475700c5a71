"""The only door of a browser context: a proxy that answers for local sites and refuses the rest.

Chromium sends everything through it, names included: navigations, redirects, frames, workers,
fetches and web sockets. A host is either a `Site`, answered here without any port of its own, or on
the allow-list, or refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

_MOST = 20_000_000
"""Bytes of a request's body."""
_HOP = frozenset({"connection", "proxy-connection", "keep-alive", "proxy-authorization"})


@dataclass(frozen=True, slots=True)
class Request:
    """`Request("POST", "/cart?add=3", {"cookie": "id=7"}, b"size=L")`; header names are lower."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    host: str = ""

    @property
    def path(self) -> str:
        """The decoded path, without the query."""
        return unquote(urlsplit(self.target).path)


@dataclass(frozen=True, slots=True)
class Response:
    """`Response(200, "<h1>Hello</h1>")`. `headers` may hold one name several times."""

    status: int = 200
    body: bytes | str = b""
    media_type: str = "text/html; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Site: TypeAlias = Callable[[Request], Response]
"""Answers a request; called in threads, several at once. What it raises becomes a 500."""


@dataclass(frozen=True, slots=True)
class _Folder:
    root: Path

    def __call__(self, request: Request) -> Response:
        path = (self.root / request.path.lstrip("/")).resolve()
        if not path.is_relative_to(self.root) or not path.is_file():
            return Response(404, "not found", "text/plain")
        media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        if media_type.startswith("text/"):
            media_type += "; charset=utf-8"
        return Response(200, path.read_bytes(), media_type)


def folder_site(folder: str | Path) -> Site:
    """The files of a folder; nothing outside it, not even by a link.

    Sites of one folder are equal, whoever made them, so contexts of theirs can be used again.
    """
    return _Folder(Path(folder).resolve())


def host_port(entry: str, scheme: str = "http") -> tuple[str, int]:
    """`"shop.test"` is port 80 (443 for https); `"127.0.0.1:8000"` and `"[::1]:8000"` as written.

    Raises `ValueError` for a port that is none.
    """
    parts = urlsplit(f"//{entry}")
    port = parts.port if parts.port is not None else (443 if scheme == "https" else 80)
    return (parts.hostname or "").rstrip("."), port


class Gateway:
    """A proxy on a port of its own. `refused` lists what was asked for in vain, the oldest first.

    All of it runs in one event loop; sites answer in its threads.
    """

    def __init__(self, sites: Mapping[str, Site], allow: tuple[str, ...] = ()) -> None:
        self.sites = {host_port(host): site for host, site in sites.items()}
        self.allow = {host_port(entry) for entry in allow}
        self.refused: list[str] = []
        self.server: asyncio.Server | None = None
        self.port = 0
        self.talks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen on a free port of this machine."""
        self.server = await asyncio.start_server(self._talk, "127.0.0.1", 0, limit=1 << 17)
        self.port = self.server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and end what is under way."""
        if self.server is not None:
            self.server.close()
        for talk in list(self.talks):
            talk.cancel()

    def reaches(self, url: str) -> bool:
        """Whether this url would be answered."""
        try:
            parts = urlsplit(url)
            where = host_port(parts.netloc.rpartition("@")[2], parts.scheme)
        except ValueError:
            return False
        known = where in self.sites if parts.scheme == "http" else False
        return known or (parts.scheme in ("http", "https") and where in self.allow)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talk = asyncio.current_task()
        assert talk is not None
        self.talks.add(talk)
        try:
            with contextlib.suppress(
                OSError,
                EOFError,
                ValueError,
                asyncio.IncompleteReadError,
                asyncio.LimitOverrunError,
            ):
                while await self._turn(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # the context was closed: nobody listens any more
        finally:
            self.talks.discard(talk)
            writer.close()

    async def _turn(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, _, rest = head.partition("\r\n")
        method, target, _ = line.split(" ", 2)
        pairs = [each.partition(":") for each in rest.split("\r\n") if each]
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if method == "CONNECT":
            await self._tunnel(host_port(target, "https"), target, reader, writer)
            return False
        size = int(headers.get("content-length") or 0)
        if not 0 <= size <= _MOST:
            return False
        body = await reader.readexactly(size)
        parts = urlsplit(target)
        where = host_port(parts.netloc.rpartition("@")[2])
        path = target.split(parts.netloc, 1)[-1].partition("#")[0] if parts.netloc else target
        if where in self.sites:
            request = Request(method, path or "/", headers, body, parts.netloc)
            await self._answer(writer, await _asked(self.sites[where], request), method == "HEAD")
            return True
        if where in self.allow:
            kept = [pair for pair in pairs if pair[0].strip().lower() not in _HOP]
            lines = [f"{method} {path or '/'} HTTP/1.1", "Connection: close"]
            lines += [f"{name}:{value}" for name, _, value in kept]
            await self._relay(where, "\r\n".join([*lines, "", ""]).encode("latin-1") + body, writer)
            return False
        await self._refuse(writer, target)
        return True

    async def _answer(self, writer: asyncio.StreamWriter, answer: Response, bare: bool) -> None:
        body = answer.body.encode() if isinstance(answer.body, str) else answer.body
        lines = [f"HTTP/1.1 {answer.status} {_phrase(answer.status)}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        lines += [f"Content-Type: {answer.media_type}", f"Content-Length: {len(body)}"]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if bare else body))
        await writer.drain()

    async def _refuse(self, writer: asyncio.StreamWriter, target: str) -> None:
        self.refused = [*self.refused[-99:], target]
        text = "This address is outside of what may be reached here."
        await self._answer(writer, Response(403, text, "text/plain"), False)

    async def _relay(
        self, where: tuple[str, int], data: bytes, writer: asyncio.StreamWriter
    ) -> None:
        try:
            inward, outward = await asyncio.open_connection(*where)
        except OSError as problem:
            await self._answer(writer, Response(502, str(problem), "text/plain"), False)
            return
        try:
            outward.write(data)
            await _pour(inward, writer)
        finally:
            outward.close()

    async def _tunnel(
        self,
        where: tuple[str, int],
        target: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if where not in self.allow:
            await self._refuse(writer, target)
            return
        try:
            inward, outward = await asyncio.open_connection(*where)
        except OSError as problem:
            await self._answer(writer, Response(502, str(problem), "text/plain"), False)
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        ways = [
            asyncio.ensure_future(each) for each in (_pour(reader, outward), _pour(inward, writer))
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            outward.close()


async def _asked(site: Site, request: Request) -> Response:
    try:
        return await asyncio.get_running_loop().run_in_executor(None, site, request)
    except Exception as problem:
        return Response(500, f"{type(problem).__name__}: {problem}", "text/plain")


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
