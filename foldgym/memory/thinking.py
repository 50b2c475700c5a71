"""Thinking in chunks: when a turn is cut by its length it goes on with a short carry of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from foldgym.memory.wrapping import Wrapped, Wrapper
from foldgym.types import Ask, At, Boundary, Event, Finish, Kit, Log, Memory, Ref, Synth, View


@dataclass(frozen=True, slots=True)
class Thinking(Wrapped):
    """State of `Delethink`: `carried` is what the last call of a turn was shown of that turn.

    `newest` is what that call said in the newest turn; `open` says that the turn goes on from it.
    """

    carried: Mapping[int, tuple[Ref, ...]] = field(default_factory=dict[int, "tuple[Ref, ...]"])
    newest: Event | None = None
    chunks: int = 0
    open: bool = False


class Delethink(Wrapper):
    """Any memory, with each turn thought in chunks of constant context.

    A turn whose first `chunk` ids hold no end goes on from its first `head` and last `tail` ids,
    `chunk - head - tail` new ones at a time, `max_chunks` chunks at most: then it is taken as it
    stands. Carried are recorded ids, never text; each is trained in the chunk that sampled it, and
    a chunk is a segment. A finished turn is shown as its last call saw it and left it. The run's
    own `max_tokens` and context still hold, so give it at least `chunk`. What the inner memory does
    after a turn waits for the turn's end.
    Source: the Markovian Thinker (memory spec A5), whose numbers are the defaults.
    """

    def __init__(
        self,
        inner: Memory | str = "full",
        chunk: int = 8192,
        head: int = 100,
        tail: int = 3996,
        max_chunks: int = 5,
        options: dict[str, Any] | None = None,
    ) -> None:
        if head < 0 or tail < 1 or chunk <= head + tail or max_chunks < 1:
            raise ValueError(
                "Delethink needs head >= 0, tail >= 1, chunk > head + tail and max_chunks >= 1, "
                f"not head={head}, tail={tail}, chunk={chunk}, max_chunks={max_chunks}"
            )
        super().__init__(inner, options)
        self.chunk, self.head, self.tail, self.max_chunks = chunk, head, tail, max_chunks

    @property
    def rewrites(self) -> bool:
        """A long turn is shown shortened."""
        return True

    def start(self, log: Log, kit: Kit) -> Thinking:
        """Nothing carried."""
        return Thinking(self.inner.start(log, kit))

    def view(self, log: Log, state: Thinking) -> View:
        """The inner view, what a chunked turn said replaced by its carry and its last chunk."""
        items: list[Ref | Synth] = []
        seen = -1
        for item in self.inner.view(log, state.inner).items:
            event = log[item.event] if isinstance(item, Ref) else None
            if event is None or event.kind != "model":
                items.append(item)
            elif state.open and state.newest and event.turn == state.newest.turn:
                items += self._carry(state, state.newest)
                return View(tuple(items), True, self.chunk - self.head - self.tail)
            elif event.turn not in state.carried:
                items.append(item)
            elif event.turn != seen:
                seen = event.turn
                said = [each.id for each in log if each.kind == "model" and each.turn == seen]
                items += [*state.carried[seen], Ref(said[-1])]
        return View(tuple(items), max_tokens=self.chunk)

    async def on(self, boundary: Boundary, log: Log, state: Thinking, ask: Ask) -> Thinking:
        """Carries on a turn that was cut; otherwise the boundary is the inner memory's."""
        event = boundary.event
        if boundary.at is At.AFTER_MODEL and event is not None:
            carried, chunks = state.carried, 1
            if state.open and state.newest:
                carried = {**carried, event.turn: self._carry(state, state.newest)}
                chunks = state.chunks + 1
            more = event.finish is Finish.LENGTH and chunks < self.max_chunks
            state = replace(state, carried=carried, newest=event, chunks=chunks, open=more)
            if more:
                return state
        if state.open:  # the context had no room for another chunk
            state = replace(state, open=False)
            over = Boundary(At.AFTER_MODEL, event=state.newest)
            state = replace(state, inner=await self.inner.on(over, log, state.inner, ask))
        return replace(state, inner=await self.inner.on(boundary, log, state.inner, ask))

    def _carry(self, state: Thinking, newest: Event) -> tuple[Ref, ...]:
        shown = state.carried.get(newest.turn, ())
        whole = Ref(newest.id, 0, len(newest.token_ids))
        return compress((*shown, whole), self.head, self.tail)


def compress(said: Sequence[Ref], head: int, tail: int) -> tuple[Ref, ...]:
    """The first `head` and the last `tail` ids of what these show; all if they are no more.

    >>> compress((Ref(1, 0, 8),), 1, 3)
    (Ref(event=1, start=0, end=1), Ref(event=1, start=5, end=8))
    """
    ids = [(ref.event, at) for ref in said for at in range(ref.start, ref.end or 0)]
    kept = ids if len(ids) <= head + tail else [*ids[:head], *ids[-tail:]]
    runs: list[Ref] = []
    for event, at in kept:
        if runs and (runs[-1].event, runs[-1].end) == (event, at):
            runs[-1] = replace(runs[-1], end=at + 1)
        else:
            runs.append(Ref(event, at, at + 1))
    return tuple(runs)
