"""Thoughts of earlier turns are not shown again: what chat templates do in silence, said aloud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from foldgym.memory.wrapping import Wrapped, Wrapper
from foldgym.types import Ask, Boundary, Ids, Kit, Log, Memory, Ref, Synth, View


@dataclass(frozen=True, slots=True)
class Dropping(Wrapped):
    """State of `DropThinking`: the kit, whose renderer knows what a thought is."""

    kit: Kit


class DropThinking(Wrapper):
    """Any memory, without the thoughts that the model's own chat template would leave out.

    Those of turns before the latest user message, and what else the family's template drops. The
    other ids of a turn stay as they were sampled, so this is the prompt that the published
    template renders, without encoding anything again. Wherever a thought goes, a segment ends.
    """

    def __init__(self, inner: Memory | str = "full", options: dict[str, Any] | None = None) -> None:
        super().__init__(inner, options)

    @property
    def rewrites(self) -> bool:
        """Always: a turn that was shown whole is shown without its thought later."""
        return True

    def start(self, log: Log, kit: Kit) -> Dropping:
        """The inner memory's state, and the kit."""
        return Dropping(self.inner.start(log, kit), kit)

    def view(self, log: Log, state: Dropping) -> View:
        """The inner view, each turn cut."""
        inner = self.inner.view(log, state.inner)
        asked = max(
            (place for place, item in enumerate(inner.items) if _asks(item, log)), default=-1
        )
        items: list[Ref | Synth] = []
        place = 0
        while place < len(inner.items):
            turn = _turn(inner.items[place], log)
            end = place + 1
            while turn is not None and end < len(inner.items):
                if _turn(inner.items[end], log) != turn:
                    break
                end += 1
            said = inner.items[place:end]
            open_end = inner.open_turn and end == len(inner.items)
            if turn is None or open_end:
                items += said
            else:
                items += _cut(said, log, state.kit, "past" if place < asked else "recent")
            place = end
        return replace(inner, items=tuple(items))

    async def on(self, boundary: Boundary, log: Log, state: Dropping, ask: Ask) -> Dropping:
        """As the inner memory."""
        return replace(state, inner=await self.inner.on(boundary, log, state.inner, ask))


def _turn(item: Ref | Synth, log: Log) -> int | None:
    """The turn that said this; None if none did."""
    if isinstance(item, Synth) or log[item.event].kind != "model":
        return None
    return log[item.event].turn


def _asks(item: Ref | Synth, log: Log) -> bool:
    """Whether the user speaks here."""
    if isinstance(item, Ref) and log[item.event].kind in ("model", "memory"):
        return False
    messages = item.messages if isinstance(item, Synth) else log[item.event].messages
    return any(message.role == "user" for message in messages)


def _cut(said: Sequence[Ref | Synth], log: Log, kit: Kit, when: Any) -> list[Ref | Synth]:
    """A turn, shown in one or several pieces, without its thoughts."""
    pieces = [item for item in said if isinstance(item, Ref)]
    shown = [log[item.event].token_ids[item.start : item.end] for item in pieces]
    ids: Ids = tuple(i for part in shown for i in part)
    cuts = kit.thoughts(ids, when)
    if not cuts:
        return list(said)
    kept: list[Ref | Synth] = []
    edges = [0, *(edge for cut in cuts for edge in cut), len(ids)]
    stretches = list(zip(edges[::2], edges[1::2], strict=True))
    first = 0
    for item, part in zip(pieces, shown, strict=True):
        last = first + len(part)
        for begin, end in stretches:
            a, b = max(begin, first), min(end, last)
            if a < b:
                kept.append(Ref(item.event, item.start + a - first, item.start + b - first))
        first = last
    return kept or [Ref(pieces[-1].event, pieces[-1].start + len(shown[-1]))]
