"""Prefilled episodes after QWeb: the expert has played the first part, the agent goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from foldgym.envs.transforms.base import Inner, Knob, Play, Transform, played
from foldgym.envs.transforms.gold import replay
from foldgym.errors import UserError
from foldgym.types import Json, Message, Task


@dataclass(slots=True)
class Filled(Play):
    """How many turns were played beforehand, of how many, and what they had scored."""

    played: int = 0
    whole: int = 0
    head: float = 0.0


class Prefill(Transform[Filled]):
    """The world's expert plays all but the last part at the start; the prompt shows it as history.

    `fraction` is the share of the expert's turns that is left to the agent, 1 for all of them; or
    `left` says how many turns are left. At least one is. The score counts the rest alone: 0 is what
    the prefilled part had scored already, 1 stays 1. The curriculum is to leave more and more.
    """

    knob = Knob("fraction", (1.0, 0.75, 0.5, 0.25, 0.0), 0.0, 1.0, "less is left to do", "easier")
    play_type = Filled

    def __init__(self, env: Inner, fraction: float = 1.0, left: int = 0) -> None:
        super().__init__(env, fraction=fraction, left=left)
        if left and fraction != 1.0:
            raise UserError(f"give left or fraction, not both: {left} and {fraction}")
        if left < 0:
            raise UserError(f"left must be 0 (all turns) or more, not {left}")
        self.fraction, self.left = fraction, left
        self.off = self.off and not left

    def begin(self, now: Filled) -> Task:
        """Find out how long the expert plays, then play its first part again."""
        gold = replay(self.env, now.seed, now.options, "prefill")
        now.whole = gold.turns
        left = self.left or max(1, math.ceil(self.fraction * gold.turns))
        now.played = max(0, gold.turns - left)
        self.env.reset(seed=now.seed, options=dict(now.options))
        task: Task = self._inner("task")
        history: list[Message] = list(task.prompt)
        for message in gold.messages[: now.played]:
            history += [message, *played(self.env, message).observation]
        now.head = float(self._inner("measure")()["score"])
        return replace(task, prompt=tuple(history))

    def facts(self, now: Filled, inner: dict[str, Json]) -> dict[str, Json]:
        """`prefilled` and `left`, in turns, and the score of the rest."""
        score = float(inner["score"])
        if now.head < 1.0:
            score = (score - now.head) / (1.0 - now.head)
        return {"score": score, "prefilled": now.played, "left": now.whole - now.played}
