"""A reminder of the task: every few turns, or when the policy drifts from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from foldgym.errors import ConfigError
from foldgym.memory.views import refs, task_of, turns_of
from foldgym.memory.wrapping import Wrapped, Wrapper
from foldgym.types import Ask, At, Boundary, Event, Kit, Log, Memory, Message, Ref, Synth, View

REMINDER = "Remember what you were asked: "
EVERY = 4


@dataclass(frozen=True, slots=True)
class Reminded(Wrapped):
    """State of `Reminder`: what is said, and by turn the divergence of each id said in it."""

    kit: Kit
    reminder: Synth
    drifts: Mapping[int, tuple[float, ...]]

    @property
    def numbers(self) -> Mapping[str, float]:
        """The mean of D_t over turns, if it is measured, and the inner memory's counters."""
        inner = getattr(self.inner, "numbers", {})
        mean = {"drift": fmean(map(fmean, self.drifts.values()))} if self.drifts else {}
        return {**inner, **mean}


class Reminder(Wrapper):
    """Any memory, with a reminder of the task behind some of the turns that it shows.

    Behind every `every`-th (4), or behind each whose drift D_t is larger than `drift`: the mean
    over its ids of `divergence` between the policy in the view it had and with only the task and
    the newest answer before it. That takes a policy that reads probabilities (`types.Scorer`), and
    two forward passes a turn.

    `text` is what is said; left empty it is the task's last message. Reminders have fixed places,
    so around a memory that only appends the view still only appends. Their ids are never trained.
    Source: Drift No More (memory spec A10), interventions at chosen turns and past a threshold.
    """

    def __init__(
        self,
        inner: Memory | str = "full",
        every: int | None = None,
        text: str = "",
        drift: float | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(inner, options)
        if every is not None and drift is not None:
            raise ValueError(f"Reminder takes every={every} or drift={drift}, not both")
        if (every is not None and every < 1) or (drift is not None and not drift >= 0):
            raise ValueError(
                f"Reminder needs every >= 1, or drift >= 0, not every={every}, drift={drift}"
            )
        self.every = EVERY if every is None else every
        self.text, self.drift = text, drift

    def start(self, log: Log, kit: Kit) -> Reminded:
        """Writes the reminder once. Raises `ConfigError` if drift cannot be measured."""
        if self.drift is not None and kit.scorer is None:
            raise ConfigError(
                f"memory: a reminder with drift = {self.drift:g} needs a policy that reads "
                "probabilities, and this one does not (it is no foldgym.types.Scorer); use "
                "every = 4, say, instead"
            )
        asked = [message.text for event in log for message in event.messages]
        text = self.text or REMINDER + (asked[-1] if asked else "")
        reminder = kit.synth(Message("user", text), "reminder")
        return Reminded(self.inner.start(log, kit), kit, reminder, {})

    def view(self, log: Log, state: Reminded) -> View:
        """The inner view; a reminder behind the last item of each turn that is due."""
        inner = self.inner.view(log, state.inner)
        spoken = list(dict.fromkeys(event.turn for event in log if event.kind == "model"))
        if self.drift is None:
            due = set(spoken[self.every - 1 :: self.every])
        else:
            due = {turn for turn, terms in state.drifts.items() if fmean(terms) > self.drift}
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
        """Measures what was said, before the inner memory hears of it."""
        event = boundary.event
        if self.drift is not None and boundary.at is At.AFTER_MODEL and event is not None:
            state = self._measured(event, log, state)
        return replace(state, inner=await self.inner.on(boundary, log, state.inner, ask))

    def _measured(self, event: Event, log: Log, state: Reminded) -> Reminded:
        if event.source != "policy" or not event.token_ids or state.kit.scorer is None:
            return state
        before = Log(log[: event.id])
        turns = turns_of(before)
        begun = [turns.pop()] if turns and turns[-1][0].turn == event.turn else []
        fresh = View((*task_of(before), *refs(turns[-1:]), *refs(begun)), open_turn=bool(begun))
        others = {turn: terms for turn, terms in state.drifts.items() if turn != event.turn}
        shown = self.view(before, replace(state, drifts=others))
        actual = replace(shown, open_turn=bool(begun), max_tokens=0)
        if fresh == actual:
            terms = (0.0,) * len(event.token_ids)
        else:
            score = state.kit.scorer
            pairs = zip(score(fresh, event.token_ids), score(actual, event.token_ids), strict=True)
            terms = tuple(divergence(anew, here) for anew, here in pairs)
        terms = (*state.drifts.get(event.turn, ()), *terms)
        return replace(state, drifts={**state.drifts, event.turn: terms})


def divergence(fresh: float, actual: float) -> float:
    """r - 1 - log r with r = p_fresh / p_actual, from log-probs of one id; 0 where they agree.

    Never negative; over ids sampled in the actual context its mean is KL(actual || fresh).
    """
    return math.expm1(fresh - actual) - (fresh - actual)
