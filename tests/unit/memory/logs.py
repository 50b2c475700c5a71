"""Episodes of one id per event, so that a view reads as numbers; and boundaries to tell them at."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Literal

from foldgym.types import (
    At,
    Boundary,
    Budget,
    Event,
    Finish,
    Ids,
    Log,
    Memory,
    Message,
    Ref,
    Role,
    Snapshot,
    Synth,
    Tool,
    ToolCall,
    View,
)


class Kit:
    """Every made message is 900, every frame 901 .. 902; `made` are their texts."""

    budget = Budget(max_context=100, soft=0.5)
    tools: tuple[Tool, ...] = (Tool("look", "Look.", {}),)

    def __init__(self, store: Snapshot | None = None, scorer: Any = None) -> None:
        self.made: list[str] = []
        self.store, self.scorer = store or Snapshot(), scorer

    def synth(self, message: Message, reason: str) -> Synth:
        self.made.append(message.text)
        return Synth((900,), reason, (message,))

    def frame(self, role: Role, before: str = "", after: str = "") -> tuple[Synth, Synth]:
        self.made.append(before)
        return Synth((901,), "frame"), Synth((902,), "frame")

    def thoughts(self, ids: Ids, when: Literal["past", "recent"]) -> tuple[tuple[int, int], ...]:
        return ((0, 1),) if when == "past" and len(ids) > 1 else ()


def played(turns: int) -> Log:
    """Task 0, then per turn k: said 10 + k, heard 20 + k."""
    log = Log()
    log.append("task", (0,), "env")
    for turn in range(turns):
        log.append("model", (10 + turn,), "policy", turn=turn)
        log.append("observation", (20 + turn,), "env", turn=turn)
    return log


def answered(texts: Sequence[str]) -> Log:
    """As `played`, one turn a text, which is what the world answered."""
    log = Log()
    log.append("task", (0,), "env", messages=(Message("user", "find the key"),))
    for turn, text in enumerate(texts):
        log.append("model", (10 + turn,), "policy", turn=turn)
        message = Message("tool", text)
        log.append("observation", (20 + turn,), "env", turn=turn, messages=(message,))
    return log


def shown(view: View, log: Log) -> list[int]:
    ids: list[int] = []
    for item in view.items:
        if isinstance(item, Synth):
            ids += item.token_ids
        else:
            assert isinstance(item, Ref)
            ids += log[item.event].token_ids[item.start : item.end]
    return ids


class Told:
    """A memory in an episode: tell it boundaries, read its view as numbers.

    `writes` are what a model writes when asked, in turn: text, or None for nothing usable; the
    k-th written note is the id 700 + k and an end token 1. `asked` are the prompts, as numbers.
    """

    def __init__(
        self,
        memory: Memory,
        log: Log,
        writes: Sequence[str | None] = (),
        store: Snapshot | None = None,
        scorer: Any = None,
    ) -> None:
        self.memory, self.log, self.kit = memory, log, Kit(store, scorer)
        self.writes, self.asked = list(writes), list[list[int]]()
        self.purposes: list[str] = []
        self.state: Any = memory.start(log, self.kit)

    def __call__(self, at: At, used: int = 0, **more: Any) -> Any:
        boundary = Boundary(at, used, **more)
        self.state = asyncio.run(self.memory.on(boundary, self.log, self.state, self.ask))
        return self.state

    async def ask(self, purpose: str, view: View, max_tokens: int, by: str = "policy") -> Any:
        self.asked.append(shown(view, self.log))
        self.purposes.append(purpose)
        text = self.writes.pop(0)
        if text is None:
            return None
        note = (700 + len(self.asked), 1)
        message = Message("assistant", text)
        turn = 90 + len(self.asked)
        return self.log.append(
            "memory", note, "policy", turn=turn, messages=(message,), finish=Finish.STOP
        )

    def view(self) -> list[int]:
        return shown(self.memory.view(self.log, self.state), self.log)

    def says(self, turn: int, text: str = "", call: ToolCall | None = None) -> Event:
        """A turn: said 10 + turn."""
        message = Message("assistant", text, tool_calls=(call,) if call else ())
        event = self.log.append(
            "model", (10 + turn,), "policy", turn=turn, messages=(message,), finish=Finish.STOP
        )
        self(At.AFTER_MODEL, event=event)
        return event

    def hears(self, turn: int, text: str = "", name: str = "") -> None:
        """Its answer: heard 20 + turn."""
        message = Message("tool", text, name=name)
        self.log.append("observation", (20 + turn,), "env", turn=turn, messages=(message,))
        self(At.AFTER_TOOL)

    def plays(self, turn: int, text: str = "", answer: str = "") -> None:
        """Said and answered."""
        self.says(turn, text)
        self.hears(turn, answer)

    def calls(self, turn: int, name: str, **arguments: Any) -> str:
        """A turn that calls a tool of the memory; returns its reply."""
        call = ToolCall(name, json.dumps(arguments), "call_0")
        self.says(turn, call=call)
        reply = self(At.MEMORY_TOOL, call=call).reply
        self.hears(turn, reply, name)
        return reply
