"""What tasks open with: the prompts of tasks that nobody has played yet."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from foldgym.agents.rollout import OpenEnv, Rollout
from foldgym.agents.tasks import gather_or_cancel
from foldgym.errors import Failure
from foldgym.types import Ids, Request

_KEPT = 4096  # prompts of tasks that may come back


class Openings:
    """`openings(requests)`: the ids a policy is shown first in each task, its own header included.

    Every world is opened, reset with the request's seed and options, and closed; nothing is
    played. It is what the task says, before a memory has touched it. Empty where the world failed
    (`errors.Failure`): what it says is then unknown. A `UserError` of a world passes through. The
    newest prompts are kept by task.
    """

    def __init__(self, open_env: OpenEnv, how: Rollout) -> None:
        self._open_env, self._how = open_env, how
        self._kept: dict[str, Ids] = {}

    def __call__(self, requests: Sequence[Request]) -> list[Ids]:
        """One prompt per request."""
        keys = [_task(request) for request in requests]
        known = {key: self._kept[key] for key in keys if key in self._kept}
        new = {key: r for key, r in zip(keys, requests, strict=True) if key not in known}
        if new:
            with ThreadPoolExecutor(1) as pool:  # the caller may stand in a loop of its own
                found = pool.submit(asyncio.run, self._all(list(new.values()))).result()
            known |= zip(new, found, strict=True)
        kept = self._kept | {key: ids for key, ids in known.items() if ids}
        self._kept = dict(list(kept.items())[-_KEPT:])
        return [known[key] for key in keys]

    async def _all(self, requests: Sequence[Request]) -> list[Ids]:
        seats = asyncio.Semaphore(self._how.concurrency)

        async def one(request: Request) -> Ids:
            async with seats:
                return await self._one(request)

        return await gather_or_cancel([one(request) for request in requests])

    async def _one(self, request: Request) -> Ids:
        env, renderer = self._open_env(request), self._how.renderer
        try:
            opening = await env.reset(request.seed, {"episode": 0, **request.options})
        except Failure:
            return ()
        finally:
            await env.close()
        tools = (*opening.tools, *self._how.memory().tools())
        return (*renderer.open(opening.task.prompt, tools), *renderer.header())


def _task(request: Request) -> str:
    told = [request.env, request.seed, dict(request.kwargs), dict(request.options)]
    return json.dumps(told, sort_keys=True)
