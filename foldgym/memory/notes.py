"""Memories that the policy writes itself, in its ordinary turns: a state, or notes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from foldgym.memory.calls import offer, read, speaking
from foldgym.memory.views import Stateless, refs, task_of, turns_of
from foldgym.types import Ask, At, Boundary, Kit, Log, Message, Synth, Tool, View

STATE = "Only your last message and its answer stay in view: write down in it all you must keep."
CLEARED = "Earlier turns were cleared. Your notes and the newest turns are what is left."
NOTE = offer(
    "note",
    "Keep a note. It stays in view when earlier turns are cleared.",
    {"text": "string"},
)


class Mem1State(Stateless):
    """Task and newest turn: the message said last, thinking included, is the whole memory.

    A context never exceeds task + instruction + one message + its answer. Source: MEM1 (memory
    spec A2). Carried ids are shown again as they were sampled and trained where they were sampled,
    so none of MEM1's packed masks and none of its decoding and encoding.
    """

    def __init__(self, instruction: str = STATE) -> None:
        self.instruction = instruction

    def start(self, log: Log, kit: Kit) -> tuple[Synth, ...]:
        """The instruction, tokenised once; nothing if it is empty."""
        if not self.instruction:
            return ()
        return (kit.synth(Message("user", self.instruction), "instruction"),)

    def view(self, log: Log, state: object) -> View:
        """Task, instruction, newest turn."""
        assert isinstance(state, tuple)
        return View((*task_of(log), *state, *refs(turns_of(log)[-1:])))


@dataclass(frozen=True, slots=True)
class Noted:
    """State of `NotesAndClear`: of what came before event `base` only turns in `notes` live on."""

    notice: Synth
    base: int = 0
    notes: tuple[int, ...] = ()
    clears: int = 0
    reply: str = ""


class NotesAndClear:
    """A `note` tool; when `window` messages have gathered, all but notes and newest turns go.

    What stays of the past are the turns that called `note`, whole and by their exact ids, the last
    `notes` of them. Clears under hard pressure too, and then lets go of the oldest notes. Source:
    UltraHorizon's context reset (memory spec 4.5).
    """

    rewrites = True

    def __init__(self, window: int = 24, keep: int = 1, notes: int = 8) -> None:
        if window < 1 or keep < 0 or notes < 1:
            raise ValueError(
                f"NotesAndClear needs window >= 1, keep >= 0 and notes >= 1, not window={window}, "
                f"keep={keep}, notes={notes}"
            )
        self.window, self.keep, self.notes = window, keep, notes

    def tools(self) -> tuple[Tool, ...]:
        """`note <text>`."""
        return (NOTE,)

    def start(self, log: Log, kit: Kit) -> Noted:
        """No notes yet."""
        return Noted(kit.synth(Message("user", CLEARED), "cleared"))

    def view(self, log: Log, state: Noted) -> View:
        """Task, notice, turns with notes, turns since the last clearing."""
        if not state.clears:
            return View((*task_of(log), *refs(turns_of(log))))
        past = [turn for turn in turns_of(log) if turn[0].id < state.base]
        noted = [turn for turn in past if turn[0].turn in state.notes]
        return View((*task_of(log), state.notice, *refs(noted), *refs(turns_of(log, state.base))))

    async def on(self, boundary: Boundary, log: Log, state: Noted, ask: Ask) -> Noted:
        """Takes a note; clears when the window is full or nothing else makes room."""
        if boundary.at is At.MEMORY_TOOL and boundary.call:
            _, problem = read(NOTE, boundary.call)
            if problem:
                return replace(state, reply=problem)
            others = tuple(turn for turn in state.notes if turn != speaking(log))
            kept = (*others, speaking(log))[-self.notes :]
            return replace(state, notes=kept, reply="noted")
        live = turns_of(log, state.base)
        full = boundary.at is At.BEFORE_MODEL and sum(map(len, live)) >= self.window
        if len(live) > self.keep and (full or boundary.at is At.PRESSURE):
            base = live[len(live) - self.keep][0].id if self.keep else len(log)
            return replace(state, base=base, clears=state.clears + 1)
        if boundary.at is At.PRESSURE and state.clears and state.notes:
            return replace(state, notes=state.notes[1:])
        return state
