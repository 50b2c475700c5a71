"""Sends requests to an OpenAI-compatible endpoint through the `openai` package.

Retries are not made here. What goes wrong becomes one of `chat_errors`, on one line, without the
key; addresses with a password in them are shown without it.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Mapping
from typing import Any, Protocol

from foldgym.agents.engines.chat_errors import Hiccup, failure_of
from foldgym.agents.engines.chat_pace import retry_after
from foldgym.errors import ConfigError, FoldgymError, MissingExtra
from foldgym.types import Json

_SHOWN = 400  # characters of what an endpoint says in an error
_PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
NO_KEY = "none"  # for endpoints that ask for no key


class Transport(Protocol):
    """A request in, the JSON object of its answer out; raises what `chat_errors` lists."""

    async def send(self, request: Mapping[str, Json]) -> Mapping[str, Json]:
        """One request, tried once."""
        ...


class OpenAITransport:
    """An endpoint; `key` comes from the environment unless given.

    Raises `MissingExtra` without the openai package, and `ConfigError` where there is no key for
    an endpoint that needs one.
    """

    def __init__(
        self,
        base_url: str = "",
        key_env: str = "OPENAI_API_KEY",
        timeout: float = 600.0,
        key: str = "",
    ) -> None:
        try:
            import openai
        except ModuleNotFoundError as problem:
            raise MissingExtra("playing a chat API", "api") from problem
        self._openai: Any = openai
        self._url = base_url or os.environ.get("OPENAI_BASE_URL", "")
        self._key = (key or os.environ.get(key_env, "")).strip()
        self._timeout = timeout
        if not self._key and not self._url:
            raise ConfigError(
                f"a chat API needs a key: set the environment variable {key_env} (or name another "
                "with --chat key_env=NAME), or give --base-url for a server that asks for none"
            )
        if not all("!" <= each <= "~" for each in self._key):
            raise ConfigError(
                f"the API key in {key_env} holds white space or other characters that no key has; "
                "set it anew"
            )
        # kept when their loops are closed: a client let go of would close itself in the next loop
        self._clients: dict[asyncio.AbstractEventLoop, Any] = {}

    async def send(self, request: Mapping[str, Json]) -> Mapping[str, Json]:
        """One request, tried once."""
        openai = self._openai
        more = {name: value for name, value in request.items() if name not in ("model", "messages")}
        try:
            async with asyncio.timeout(self._timeout):  # also for one that never stops answering
                raw = await self._client().chat.completions.with_raw_response.create(
                    model=request["model"], messages=request["messages"], extra_body=more
                )
        except openai.APIStatusError as problem:
            raise self._failure(problem) from None
        except (openai.APITimeoutError, TimeoutError):
            raise Hiccup(f"no answer within {self._timeout:g} seconds") from None
        except Exception as problem:  # an address that is none fails in ways of its own
            why = self._line(problem.__cause__ or problem)
            raise Hiccup(f"cannot reach {self.address}: {why}") from None
        try:
            table: Any = raw.http_response.json()
        except (ValueError, RecursionError) as problem:
            raise Hiccup(f"the answer is no JSON: {self._line(problem)}") from None
        if not isinstance(table, dict):
            raise Hiccup(f"the answer is no JSON object: {self._line(table)}")
        return table

    @property
    def address(self) -> str:
        """Where requests go, without a password."""
        return _PASSWORD.sub("", self._url) or "the API of OpenAI"

    def _client(self) -> Any:
        """A client of the running event loop, to which its connections belong."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._clients[loop] = self._openai.AsyncOpenAI(
                api_key=self._key or NO_KEY,
                base_url=self._url or None,
                timeout=self._timeout,
                max_retries=0,
            )
        return client

    def _failure(self, problem: Any) -> FoldgymError:
        body: Any = problem.body
        inner = body.get("error", body) if isinstance(body, dict) else body
        text = inner.get("message") if isinstance(inner, dict) else inner
        code = problem.code or (inner.get("code") if isinstance(inner, dict) else "")
        after = retry_after(problem.response.headers, time.time())
        return failure_of(problem.status_code, self._line(text or problem), str(code or ""), after)

    def _line(self, said: object) -> str:
        """One line, the key blotted out."""
        text = " ".join(str(said).split()) or type(said).__name__
        if self._key:
            text = text.replace(self._key, "[key]")
        text = _PASSWORD.sub("", text)
        return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
