"""Memories around another memory: they add to its view, or replace parts of it, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from foldgym.types import (
    Ask,
    Boundary,
    Kit,
    Log,
    Memory,
    Message,
    Proposal,
    Ref,
    Synth,
    Tool,
    ToolCall,
    View,
)

REMINDER = "Remember what you were asked: "


def inner_memory(inner: Memory | str, options: Mapping[str, Any] | None) -> Memory:
    """The memory to wrap: itself, or by the name and the options that a run file gives.

    Raises `UnknownName` and `ConfigError` as `[memory] use` does, and `ValueError` for options
    beside a memory that is already made.
    """
    if isinstance(inner, str):
        from foldgym.config.plugins import bind, resolve
        from foldgym.memory import MEMORIES

        make = resolve("memory", inner, MEMORIES)
        return bind("memory", make, options or {}, "memory.options")()
    if options:
        raise ValueError(f"options go with the name of a memory, not with {inner!r}")
    if not hasattr(inner, "view"):
        raise ValueError(f"inner must be a memory or the name of one, not {inner!r}")
    return inner


@dataclass(frozen=True, slots=True)
class Wrapped:
    """Base of the states of memories around another: what the inner state has to say, it says."""

    inner: Any

    @property
    def reply(self) -> str:
        """The inner memory's answer to a call of its tool."""
        return getattr(self.inner, "reply", "")

    @property
    def failed(self) -> int:
        """The inner memory's refused folds."""
        return getattr(self.inner, "failed", 0)

    @property
    def proposal(self) -> Proposal | None:
        """What the inner memory wants of the store."""
        return getattr(self.inner, "proposal", None)

    @property
    def numbers(self) -> Mapping[str, float]:
        """The inner memory's counters."""
        return getattr(self.inner, "numbers", {})


class Wrapper:
    """Base of memories around another: tools, promises and answers are the inner memory's.

    `keeps` says whether it reads and writes a store.
    """

    def __init__(self, inner: Memory | str, options: Mapping[str, Any] | None = None) -> None:
        self.inner = inner_memory(inner, options)
        self.keeps: bool = getattr(self.inner, "keeps", False)

    @property
    def rewrites(self) -> bool:
        """As the inner memory."""
        return self.inner.rewrites

    @property
    def stops(self) -> tuple[str, ...]:
        """The inner memory's stop strings."""
        return getattr(self.inner, "stops", ())

    @property
    def asks(self) -> tuple[str, ...]:
        """Purposes for which the policy writes."""
        return getattr(self.inner, "asks", ())

    def tools(self) -> tuple[Tool, ...]:
        """The inner memory's."""
        return self.inner.tools()

    def answers(self, log: Log, state: Wrapped, call: ToolCall) -> str:
        """What the inner memory says in the world's place."""
        answers = getattr(self.inner, "answers", None)
        return answers(log, state.inner, call) if answers else ""


@dataclass(frozen=True, slots=True)
class Reminded(Wrapped):
    """State of `Reminder`: the inner memory's, and what is said."""

    reminder: Synth


class Reminder(Wrapper):
    """Any memory, with a reminder of the task behind every `every`-th turn that it shows.

    `text` is what is said; left empty it is the task's last message. Reminders have fixed places,
    so around a memory that only appends the view still only appends. Their ids are never trained.
    Source: Drift No More (memory spec A10), interventions at chosen turns.
    """

    def __init__(
        self,
        inner: Memory | str = "full",
        every: int = 4,
        text: str = "",
        options: dict[str, Any] | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"Reminder needs every >= 1, not {every}")
        super().__init__(inner, options)
        self.every = every
        self.text = text

    def start(self, log: Log, kit: Kit) -> Reminded:
        """Writes the reminder once."""
        asked = [message.text for event in log for message in event.messages]
        text = self.text or REMINDER + (asked[-1] if asked else "")
        return Reminded(self.inner.start(log, kit), kit.synth(Message("user", text), "reminder"))

    def view(self, log: Log, state: Reminded) -> View:
        """The inner view; a reminder behind the last item of each turn whose number is due."""
        inner = self.inner.view(log, state.inner)
        spoken = list(dict.fromkeys(event.turn for event in log if event.kind == "model"))
        due = set(spoken[self.every - 1 :: self.every])
        turns = [log[item.event].turn if isinstance(item, Ref) else -1 for item in inner.items]
        if inner.open_turn:  # nothing goes inside an unfinished turn
            due.discard(turns[-1])
        last = {turn: place for place, turn in enumerate(turns) if turn in due}
        behind = set(last.values())
        items: list[Ref | Synth] = []
        for place, item in enumerate(inner.items):
            items += [item, state.reminder] if place in behind else [item]
        return replace(inner, items=tuple(items))

    async def on(self, boundary: Boundary, log: Log, state: Reminded, ask: Ask) -> Reminded:
        """Passes the boundary on."""
        return replace(state, inner=await self.inner.on(boundary, log, state.inner, ask))
