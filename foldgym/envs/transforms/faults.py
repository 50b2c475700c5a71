"""Faults in tools: calls that fail, time out, or bring cut or garbled results, by seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from foldgym.envs.transforms.base import Inner, Knob, Play, Transform
from foldgym.errors import UserError
from foldgym.types import Json, Message, Step, Task, ToolCall

Kind: TypeAlias = Literal["error", "timeout", "truncated", "garbled"]
KINDS: tuple[Kind, ...] = ("error", "timeout", "truncated", "garbled")
_LOST: dict[str, str] = {
    "error": "error: {name} failed: service unavailable (503)",
    "timeout": "error: {name} timed out after 30 s without a result",
}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(slots=True)
class Faulty(Play):
    """Faults so far; `stuck` holds how often a tool will still fail, and how."""

    kinds: dict[str, int] = field(default_factory=dict[str, int])
    stuck: dict[str, tuple[Kind, int]] = field(default_factory=dict[str, "tuple[Kind, int]"])
    waiting: dict[str, int] = field(default_factory=dict[str, int])
    recovered: int = 0


class Faults(Transform[Faulty]):
    """Each call of a tool goes wrong with probability `p`, for `sticky` calls of that tool.

    A call that fails or times out never reaches the world, and costs the agent a turn; one with a
    truncated or garbled result did. A fault is recovered once a later call of the tool goes well.
    Members of a group meet different faults. Let this be the last of several transforms.
    """

    knob = Knob("p", (0.0, 0.05, 0.1, 0.2, 0.4), 0.0, 0.9, "calls have to be repeated")
    play_type = Faulty

    def __init__(
        self, env: Inner, p: float = 0.1, kinds: tuple[Kind, ...] = KINDS, sticky: int = 1
    ) -> None:
        super().__init__(env, p=p, kinds=kinds, sticky=sticky)
        for kind in kinds:
            if kind not in KINDS:
                raise UserError(f"a kind of fault is one of {', '.join(KINDS)}, not {kind!r}")
        if not kinds or not 1 <= sticky <= 20:
            raise UserError(f"faults need a kind and sticky from 1 to 20, not {kinds}, {sticky}")
        self.p, self.kinds, self.sticky = p, tuple(kinds), sticky

    def longer(self, turns: int) -> int:
        """Twice what the faults cost on average."""
        return turns + int(2 * turns * self.sticky * self.p / (1 - self.p)) + 1

    def begin(self, now: Faulty) -> Task:
        """The task of the world."""
        self.env.reset(seed=now.seed, options=dict(now.options))
        return self._inner("task")

    def respond(self, now: Faulty, message: Message) -> Step:
        """Play the calls that get through, and spoil some of their results."""
        names = {each.name for each in self.tools}
        struck: dict[int, Kind] = {}
        for place, each in enumerate(message.tool_calls):
            kind = self._strikes(now, each) if each.name in names else None
            if kind:
                struck[place] = kind
        own = {
            place: _LOST[kind].format(name=message.tool_calls[place].name)
            for place, kind in struck.items()
            if kind in _LOST
        }
        step = self.within(message, own)
        if step.terminated or step.truncated:  # nobody will read these results
            struck = {place: kind for place, kind in struck.items() if place in own}
        self._count(now, message.tool_calls, struck)
        observation = list(step.observation)
        for place, kind in struck.items():
            if kind not in _LOST and place < len(observation):
                text = _spoilt(observation[place].text, kind, now.rng)
                observation[place] = replace(observation[place], content=text)
        info = {**step.info, "faults": list(struck.values())} if struck else step.info
        return step._replace(observation=tuple(observation), info=info)

    def _strikes(self, now: Faulty, call: ToolCall) -> Kind | None:
        """The fault of this call, if it has one."""
        chance, drawn = now.rng.random(), now.rng.choice(self.kinds)  # always both
        kind, left = now.stuck.get(call.name, (drawn, 0))
        if not left and chance < self.p:
            kind, left = drawn, self.sticky
        if not left:
            return None
        now.stuck[call.name] = (kind, left - 1)
        return kind

    def _count(self, now: Faulty, calls: Sequence[ToolCall], struck: Mapping[int, Kind]) -> None:
        """Faults wait for a call of the same tool that goes well."""
        for place, each in enumerate(calls):
            if place in struck:
                now.kinds[struck[place]] = now.kinds.get(struck[place], 0) + 1
                now.waiting[each.name] = now.waiting.get(each.name, 0) + 1
            else:
                now.recovered += now.waiting.pop(each.name, 0)

    def facts(self, now: Faulty, inner: dict[str, Json]) -> dict[str, Json]:
        """`faults`, how many were `recovered`, and `fault_kinds`."""
        count = sum(now.kinds.values())
        kinds = {kind: now.kinds.get(kind, 0) for kind in self.kinds}
        return {"faults": count, "recovered": now.recovered, "fault_kinds": kinds}


def _spoilt(text: str, kind: Kind, rng: random.Random) -> str:
    """Half of a text, or a text in which every second letter, on average, is another one.

    >>> _spoilt("home of tusmol", "truncated", random.Random(0))
    'home of [cut off: 7 of 14 characters]'
    """
    if kind == "truncated":
        return f"{text[: len(text) // 2]}[cut off: {len(text) // 2} of {len(text)} characters]"
    return "".join(
        rng.choice(_LETTERS) if each.isalnum() and rng.random() < 0.5 else each for each in text
    )


def recovery_rate(facts: Sequence[dict[str, Json]]) -> float | None:
    """The share of all faults of some episodes that were recovered; None without any fault."""
    count = sum(int(each["faults"]) for each in facts)
    return sum(int(each["recovered"]) for each in facts) / count if count else None
