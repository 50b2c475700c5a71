"""DeepAgent's autonomous folding: three JSON memories take the place of all that was played."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from foldgym.memory.calls import offer
from foldgym.memory.schemas import SHAPES, Shape, describe, shapes_for, wrong
from foldgym.memory.views import refs, task_of, turns_of
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

FOLD = offer("fold_thought", "Fold all you did so far into your memory and go on from there.", {})
HINT = "To fold all you did so far into your memory and go on from there, say {}"
ASKED = {
    "episode": "Write down what happened so far as one JSON object of this form: ",
    "working": "Write down where you stand and what comes next as one JSON object of this form: ",
    "tool": "Write down what you learned about the tools as one JSON object of this form: ",
}


@dataclass(frozen=True, slots=True)
class DeepFolded:
    """State of `DeepAgentFold`: what came before event `base` lives on only in `memories`."""

    kit: Kit
    shapes: Mapping[str, Shape]
    instructions: dict[str, Synth]
    frames: dict[str, tuple[Synth, Synth]]
    memories: dict[str, Ref] = field(default_factory=dict[str, Ref])
    hint: tuple[Synth, ...] = ()
    base: int = 0
    folds: int = 0
    failed: int = 0
    wanted: bool = False
    reply: str = ""


class DeepAgentFold:
    """Task, the three memories (events, work, tools), and the turns since the last fold.

    Folds when the policy asks for it (`trigger="marker"`), when the view passes the budget's soft
    limit (`"pressure"`), or at both; at most `max_folds` times, refused folds counted: then asking
    brings a notice and nothing else. The policy asks with the tool `fold_thought`, or by saying
    `marker`, a stop string: its turn ends there. A line behind the task says which.

    The three are written at once. One that breaks its schema is written again once, with what was
    wrong. If it is still broken, `fallback="raw"` takes the text as it is and `"refuse"` leaves the
    memory as it was. A fold with nothing usable, or with more tokens than it replaces, changes
    nothing. New memories take the places of the old, which were in view when they were written.
    Source: DeepAgent (memory spec A1), with its hazards: memories unchecked or empty, tools blank
    in the prompt of the tool memory, insertion at an anchor inside the user's own text.
    """

    rewrites = True

    def __init__(
        self,
        max_folds: int = 3,
        trigger: Literal["marker", "pressure", "both"] = "both",
        max_tokens: int = 256,
        by: Literal["policy", "aux"] = "policy",
        fallback: Literal["raw", "refuse"] = "raw",
        marker: str = "",
    ) -> None:
        if max_folds < 1 or max_tokens < 1:
            raise ValueError(
                f"DeepAgentFold needs max_folds >= 1 and max_tokens >= 1, not "
                f"max_folds={max_folds}, max_tokens={max_tokens}"
            )
        if marker and trigger == "pressure":
            raise ValueError(f"DeepAgentFold: trigger='pressure' takes no marker, not {marker!r}")
        if marker and not marker.strip():
            raise ValueError(f"DeepAgentFold needs a marker of more than spaces, not {marker!r}")
        self.max_folds, self.max_tokens, self.trigger = max_folds, max_tokens, trigger
        self.by: Literal["policy", "aux"] = by
        self.fallback, self.marker = fallback, marker

    @property
    def stops(self) -> tuple[str, ...]:
        """The marker, if there is one."""
        return (self.marker,) if self.marker else ()

    @property
    def asks(self) -> tuple[str, ...]:
        """Purposes for which the policy writes."""
        return ("fold", "repair") if self.by == "policy" else ()

    def tools(self) -> tuple[Tool, ...]:
        """`fold_thought`, unless only pressure folds, or a marker asks for it."""
        return () if self.trigger == "pressure" or self.marker else (FOLD,)

    def start(self, log: Log, kit: Kit) -> DeepFolded:
        """Tokenises instructions and frames once. The tool memory's names the tools there are."""
        tools = [tool.name for tool in kit.tools]
        texts = {kind: ASKED[kind] + describe(shape) for kind, shape in SHAPES.items()}
        texts["tool"] += f" The tools are: {', '.join(tools) or 'none'}."
        made = {kind: kit.synth(Message("user", text), "fold") for kind, text in texts.items()}
        frames = {kind: kit.frame("user", f"Memory ({kind}): ") for kind in SHAPES}
        told = Message("user", HINT.format(self.marker))
        hint = (kit.synth(told, "marker"),) if self.marker else ()
        return DeepFolded(kit, shapes_for(tools), made, frames, hint=hint)

    def view(self, log: Log, state: DeepFolded) -> View:
        """Task, memory block, live turns."""
        block: list[Ref | Synth] = []
        for kind in SHAPES:
            if kind in state.memories:
                before, after = state.frames[kind]
                block += [before, state.memories[kind], after]
        return View((*task_of(log), *state.hint, *block, *refs(turns_of(log, state.base))))

    async def on(self, boundary: Boundary, log: Log, state: DeepFolded, ask: Ask) -> DeepFolded:
        """Takes the wish to fold; folds before the next turn."""
        spent = state.folds + state.failed >= self.max_folds
        marked = boundary.event is not None and boundary.event.finish is Finish.MARKER
        if boundary.at is At.MEMORY_TOOL or (boundary.at is At.AFTER_MODEL and marked):
            if spent:
                limit = f"error: memory was folded {self.max_folds} times and folds no more"
                return replace(state, reply=limit)
            return replace(state, wanted=True, reply="memory is folded before your next turn")
        soft = boundary.at is At.BEFORE_MODEL and boundary.used > state.kit.budget.soft_limit
        pressed = self.trigger != "marker" and (soft or boundary.at is At.PRESSURE)
        wanted = state.wanted and boundary.at is At.BEFORE_MODEL
        if spent or not (pressed or wanted) or not turns_of(log, state.base):
            return state
        return await self._fold(log, replace(state, wanted=False), ask)

    async def _fold(self, log: Log, state: DeepFolded, ask: Ask) -> DeepFolded:
        items, live = self.view(log, state).items, turns_of(log, state.base)
        notes = await asyncio.gather(*(self._write(kind, items, state, ask) for kind in SHAPES))
        written = zip(SHAPES, notes, strict=True)
        usable = {kind: _body(note) for kind, note in written if note is not None}
        memories = state.memories | usable
        gone = sum(len(event.token_ids) for turn in live for event in turn)
        old = sum(_size(ref, log) for ref in state.memories.values())
        if not usable or sum(_size(ref, log) for ref in memories.values()) > gone + old:
            return replace(state, failed=state.failed + 1)
        return replace(state, memories=memories, base=len(log), folds=state.folds + 1)

    async def _write(
        self, kind: str, items: tuple[Ref | Synth, ...], state: DeepFolded, ask: Ask
    ) -> Event | None:
        prompt = (*items, state.instructions[kind])
        note = await ask("fold", View(prompt), self.max_tokens, self.by)
        if note is None or not (problem := wrong(note.messages[0].text, state.shapes[kind])):
            return note
        opened, closed = state.kit.frame("assistant")
        told = state.kit.synth(Message("user", f"Write it again: {problem}."), "fold repair")
        again = View((*prompt, opened, _body(note), closed, told))
        repaired = await ask("repair", again, self.max_tokens, self.by)
        if repaired is not None and not wrong(repaired.messages[0].text, state.shapes[kind]):
            return repaired
        return (repaired or note) if self.fallback == "raw" else None


def _body(note: Event) -> Ref:
    """A written memory without its end token."""
    return Ref(note.id, 0, len(note.token_ids) - (note.finish is Finish.STOP))


def _size(ref: Ref, log: Log) -> int:
    return len(log[ref.event].token_ids[ref.start : ref.end])
