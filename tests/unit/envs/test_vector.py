"""The vector environment: Gymnasium's API, and members that keep their troubles to themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from foldgym.envs.registry import EnvSpec, Maker, maker, register_with_gymnasium
from foldgym.envs.vector import IsolatedVectorEnv
from foldgym.envs.worker import Isolation
from foldgym.errors import EnvCrashed, EnvTimeout, UserError

WORLDS = Path(__file__).with_name("worlds.py")


def odd(how: str) -> Maker:
    return Maker(EnvSpec("me/Odd-v0", f"{WORLDS}:Odd"), {"how": how})


COUNTER = Maker(EnvSpec("me/Counter-v0", f"{WORLDS}:Counter"), {})


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_failures_stay_with_their_member(isolation: Isolation) -> None:
    envs = IsolatedVectorEnv(
        [odd("well"), odd("hang"), odd("raise"), odd("raise at reset")], isolation, budget=120.0
    )
    observations, infos = envs.reset(seed=0)
    assert [each[0].text for each in observations[:3]] == ["Go on."] * 3
    assert isinstance(infos["error"][3], EnvCrashed)
    assert infos["_error"].tolist() == [False, False, False, True]

    hanging: Any = envs._handles[1]
    hanging.budget = 1.0  # only what hangs has so little time
    observations, rewards, terminated, truncated, infos = envs.step(["go"] * 4)
    assert rewards.tolist() == [0.0] * 4
    assert terminated.tolist() == [False] * 4
    assert truncated.tolist() == [False, True, True, True]
    assert [type(each) for each in infos["error"]] == [
        type(None),
        EnvTimeout,
        EnvCrashed,
        EnvCrashed,
    ]
    assert observations[2][0].text == "error: step raised RuntimeError: boom"
    assert [facts is None for facts in envs.measure()] == [False, True, True, True]

    observations, _, _, truncated, _ = envs.step(["stop"] * 4)  # the failed ones begin again
    assert observations[1][0].text == observations[2][0].text == "Go on."
    assert truncated.tolist() == [False, False, False, True]
    _, rewards, terminated, _, infos = envs.step(["stop"] * 4)
    assert rewards.tolist() == [0.0, 1.0, 1.0, 0.0]  # member 0 had stopped before
    assert terminated.tolist() == [False, True, True, False]
    assert infos["facts"]["went"].tolist() == [None, "well", "well", None]
    envs.close()
    envs.close()


def test_next_step_autoreset() -> None:
    envs = IsolatedVectorEnv([COUNTER] * 2, "inline")
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    envs.reset(seed=[1, 2])
    for _ in range(4):
        _, _, terminated, truncated, infos = envs.step(["add 0"] * 2)
    assert truncated.tolist() == [True, True]
    assert infos["facts"]["score"].tolist() == [0.0, 0.0]
    second, rewards, terminated, truncated, infos = envs.step(["add"] * 2)
    assert rewards.tolist() == [0.0, 0.0]
    assert not terminated.any()
    assert not truncated.any()
    assert [each[0].text for each in second] == [
        f"Count to {task.removeprefix('count-')}." for task in infos["task"]
    ]
    envs.close()


def test_seeds() -> None:
    def tasks(seed: int | list[int | None]) -> list[list[str]]:
        envs = IsolatedVectorEnv([maker("foldgym/Arithmetic-v0")] * 3, "inline")
        seen = [[each[0].text for each in envs.reset(seed=seed)[0]]]
        for _ in range(12):
            observations = envs.step(["answer 99999"] * 3)[0]
            seen.append([each[0].text for each in observations])
        envs.close()
        return seen

    assert tasks(5) == tasks([5, 6, 7])
    assert tasks(5)[0][1] == tasks(6)[0][0]
    assert len({each for row in tasks(5) for each in row}) > 12  # new questions after the first


def test_api() -> None:
    envs = IsolatedVectorEnv([COUNTER] * 2, "inline")
    observations, _ = envs.reset(seed=0)
    assert envs.num_envs == 2
    assert observations in envs.observation_space
    assert envs.action_space.sample() in envs.action_space
    _, rewards, terminated, truncated, _ = envs.step(envs.action_space.sample())
    assert rewards.dtype == np.float64
    assert terminated.dtype == truncated.dtype == np.bool_
    with pytest.raises(UserError, match="1 actions for 2"):
        envs.step(["add"])
    with pytest.raises(UserError, match="3 seeds for 2"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(UserError, match="at least one"):
        IsolatedVectorEnv([])
    envs.close()


def test_make_vec() -> None:
    register_with_gymnasium()
    envs = gymnasium.make_vec("foldgym/GuessNumber-v0", num_envs=2, high=7, isolation="inline")
    observations, _ = envs.reset(seed=0)
    assert observations[1][0].text == "Guess my number from 1 to 7 with the tool guess."
    envs.close()
