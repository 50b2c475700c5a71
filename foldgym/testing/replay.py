"""An episode of a memory, written down and lived through again: every view must come back equal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from foldgym.types import Ask, Boundary, Event, Kit, Log, Memory, Ref, View


@dataclass(slots=True)
class Asked:
    """A question of the memory: what it was, what came back, how long the log was then."""

    question: tuple[str, View, int, str]
    answer: Event | None = None
    events: int = 0


@dataclass(slots=True)
class Told:
    """A moment the memory was told of, when the log had `events`, and what it asked."""

    boundary: Boundary
    events: int
    asked: list[Asked] = field(default_factory=list[Asked])


@dataclass(frozen=True, slots=True)
class Seen:
    """A view, when the log had `events`."""

    view: View
    events: int


class Recorded:
    """A memory with every moment and view written down, and every view looked at.

    `problems` are promises it broke: a view that differs when asked twice or changes the log, and
    an answer that is shown without the call it answers.
    """

    def __init__(self, inner: Memory) -> None:
        self.inner = inner
        self.problems: list[str] = []
        self.log = Log()
        self.kit: Kit | None = None
        self._moments: list[Told | Seen] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)  # whatever else a memory may have

    @property
    def rewrites(self) -> bool:
        """As the inner memory."""
        return self.inner.rewrites

    def tools(self) -> Any:
        """The inner memory's."""
        return self.inner.tools()

    def start(self, log: Log, kit: Kit) -> Any:
        """Keeps the log and the kit for the replay."""
        self.log, self.kit = log, kit
        return self.inner.start(log, kit)

    def view(self, log: Log, state: Any) -> View:
        """The inner view."""
        before = len(log)
        view = self.inner.view(log, state)
        if self.inner.view(log, state) != view or len(log) != before:
            self.problems.append("view is not pure: asked twice, it differs or changes the log")
        shown = {item.event for item in view.items if isinstance(item, Ref)}
        spoken = {log[event].turn for event in shown if log[event].kind == "model"}
        orphans = [e for e in shown if log[e].kind == "observation" and log[e].turn not in spoken]
        if orphans:
            self.problems.append(f"event {orphans[0]} is shown without the call it answers")
        self._moments.append(Seen(view, len(log)))
        return view

    async def on(self, boundary: Boundary, log: Log, state: Any, ask: Ask) -> Any:
        """Tells the inner memory, and writes down what it asks."""
        told = Told(boundary, len(log))

        async def asking(
            purpose: str, view: View, max_tokens: int, by: Literal["policy", "aux"] = "policy"
        ) -> Event | None:
            asked = Asked((purpose, view, max_tokens, by))
            told.asked.append(asked)
            asked.answer = await ask(purpose, view, max_tokens, by)
            asked.events = len(log)
            return asked.answer

        state = await self.inner.on(boundary, log, state, asking)
        self._moments.append(told)  # views seen in between still had the old state
        return state

    async def replay(self, make: Callable[[], Memory]) -> list[str]:
        """What a new memory does differently when told the same log; empty if nothing.

        It gets the same kit, and to its questions the answers that came back the first time.
        """
        if self.kit is None:
            return []
        memory, log = make(), Log(self.log[:1])
        state = memory.start(log, self.kit)
        problems: list[str] = []
        for number, moment in enumerate(self._moments):
            if isinstance(moment, Seen):
                if memory.view(Log(self.log[: moment.events]), state) != moment.view:
                    problems.append(f"moment {number}: told the same log, the view differs")
                continue
            self._play(log, moment.events)
            left = list(moment.asked)
            state = await memory.on(moment.boundary, log, state, self._answering(log, left))
            if left:
                problems.append(f"moment {number}: other questions are asked")
        return problems

    def _answering(self, log: Log, left: list[Asked]) -> Ask:
        """Gives the recorded answers; what was `left` unasked stays, and so does what is new."""

        async def ask(
            purpose: str, view: View, max_tokens: int, by: Literal["policy", "aux"] = "policy"
        ) -> Event | None:
            question = (purpose, view, max_tokens, by)
            await asyncio.sleep(0)
            for asked in left:
                if asked.question == question:
                    left.remove(asked)
                    self._play(log, asked.events)
                    return asked.answer
            left.append(Asked(question))
            return None

        return ask

    def _play(self, log: Log, events: int) -> None:
        """Lets happen again what happened, up to so many events."""
        for event in self.log[len(log) : events]:
            log.append(
                event.kind,
                event.token_ids,
                event.source,
                turn=event.turn,
                messages=event.messages,
                finish=event.finish,
            )
