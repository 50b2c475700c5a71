"""Rollout wall time against environment latency, and what one hung and one raising member cost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any

import foldgym
from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Rollout, rollout
from foldgym.agents.tasks import run_to_end
from foldgym.envs.base import Env
from foldgym.envs.worker import open_worker
from foldgym.memory import FullHistory
from foldgym.testing.doubles import ByteTokenizer
from foldgym.types import EnvHandle, Group, Request, Reward

TURNS, LATENCY = 4, 0.1
BUDGET = 1.0


class Slow(foldgym.ToolEnv):
    """Every call takes `LATENCY` seconds; `trouble` hangs or raises at the first."""

    trouble = ""

    def setup(self, rng: random.Random) -> str:
        return "wait"

    @foldgym.tool
    def wait(self) -> str:
        """Wait."""
        if self.trouble == "hang":
            threading.Event().wait()
        if self.trouble == "raise":
            raise RuntimeError("on purpose")
        time.sleep(LATENCY)
        if self.turn == TURNS:
            self.finish(1.0)
        return "waited"


def play(n: int, make: Callable[[int], Env], budget: float) -> tuple[float, Group]:
    places = iter(range(n))

    def open_env(request: Request) -> EnvHandle:
        place = next(places)
        return open_worker(lambda: make(place), "thread", budget)

    how = Rollout(CompactRenderer(ByteTokenizer()), FullHistory, retries=0)
    policy = FunctionPolicy(lambda prompt, rng: "wait")
    started = time.perf_counter()
    (group,) = run_to_end(
        rollout([Request("slow", 0, n)], open_env, policy, how, 0, lambda t: Reward(1.0, 1.0))
    )
    return time.perf_counter() - started, group


def troubled(place: int) -> Env:
    env = Slow()
    env.trouble = {2: "hang", 5: "raise"}.get(place, "")
    return env


def run() -> dict[str, Any]:
    ideal = TURNS * LATENCY
    found: dict[str, Any] = {"turns": TURNS, "latency_seconds": LATENCY, "ideal_seconds": ideal}
    for n in (16, 64):
        seconds = min(play(n, lambda place: Slow(), 30.0)[0] for _ in range(3))
        found[f"{n} episodes"] = {
            "seconds": round(seconds, 3),
            "of_ideal": round(seconds / ideal, 2),
        }
    seconds, group = play(16, troubled, BUDGET)
    found["16 episodes, one hangs, one raises"] = {
        "seconds": round(seconds, 3),
        "env_budget_seconds": BUDGET,
        "finished": len(group.trajectories),
        "failures": ", ".join(sorted(each.error.partition(":")[0] for each in group.failures)),
    }
    return found
