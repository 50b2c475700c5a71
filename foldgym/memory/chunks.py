"""Working memory by subgoal: finished ones are one line each, the running one is verbatim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from foldgym.memory.calls import offer, read, speaking
from foldgym.memory.views import answers, refs, task_of, turns_of
from foldgym.types import (
    Ask,
    At,
    Boundary,
    Event,
    Finish,
    Kit,
    Log,
    Message,
    Ref,
    Synth,
    Tool,
    View,
)

SUBGOAL = offer(
    "subgoal",
    "Say what you want to reach next. What you did for the last subgoal becomes one line.",
    {"text": "string"},
)
RETRIEVE = offer(
    "retrieve",
    "Show again all that was done for these finished subgoals.",
    {"ids": {"type": "array", "items": {"type": "integer"}}},
)
ASK_RESULT = "In one line: was this subgoal met, and what did it bring?"
MARK = "Subgoal:"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Turns from event `start` on; `line` is what stands for them once they are over."""

    start: int
    title: str
    line: tuple[Ref | Synth, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunks:
    """State of `HiAgent`: the last chunk is open, `expanded` places are verbatim again."""

    kit: Kit
    instruction: Synth
    chunks: tuple[Chunk, ...] = (Chunk(0, "start"),)
    expanded: frozenset[int] = frozenset()
    dropped: int = 0
    failed: int = 0
    reply: str = ""


class HiAgent:
    """Subgoals and their results, the running subgoal verbatim, others again on `retrieve`.

    A subgoal starts with the tool `subgoal` or a line `Subgoal: ...`, never right after another
    without an action between. The line of a finished one is made once and kept: one sentence that
    is asked for (`result="ask"`, at most `max_tokens`; not longer than what it replaces), or the
    last answer (`result="last"`, for worlds whose answers show everything; also when nothing usable
    was written). Under hard pressure retrieved chunks close again, then the oldest lines go.
    Source: HiAgent (memory spec A3), which summarises every finished subgoal anew at each step.
    """

    rewrites = True

    def __init__(
        self,
        result: Literal["ask", "last"] = "ask",
        max_tokens: int = 48,
        by: Literal["policy", "aux"] = "policy",
    ) -> None:
        if max_tokens < 1:
            raise ValueError(f"HiAgent needs max_tokens >= 1, not {max_tokens}")
        self.result = result
        self.max_tokens = max_tokens
        self.by: Literal["policy", "aux"] = by

    @property
    def asks(self) -> tuple[str, ...]:
        """Purposes for which the policy writes."""
        return ("result",) if self.by == "policy" and self.result == "ask" else ()

    def tools(self) -> tuple[Tool, ...]:
        """`subgoal <text>` and `retrieve {"ids": [1]}`."""
        return (SUBGOAL, RETRIEVE)

    def start(self, log: Log, kit: Kit) -> Chunks:
        """One open chunk."""
        return Chunks(kit, kit.synth(Message("user", ASK_RESULT), "result instruction"))

    def view(self, log: Log, state: Chunks) -> View:
        """Task, one line a finished subgoal, the running one."""
        items: list[Ref | Synth] = [*task_of(log)]
        for place, chunk in enumerate(state.chunks):
            if state.dropped <= place:
                verbatim = not chunk.line or place in state.expanded
                items += refs(_turns(log, state, place)) if verbatim else chunk.line
        return View(tuple(items))

    async def on(self, boundary: Boundary, log: Log, state: Chunks, ask: Ask) -> Chunks:
        """Opens subgoals, closes finished ones, retrieves, makes room."""
        if boundary.at is At.AFTER_MODEL and boundary.event:
            return self._open(boundary.event, log, state)
        if boundary.at is At.MEMORY_TOOL and boundary.call:
            if boundary.call.name == SUBGOAL.name:
                _, problem = read(SUBGOAL, boundary.call)
                opened = log[state.chunks[-1].start].turn == speaking(log)
                refused = "" if opened else "error: act on this subgoal before you start another"
                return replace(state, reply=problem or refused or "started")
            return _retrieve(boundary, state)
        if boundary.at is At.BEFORE_MODEL:
            for place in range(len(state.chunks) - 1):
                if not state.chunks[place].line:
                    state = await self._close(place, log, state, ask)
        if boundary.at is At.PRESSURE:
            if state.expanded:
                return replace(state, expanded=frozenset())
            return replace(state, dropped=min(state.dropped + 1, len(state.chunks) - 1))
        return state

    def _open(self, event: Event, log: Log, state: Chunks) -> Chunks:
        title = _subgoal(event)
        running = [turn for turn in _turns(log, state, -1) if turn[0].turn != event.turn]
        acted = any(
            heard.kind == "observation" and not _own(heard) for turn in running for heard in turn
        )
        if not title or (running and not acted):
            return state
        start = next(e.id for e in log if e.kind == "model" and e.turn == event.turn)
        earlier = state.chunks if running else state.chunks[:-1]
        return replace(state, chunks=(*earlier, Chunk(start, title)), expanded=frozenset[int]())

    async def _close(self, place: int, log: Log, state: Chunks, ask: Ask) -> Chunks:
        chunk, turns = state.chunks[place], _turns(log, state, place)
        before = [item for past in state.chunks[state.dropped : place] for item in past.line]
        label = f"{place + 1}. {chunk.title} - "
        note: Event | None = None
        if self.result == "ask":
            prompt = View((*task_of(log), *before, *refs(turns), state.instruction))
            note = await ask("result", prompt, self.max_tokens, self.by)
        replaced = sum(len(event.token_ids) for turn in turns for event in turn)
        usable = note is not None and len(note.token_ids) <= replaced
        if note is not None and usable:
            end = len(note.token_ids) - (note.finish is Finish.STOP)
            opened, closed = state.kit.frame("user", label)
            line = (opened, Ref(note.id, 0, end), closed)
        else:
            heard = [
                message.text for turn in turns for e in answers(turn) for message in e.messages
            ]
            said = Message("user", label + (heard[-1] if heard else "no answer"))
            line = (state.kit.synth(said, "subgoal line"),)
        chunks = list(state.chunks)
        chunks[place] = replace(chunk, line=line)
        failed = state.failed + (self.result == "ask" and not usable)
        return replace(state, chunks=tuple(chunks), failed=failed)


def _turns(log: Log, state: Chunks, place: int) -> list[tuple[Event, ...]]:
    ends = [chunk.start for chunk in state.chunks[1:]] + [len(log)]
    start = state.chunks[place].start
    return [turn for turn in turns_of(log, start) if turn[0].id < ends[place]]


def _subgoal(event: Event) -> str:
    """The title of the subgoal that this turn starts, on one line; empty if it starts none."""
    for message in event.messages:
        for call in message.tool_calls:
            if call.name == SUBGOAL.name:
                return " ".join(str(read(SUBGOAL, call)[0].get("text", "")).split())
        for line in message.text.splitlines():
            if line.startswith(MARK):
                return " ".join(line.removeprefix(MARK).split())
    return ""


def _own(heard: Event) -> bool:
    names: Sequence[str] = (SUBGOAL.name, RETRIEVE.name)
    return any(message.name in names for message in heard.messages)


def _retrieve(boundary: Boundary, state: Chunks) -> Chunks:
    assert boundary.call is not None
    given, problem = read(RETRIEVE, boundary.call)
    known = range(state.dropped + 1, len(state.chunks))
    unknown = [each for each in given.get("ids", ()) if each not in known]
    if not problem and (unknown or not given["ids"]):
        listed = ", ".join(map(str, known)) or "none"
        problem = f"error: finished subgoals are {listed}; not {unknown or 'nothing'}"
    if problem:
        return replace(state, reply=problem)
    expanded = state.expanded | {each - 1 for each in given["ids"]}
    return replace(state, expanded=expanded, reply="shown again above")
