"""A quick world with many tools, and a policy that plays every role of a scaffold."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any

import foldgym
from foldgym.agents.renderers import ChatMLRenderer, CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.agents.stage import Scaffold
from foldgym.envs.worker import open_worker
from foldgym.memory import FullHistory
from foldgym.testing.doubles import ByteTokenizer, HashPolicy
from foldgym.tools import tool
from foldgym.types import (
    Budget,
    Group,
    Ids,
    Memory,
    Message,
    Policy,
    Prompt,
    Request,
    Reward,
    Sampling,
)

RENDERERS = {"compact": CompactRenderer, "chatml": ChatMLRenderer}


class Errands(foldgym.ToolEnv):
    """Buy what is asked for, then hand it over."""

    def setup(self, rng: random.Random) -> str:
        self.wanted = rng.choice(["milk", "bread", "salt"])
        self.bag = ""
        return f"bring {self.wanted}"

    @tool
    def buy(self, thing: str) -> str:
        """Buy a thing in the shop.

        Args:
            thing: what to buy
        """
        if thing not in ("milk", "bread", "salt"):
            return f"error: the shop has no {thing!r}"
        self.bag = thing
        return f"you have {thing}"

    @tool
    def look(self) -> str:
        """Look around at the weather."""
        return "rain, " * 30

    @tool
    def answer(self, text: str) -> str:
        """Hand over what you have, with a word."""
        self.finish(float(self.bag == self.wanted))
        return "thank you"

    def respond(self, message: Message) -> str:
        """Talk costs nothing."""
        return "yes?"


class Troupe(HashPolicy):
    """Says for each purpose something that could be meant: verdicts, strategies, errors, text."""

    def say(self, prompt: Prompt, rng: random.Random) -> Ids:
        """Ids of one message."""
        made = {
            "review": lambda: rng.choice(["A fine", "B wrong place", "Failed, no", "C", ""]),
            "guide": lambda: json.dumps({"steps": self._steps(rng)}),
            "inception": lambda: json.dumps({"error": rng.choice(["none", "misread"])}),
            "plan": lambda: rng.choice(["buy it", "buy it\nhand it over"]),
            "verify": lambda: rng.choice(["right", "wrong", "?"]),
        }.get(prompt.purpose)
        if made is None or rng.random() < self.garbage:
            return super().say(prompt, rng)
        return self.renderer.say(Message("assistant", made()), ())

    def _steps(self, rng: random.Random) -> list[dict[str, Any]]:
        steps = [
            {"op": "sample", "n": rng.randint(1, 3)},
            {"op": "refine"},
            {"op": "verify"},
            {"op": "vote"},
            {"op": "tools", "turns": 2},
            {"op": "sing"},
        ]
        return rng.sample(steps, rng.randint(0, 4))


def staged(
    policy: Policy,
    scaffold: Callable[[], Scaffold],
    seed: int = 0,
    n: int = 1,
    memory: Callable[[], Memory] = FullHistory,
    world: Callable[[], foldgym.Env] = Errands,
    request: Request | None = None,
    **more: Any,
) -> Group:
    """One group on the quick world."""
    how = {
        "renderer": CompactRenderer(ByteTokenizer()),
        "sampling": Sampling(max_tokens=80),
        "budget": Budget(max_context=2600, reserve=100, soft=0.3),
        "limits": Limits(max_turns=5),
        "retries": 0,
    } | more
    (group,) = asyncio.run(
        rollout(
            [request or Request("errands", seed, n)],
            lambda request: open_worker(world, "inline", 30.0),
            policy,
            Rollout(memory=memory, scaffold=scaffold, **how),
            seed,
            lambda trajectory: Reward(trajectory.facts["score"], trajectory.facts["score"]),
        )
    )
    return group
