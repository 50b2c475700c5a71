"""Memories that cut turns out of the past: by rule, or because the policy asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from foldgym.memory.calls import offer, read, speaking
from foldgym.memory.views import Stateless, answers, refs, task_of, turns_of
from foldgym.types import Ask, At, Boundary, Event, Kit, Log, Message, Ref, Synth, Tool, View

PRUNE = offer(
    "prune_context",
    "Remove earlier turns by their ids; `memory` is what you keep of them.",
    {"memory": "string", "ids": {"type": "array", "items": {"type": "string"}}},
)


class ErrorPrune(Stateless):
    """All turns, but of failed turns in a row that ended in a success only the last.

    A turn failed if an answer to it starts with one of `marks`. Turns whose success is still to
    come all stay. Source: the history cleaning of Datarus (memory spec A13).
    """

    def __init__(self, marks: tuple[str, ...] = ("error:",)) -> None:
        if not marks or not all(marks):
            raise ValueError(f"ErrorPrune needs marks that are not empty, not {marks!r}")
        self.marks = marks

    def view(self, log: Log, state: object) -> View:
        """A subsequence of the full history."""
        turns = turns_of(log)
        failed = [self._failed(turn) for turn in turns]
        settled = max((place for place, bad in enumerate(failed) if not bad), default=0)
        kept = [
            turn
            for place, turn in enumerate(turns)
            if place >= settled or not (failed[place] and failed[place + 1])
        ]
        return View((*task_of(log), *refs(kept)))

    def _failed(self, turn: Sequence[Event]) -> bool:
        texts = [message.text for event in answers(turn) for message in event.messages]
        return any(text.startswith(self.marks) for text in texts)


@dataclass(frozen=True, slots=True)
class Edited:
    """State of `MemoryEdit`: labelled turns, in order (the first has id 1), and removed turns."""

    kit: Kit
    labels: tuple[tuple[int, Synth], ...] = ()
    dead: frozenset[int] = frozenset()
    prunes: frozenset[int] = frozenset()
    reply: str = ""


class MemoryEdit:
    """A tool `prune_context(memory, ids)` with which the policy removes turns.

    Every answered turn shows a label `[id 3]` before its answer. A prune removes whole turns, calls
    with their results, whose label is exactly one of `ids`; one unknown id and nothing is removed.
    The turn of a prune stays (its `memory` is what survives) and so has no id. Source: Memory as
    Action (memory spec A4), without its matching of ids inside text and its second training of
    what earlier segments trained.
    """

    rewrites = True

    def tools(self) -> tuple[Tool, ...]:
        """`prune_context`."""
        return (PRUNE,)

    def start(self, log: Log, kit: Kit) -> Edited:
        """Nothing labelled, nothing removed."""
        return Edited(kit)

    def view(self, log: Log, state: Edited) -> View:
        """What lives, each answer behind its label."""
        labels = dict(state.labels)
        items: list[Ref | Synth] = []
        for turn in turns_of(log):
            if (number := turn[0].turn) in state.dead:
                continue
            said = [Ref(event.id) for event in turn if event.kind == "model"]
            heard = refs([answers(turn)])
            items += [*said, *([labels[number]] if number in labels else []), *heard]
        return View((*task_of(log), *items))

    async def on(self, boundary: Boundary, log: Log, state: Edited, ask: Ask) -> Edited:
        """Labels an answered turn; removes turns when told to."""
        if boundary.at is At.AFTER_TOOL and speaking(log) not in state.prunes:
            name = f"[id {len(state.labels) + 1}]"
            label = state.kit.synth(Message("user", name), "label")
            return replace(state, labels=(*state.labels, (speaking(log), label)))
        if boundary.at is At.MEMORY_TOOL and boundary.call:
            given, problem = read(PRUNE, boundary.call)
            turn_of = {str(place + 1): turn for place, (turn, _) in enumerate(state.labels)}
            ids = [str(each) for each in given.get("ids", ())]
            alive = [each for each in turn_of if turn_of[each] not in state.dead]
            unknown = [each for each in ids if each not in alive]
            if not problem and not (ids and given["memory"].strip()):
                problem = "error: prune_context: memory and ids must not be empty"
            if not problem and unknown:
                problem = f"error: nothing removed; there is no id {unknown[0]!r}"
            if problem:
                return replace(state, reply=problem)
            dead = state.dead | {turn_of[each] for each in ids}
            prunes = state.prunes | {speaking(log)}
            return replace(state, dead=dead, prunes=prunes, reply=f"removed {len(set(ids))}")
        return state
