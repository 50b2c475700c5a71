"""Several awaitables at once, none left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, whose main task holds no result.

    Where it takes its signal handler away, Python writes that task out in words, result and all,
    for an error message that nobody reads: with a few thousand turns that is a noticeable wait.
    """
    found = list[T]()

    async def main() -> None:
        found.append(await work)

    asyncio.run(main())
    return found[0]


async def gather_or_cancel(jobs: Sequence[Awaitable[T]]) -> list[T]:
    """`gather` that cancels and awaits the others when one raises."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def cancelled(tasks: set[asyncio.Task[Any] | None]) -> None:
    """Cancels all of these but the running one, waits for their end, and empties the set."""
    others = [task for task in tasks if task and task is not asyncio.current_task()]
    tasks.clear()
    for task in others:
        task.cancel()
    if others:
        await asyncio.gather(*others, return_exceptions=True)
