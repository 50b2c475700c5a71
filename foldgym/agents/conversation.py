"""One episode's loop: show, sample, answer, until the world or a limit ends it."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from foldgym.agents.transcript import Transcript
from foldgym.types import EnvHandle, Message, Stop


@dataclass(frozen=True, slots=True)
class Limits:
    """When an episode is over whatever the environment says; `max_parse_errors` are in a row."""

    max_turns: int = 32
    max_seconds: float = math.inf
    max_parse_errors: int = 3


async def converse(
    env: EnvHandle,
    talk: Transcript,
    limits: Limits,
    before: Callable[[], Awaitable[None]] | None = None,
) -> Stop:
    """The loop: show, sample, answer, until the world or a limit ends it.

    `before` is what a scaffold does before each turn.
    """
    deadline = time.monotonic() + limits.max_seconds
    unreadable = 0
    for _ in range(limits.max_turns):
        if before is not None:
            await before()
        prompt = await talk.prompt()
        if prompt is None:
            return Stop.MAX_CONTEXT
        said = await talk.say(prompt)
        unreadable = unreadable + 1 if said.problem else 0
        stop = await answer(env, talk, said.message, said.problem)
        if stop is not None:
            return stop
        if unreadable >= limits.max_parse_errors:
            return Stop.PARSE_ERRORS
        if time.monotonic() > deadline:
            return Stop.MAX_SECONDS
    return Stop.MAX_TURNS


async def answer(env: EnvHandle, talk: Transcript, said: Message, problem: str) -> Stop | None:
    """What comes back for one turn: a complaint, the memory's replies, the world's."""
    if problem:
        await talk.hear((Message("user", problem),), 0.0, {})
        return None
    rest, notes = await talk.remember(said)
    if notes and not rest.tool_calls:
        await talk.hear(notes, 0.0, {})
        return None
    step = await env.step(rest)
    await talk.hear((*notes, *step.observation), step.reward, step.info)
    if step.terminated:
        return Stop.DONE
    return Stop.TRUNCATED if step.truncated else None
