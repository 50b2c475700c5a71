"""Bridges: Gymnasium's text games as worlds, worlds as text games."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import pytest
from gymnasium.spaces import Box, Discrete, Text
from gymnasium.utils.env_checker import check_env

from foldgym.envs.adapters import AsTextEnv, FromGymnasium
from foldgym.envs.games import KeyDoor
from foldgym.envs.wrappers import MaxTurns
from foldgym.errors import UserError
from foldgym.tools import call
from foldgym.types import Message


class Lamp(gymnasium.Env[str, Any]):
    """A lamp to be switched on: 1 for light, after three wrong switches it is over."""

    def __init__(self, text: bool = False, start: int = 0) -> None:
        self.observation_space = Text(20)
        self.action_space = Text(5, charset="abcdef") if text else Discrete(2, start=start)
        self.start = start

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.tries = 0
        self.right = int(self.np_random.integers(2))
        return "dark", {}

    def step(self, action: Any) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.tries += 1
        if isinstance(action, str):
            return f"you wrote {action}", 0.5, self.tries == 2, False, {}
        if action - self.start == self.right:
            return "light", 1.0, True, False, {}
        return "dark", -0.25, False, self.tries == 3, {}


def test_discrete_actions_by_name() -> None:
    env = FromGymnasium(Lamp, actions=("left", "right"), question="Make light.")
    observation, _ = env.reset(seed=3)
    assert observation[0].text == "Make light.\nActions: left, right.\ndark"
    inner = env.inner.unwrapped
    good, bad = ("left", "right") if inner.right == 0 else ("right", "left")  # type: ignore[attr-defined]
    step = env.step(f"act {bad}")
    assert (step.observation[0].text, step.reward) == ("dark", -0.25)
    assert env.measure()["score"] == -0.25
    step = env.step(Message("assistant", good))  # plain text is an action too
    assert (step.observation[0].text, step.reward, step.terminated) == ("light", 1.0, True)
    assert env.measure() == {"score": 0.75, "success": False, "turns": 2, "errors": 0}


def test_truncation_passes_through() -> None:
    env = FromGymnasium(Lamp, solved=0.5)
    env.reset(seed=0)
    bad = str(1 - env.inner.unwrapped.right)  # type: ignore[attr-defined]
    steps = [env.step(call("act", action=bad)) for _ in range(3)]
    assert [(s.terminated, s.truncated) for s in steps] == [(False, False)] * 2 + [(False, True)]
    assert (env.measure()["score"], env.measure()["success"]) == (-0.75, False)


def test_actions_that_do_not_exist() -> None:
    env = FromGymnasium(lambda: Lamp(start=5))
    assert env.reset(seed=0)[0][0].text == "Actions: 5, 6.\ndark"
    step = env.step("act 0")
    assert step.observation[0].text == "error: no action '0'. Actions: 5, 6."
    assert env.inner.unwrapped.tries == 0  # type: ignore[attr-defined]
    env.step("act 5")
    assert env.inner.unwrapped.tries == 1  # type: ignore[attr-defined]


def test_text_actions() -> None:
    env = FromGymnasium(lambda: Lamp(text=True))
    env.reset(seed=0)
    assert env.step("act abc").observation[0].text == "you wrote abc"
    assert env.step("act xyz").observation[0].text.startswith("error: the game does not take 'xyz'")
    assert env.step("fed").terminated
    assert env.measure()["success"] is True


def test_an_id_and_its_seeds() -> None:
    env = FromGymnasium("FrozenLake-v1", actions=("left", "down", "right", "up"))
    traces = []
    for _ in range(2):
        env.reset(seed=1)
        traces.append([env.step("act right").observation[0].text for _ in range(2)])
    assert traces[0] == traces[1]
    env.close()


def test_what_cannot_be_bridged() -> None:
    class Boxed(Lamp):
        def __init__(self) -> None:
            super().__init__()
            self.action_space = Box(0.0, 1.0)

    with pytest.raises(UserError, match="Text and Discrete"):
        FromGymnasium(Boxed)
    with pytest.raises(UserError, match="1 names for 2 actions"):
        FromGymnasium(Lamp, actions=("on",))
    with pytest.raises(UserError, match="no effect"):
        FromGymnasium(lambda: Lamp(text=True), actions=("on",))
    with pytest.raises(UserError, match="cannot be forked"):
        FromGymnasium(Lamp).snapshot()


def test_as_text() -> None:
    env = AsTextEnv("foldgym/GuessNumber-v0", high=7)
    observation, _ = env.reset(seed=0)
    assert observation == (
        "Guess my number from 1 to 7 with the tool guess.\n"
        "guess <number: integer> - Guess the secret number."
    )
    assert env.step("guess 8")[:4] == ("lower", 0.0, False, False)
    secret = env.inner.secret  # type: ignore[attr-defined]
    said, reward, terminated, _, info = env.step(f"guess {secret}")
    assert (said, reward, terminated, info["facts"]["success"]) == ("correct", 1.0, True, True)


def test_as_text_passes_gymnasiums_checker() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(AsTextEnv(MaxTurns(KeyDoor(), 5)), skip_render_check=True)  # type: ignore[arg-type]


def test_there_and_back() -> None:
    env = FromGymnasium(lambda: AsTextEnv("foldgym/GuessNumber-v0"))
    env.reset(seed=0)
    secret = env.inner.unwrapped.inner.secret  # type: ignore[attr-defined]
    assert env.step(f"act guess {secret}").terminated
    assert env.measure()["success"] is True
