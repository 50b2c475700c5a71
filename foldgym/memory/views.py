"""Memories that only choose what to show: no state changes, no model calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from foldgym.types import Ask, Boundary, Event, Kit, Log, Message, Ref, Synth, Tool, View

PLACEHOLDER = Message("user", "[earlier result left out]")


def task_of(log: Log) -> tuple[Ref, ...]:
    """The task event, which every view shows."""
    return tuple(Ref(event.id) for event in log if event.kind == "task")


def turns_of(log: Log, start: int = 0) -> list[tuple[Event, ...]]:
    """Events from `start`, by turn: a model event with all that answered it.

    Cutting between these never parts a tool call from its result. Task and memory events are
    left out; they have their own place in a view.
    """
    played = [event for event in log[start:] if event.kind not in ("task", "memory")]
    return [tuple(events) for _, events in groupby(played, key=lambda event: event.turn)]


def refs(turns: Sequence[Sequence[Event]]) -> tuple[Ref, ...]:
    """Shows whole events again."""
    return tuple(Ref(event.id) for turn in turns for event in turn)


def answers(turn: Sequence[Event]) -> tuple[Event, ...]:
    """What came back in a turn; what was said may be several events, if it was cut and went on."""
    return tuple(event for event in turn if event.kind != "model")


class Stateless:
    """Base of memories whose view depends on the log alone."""

    rewrites = True

    def tools(self) -> tuple[Tool, ...]:
        """No tools of its own."""
        return ()

    def start(self, log: Log, kit: Kit) -> object:
        """No state."""
        return None

    async def on(self, boundary: Boundary, log: Log, state: object, ask: Ask) -> object:
        """Nothing ever changes."""
        return state


class FullHistory(Stateless):
    """Everything that happened, in order: exactly one segment an episode."""

    rewrites = False

    def view(self, log: Log, state: object) -> View:
        """The task and all events."""
        return View((*task_of(log), *refs(turns_of(log))))


class SlidingWindow(Stateless):
    """The task and the last `turns` turns, a call never without its result."""

    def __init__(self, turns: int = 4) -> None:
        if turns < 1:
            raise ValueError(f"SlidingWindow needs turns >= 1, not {turns}")
        self.turns = turns

    def view(self, log: Log, state: object) -> View:
        """The task and what the window holds."""
        return View((*task_of(log), *refs(turns_of(log)[-self.turns :])))


class OmitObservations(Stateless):
    """All turns, but only the last `keep` answers in full; older ones become one fixed line.

    Source: the observation trimming of TTI (memory spec 4.5).
    """

    def __init__(self, keep: int = 3) -> None:
        if keep < 1:
            raise ValueError(f"OmitObservations needs keep >= 1, not {keep}")
        self.keep = keep

    def start(self, log: Log, kit: Kit) -> Synth:
        """The placeholder, tokenised once."""
        return kit.synth(PLACEHOLDER, "omitted")

    def view(self, log: Log, state: object) -> View:
        """Old observations blanked."""
        assert isinstance(state, Synth)
        turns = turns_of(log)
        items = [blank(turn, state) for turn in turns[: -self.keep]]
        return View((*task_of(log), *sum(items, ()), *refs(turns[-self.keep :])))


def blank(turn: Sequence[Event], placeholder: Synth) -> tuple[Ref | Synth, ...]:
    """A turn whose observations are replaced by one placeholder."""
    spoken = tuple(Ref(event.id) for event in turn if event.kind == "model")
    return (*spoken, placeholder) if len(spoken) < len(turn) else spoken


@dataclass(frozen=True, slots=True)
class Squeezed:
    """What a squeeze did: the view that fits and how many turns it blanked and dropped."""

    view: View
    blanked: int
    dropped: int


def squeeze(
    view: View, log: Log, placeholder: Synth, fits: Callable[[View], bool]
) -> Squeezed | None:
    """The fallback when a memory makes no room (memory spec 4.7).

    Blanks observations from the oldest turn on, then drops whole turns from the oldest on; the
    newest observation goes last of all, since the next action answers it. Items that belong to no
    turn (the task, memory blocks) stay. None when even that does not fit.
    """
    turn_of_item = [_turn(item, log) for item in view.items]
    turns = sorted({turn for turn in turn_of_item if turn is not None})
    tries = [(turns[:count], turns[:0]) for count in range(1, len(turns))]
    tries += [(turns[:0], turns[:count]) for count in range(1, len(turns))]
    tries += [(turns[-1:], turns[:-1])] if turns else []
    for blanked, dropped in tries:
        items: list[Ref | Synth] = []
        for item, turn in zip(view.items, turn_of_item, strict=True):
            if turn is not None and turn in dropped:
                continue
            if turn in blanked and isinstance(item, Ref) and log[item.event].kind != "model":
                if items and items[-1] != placeholder:
                    items.append(placeholder)
            else:
                items.append(item)
        if fits(smaller := View(tuple(items), view.open_turn)):
            return Squeezed(smaller, len(blanked), len(dropped))
    return None


def _turn(item: Ref | Synth, log: Log) -> int | None:
    if isinstance(item, Synth):
        return None
    event = log[item.event]
    return None if event.kind in ("task", "memory") else event.turn
