"""How often an API is asked: limits a minute, rests it asks for, and waits between tries."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import Random

MINUTE = 60.0
FIRST_WAIT = 0.5  # seconds before the second try; doubled before every further one
LONGEST_WAIT = 60.0

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class Pace:
    """At most `requests` and `tokens` in any 60 seconds (0: no limit), first come first served.

    A request's tokens are estimated before it is sent and corrected when its answer says how many
    they were. One that alone is over the limit goes when nothing else is in the window.
    """

    def __init__(
        self,
        requests: int = 0,
        tokens: int = 0,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._requests, self._tokens = requests, tokens
        self._clock, self._sleep = clock, sleep
        self._window: deque[list[float]] = deque()  # [when, tokens]
        self._line: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rest_until = 0.0

    async def enter(self, tokens: int) -> list[float]:
        """Waits for a turn; the entry it returns is for `correct`."""
        async with self._queue():
            while (wait := self._wait(tokens)) > 0:
                await self._sleep(wait)
            entry = [self._clock(), float(tokens)]
            self._window.append(entry)
            return entry

    def correct(self, entry: list[float], tokens: int) -> None:
        """What the request really was."""
        entry[1] = float(tokens)

    def rest(self, seconds: float) -> None:
        """Nobody asks for that long: the endpoint said so."""
        self._rest_until = max(self._rest_until, self._clock() + seconds)

    def _wait(self, tokens: int) -> float:
        now = self._clock()
        if now < self._rest_until:
            return self._rest_until - now
        while self._window and self._window[0][0] <= now - MINUTE:
            self._window.popleft()
        if not self._window:
            return 0.0
        full = bool(self._requests) and len(self._window) >= self._requests
        used = sum(entry[1] for entry in self._window)
        full |= bool(self._tokens) and used + tokens > self._tokens
        return self._window[0][0] + MINUTE - now if full else 0.0

    def _queue(self) -> asyncio.Lock:
        loop = asyncio.get_running_loop()
        if self._line is None or loop is not self._loop:  # a lock belongs to one event loop
            self._line, self._loop = asyncio.Lock(), loop
        return self._line


def wait_before(attempt: int, rng: Random, after: float | None) -> float:
    """Seconds before try number `attempt` (from 1): exponential with jitter, or as told."""
    backoff = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * rng.uniform(0.5, 1.0)
    return backoff if after is None else max(after, 0.0) + FIRST_WAIT * rng.random()


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds that an answer asks to wait; `now` is the time of day in seconds since 1970.

    From `retry-after-ms`, or from `retry-after` as seconds or as a date (RFC 9110, 10.2.3).
    """
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        try:
            seconds = float(text) / unit
        except ValueError:
            continue
        if not math.isnan(seconds):
            return max(0.0, seconds)
    try:
        until = parsedate_to_datetime(headers.get("retry-after", ""))
        if until.tzinfo is None:  # "-0000", or nothing: dates of HTTP are of Greenwich
            until = until.replace(tzinfo=UTC)
        return max(0.0, until.timestamp() - now)
    except (TypeError, ValueError, OverflowError):
        return None
