"""Steps per second of the number-guessing world: raw, through tool calls, and vectorised."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium

import foldgym
from foldgym.envs import registry
from foldgym.envs.vector import IsolatedVectorEnv
from foldgym.tools import call

NAME = "foldgym/GuessNumber-v0"
SECONDS = 1.5
MEMBERS = 16


class Plain(gymnasium.Env[str, str]):
    """The same game as bare Gymnasium with text, to say what the messages cost."""

    def __init__(self) -> None:
        self.action_space = gymnasium.spaces.Text(8)
        self.observation_space = gymnasium.spaces.Text(16)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.secret = int(self.np_random.integers(1, 101))
        return "guess", {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        number = int(action)
        right = number == self.secret
        said = "yes" if right else "higher" if number < self.secret else "lower"
        return said, float(right), right, False, {}


def rate(env: gymnasium.Env[Any, Any], action: Any) -> float:
    """Steps per second with one action that never ends the game."""
    env.reset(seed=1)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        for _ in range(100):
            over = env.step(action)
            if over[2] or over[3]:
                env.reset(seed=1)
        steps += 100
    return steps / (time.perf_counter() - started)


def vector_rate(make: Callable[[], Any], action: Any) -> float:
    env = make()
    env.reset(seed=1)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        for _ in range(20):
            env.step(tuple([action] * MEMBERS))
        steps += 20 * MEMBERS
    taken = time.perf_counter() - started
    env.close()
    return steps / taken


def run() -> dict[str, Any]:
    message = call("guess", number=1)
    maker = registry.maker(NAME)
    rates = {
        "bare Gymnasium, text": rate(Plain(), "1"),
        "foldgym, Message with a tool call": rate(foldgym.make(NAME), message),
        "foldgym, text": rate(foldgym.make(NAME), "guess 1"),
        "foldgym through gymnasium.make": rate(gymnasium.make(NAME), message),
    }
    for isolation in ("thread", "process"):
        rates[f"foldgym vector of {MEMBERS}, {isolation}"] = vector_rate(
            lambda: IsolatedVectorEnv([maker] * MEMBERS, isolation=isolation, budget=30.0),  # noqa: B023
            message,
        )
    return {"steps_per_second": {name: round(value) for name, value in rates.items()}}
