"""Gold replays: the world's own expert plays an episode through, as proof and as a yardstick."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foldgym.envs.transforms.base import Inner, played
from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.tools import parse_action
from foldgym.types import Action, Json, Message, Step

_LONGEST = 1000


@dataclass(frozen=True, slots=True)
class Gold:
    """What the expert said, what came back, and the facts at the end."""

    messages: tuple[Message, ...]
    steps: tuple[Step, ...]
    facts: Mapping[str, Json]

    @property
    def turns(self) -> int:
        """How many turns the expert needed."""
        return len(self.messages)


def replay(env: Inner, seed: int, options: Mapping[str, Json], who: str) -> Gold:
    """Reset `env` and let its best expert play to the end; reset it again before you use it.

    Raises `UserError` for a world without experts and for an expert who does not succeed.
    """
    experts: Sequence[str] = env.get_wrapper_attr("experts")
    if not experts:
        raise UserError(f"{who} needs a world with an expert, and this one has none")
    env.reset(seed=seed, options=dict(options))
    messages: list[Message] = []
    steps: list[Step] = []
    while not steps or not (steps[-1].terminated or steps[-1].truncated):
        if len(steps) == _LONGEST:
            break
        messages.append(advised(env, experts[0], seed, len(steps)))
        steps.append(played(env, messages[-1]))
    facts: dict[str, Json] = env.get_wrapper_attr("measure")()
    if not facts.get("success"):
        raise UserError(
            f"{who}: the expert {experts[0]!r} scores {facts.get('score')} on seed {seed}, so "
            "nothing proves that this task can be solved"
        )
    return Gold(tuple(messages), tuple(steps), facts)


def advised(env: Inner, style: str, seed: int, turn: int) -> Message:
    """What the expert says in this turn; its chance is that of seed and turn."""
    action: Action = env.get_wrapper_attr("expert")(style, generator(seed, "gold", turn))
    return as_message(env, action)


def as_message(env: Inner, action: Action) -> Message:
    """An expert's action, which may be text, as a message."""
    if isinstance(action, Message):
        return action
    return parse_action(action, env.get_wrapper_attr("tools")).message


def answered(message: Message, tool: str, parameter: str) -> Any:
    """What a message answers with `tool`; None if it does not, as other calls come first."""
    calls = [each for each in message.tool_calls if each.name == tool]
    if not calls or len(message.tool_calls) > 1:
        return None
    return json.loads(calls[0].arguments).get(parameter)
