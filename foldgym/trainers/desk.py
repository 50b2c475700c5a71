"""Where the learner works: between rollouts, or in a thread of its own while they go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, Self, TypeVar

T = TypeVar("T")


class Desk(Protocol):
    """One piece of work at a time; whatever reads or changes the learner's weights is done here."""

    async def do(self, work: Callable[[], T]) -> T:
        """The result of `work`; raises what it raises."""
        ...

    async def __aenter__(self) -> Self: ...
    async def __aexit__(self, *_: object) -> None: ...


class Inline:
    """In the caller's thread: nothing else happens meanwhile."""

    async def do(self, work: Callable[[], T]) -> T:
        """The result of `work`."""
        return work()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to end."""


class Aside:
    """In one thread, always the same, so that torch keeps one team of workers for it.

    A cancelled caller does not wait; leaving the block does, so nothing outlives it.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    async def do(self, work: Callable[[], T]) -> T:
        """The result of `work`, after everything that was given to do before."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "foldgym-learner")
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
