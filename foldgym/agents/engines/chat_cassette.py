"""Recorded answers of a chat API: played again without a network, a key or the openai package.

One JSON object a line: {"schema": 1, "key": digest, "request": {...}, "answer": {...}}, or with
"failure" instead of an answer, for requests that the endpoint refused. A request holds no key and
no address; its pictures are kept as digests.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

from foldgym.agents.engines.chat_errors import ContentFiltered, ContextFull, RequestRefused
from foldgym.agents.engines.chat_transport import Transport
from foldgym.errors import DataError, EngineError, UserError
from foldgym.records import JsonlReader, JsonlWriter, dumps
from foldgym.types import Json

SCHEMA = 1
_FAILURES = {kind.__name__: kind for kind in (ContextFull, RequestRefused, ContentFiltered)}


class NotRecorded(UserError):
    """A cassette was asked for a request that it does not hold."""


class Recording:
    """Hands requests on and writes them down with their answers; `path` must be a new file."""

    def __init__(self, inner: Transport, path: str | Path) -> None:
        if Path(path).exists() and Path(path).stat().st_size:
            raise DataError(f"{path} already holds a recording; give a new file, or replay it")
        self._inner = inner
        self._writer = JsonlWriter(path)

    async def send(self, request: Mapping[str, Json]) -> Mapping[str, Json]:
        """One request, tried once."""
        try:
            answer = await self._inner.send(request)
        except EngineError as failure:
            if type(failure).__name__ in _FAILURES:
                said = {"kind": type(failure).__name__, "text": str(failure)}
                self._writer.write(_entry(request, failure=said))
            raise
        self._writer.write(_entry(request, answer=answer))
        return answer


class Replay:
    """Answers from a recording. Equal requests are answered in the order they were recorded.

    Raises `DataError` for a file that is no recording.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._held: defaultdict[str, deque[dict[str, Json]]] = defaultdict(deque)
        self._counts: defaultdict[str, int] = defaultdict(int)
        for number, table in JsonlReader(path).numbered():
            if table.get("schema") != SCHEMA or not {"answer", "failure"} & table.keys():
                raise DataError(f"{path}, line {number}: not a recording of a chat API")
            self._held[str(table["key"])].append(table)
            self._counts[str(table["key"])] += 1

    async def send(self, request: Mapping[str, Json]) -> Mapping[str, Json]:
        """The recorded answer; raises `NotRecorded`, or the failure that was recorded."""
        key = key_of(request)
        if not self._held[key]:
            count = self._counts[key]
            why = f"holds this request {count} times, and all were played" if count else "lacks"
            raise NotRecorded(f"{self._path} {why} {_shown(request)}; record it again")
        entry = self._held[key].popleft()
        failure: Any = entry.get("failure")
        if failure is not None:
            raise _FAILURES.get(failure["kind"], EngineError)(failure["text"])
        return entry["answer"]


def key_of(request: Mapping[str, Json]) -> str:
    """A digest of a request, whatever the order of its keys."""
    return blake2b(dumps(_sorted(_small(request))).encode(), digest_size=16).hexdigest()


def _entry(request: Mapping[str, Json], **outcome: Json) -> dict[str, Json]:
    return {"schema": SCHEMA, "key": key_of(request), "request": _small(request), **outcome}


def _small(value: Json) -> Json:
    """The same with pictures as digests."""
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Json]", value)
        return {name: _small(item) for name, item in table.items()}
    if isinstance(value, list):
        return [_small(item) for item in cast("list[Json]", value)]
    if isinstance(value, str) and value.startswith("data:image/"):
        kind = value.partition(";")[0]
        return f"{kind};blake2b,{blake2b(value.encode(), digest_size=16).hexdigest()}"
    return value


def _sorted(value: Json) -> Json:
    if isinstance(value, Mapping):
        table = cast("Mapping[str, Json]", value)
        return {name: _sorted(table[name]) for name in sorted(table)}
    if isinstance(value, list):
        return [_sorted(item) for item in cast("list[Json]", value)]
    return value


def _shown(request: Mapping[str, Json]) -> str:
    """A request in a few words."""
    messages = cast("list[dict[str, Json]]", request.get("messages") or [{}])
    last = messages[-1]
    text = " ".join(str(last.get("content") or "").split())
    text = text if len(text) <= 60 else text[:57] + "..."
    options = ", ".join(
        f"{name} {value}" for name, value in request.items() if isinstance(value, (int, float))
    )
    return (
        f"a request to {request.get('model')} of {len(messages)} messages, "
        f"the last from {last.get('role', 'nobody')}: {text!r} ({options})"
    )
