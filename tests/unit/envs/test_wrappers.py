"""Wrappers: small changes, everything else passed through and never stale."""

from __future__ import annotations

import random

import gymnasium
import pytest

from foldgym.envs.games import GuessNumber
from foldgym.envs.registry import register_with_gymnasium
from foldgym.envs.wrappers import (
    MaxTurns,
    RecordTranscript,
    TextObservation,
    TurnsLeft,
    Wrapper,
    text_of,
)
from foldgym.types import Message
from tests.unit.envs.worlds import Counter


def test_nothing_goes_stale() -> None:
    env = Wrapper(MaxTurns(Counter(), 9))
    for seed in range(4):
        observation, _ = env.reset(seed=seed)
        inner = env.unwrapped
        assert env.task is inner.task
        assert observation == env.task.prompt
        env.step("add 0")
        assert env.measure() == inner.measure()
        assert [each.name for each in env.tools] == ["add", "peek"]
    assert env.experts == ("optimal",)


def test_experts_pass_through() -> None:
    env = TurnsLeft(GuessNumber(), 5)
    env.reset(seed=0)
    assert env.expert("optimal", random.Random(0)).tool_calls[0].arguments == '{"number": 50}'


def test_max_turns() -> None:
    env = MaxTurns(Counter(), 2)
    for _ in range(2):  # the count begins again with each episode
        env.reset(seed=0)
        assert env.step("add 0")[2:4] == (False, False)
        assert env.step("add 0")[2:4] == (False, True)
    env.reset(seed=0)
    env.step("add 0")
    goal = env.task.answer
    assert env.step(f"add {goal}")[2:4] == (True, False)
    with pytest.raises(ValueError, match="at least 1"):
        MaxTurns(Counter(), 0)


def test_turns_left() -> None:
    env = TurnsLeft(Counter(), 3)
    env.reset(seed=0)
    said = [env.step("add 0")[0][-1] for _ in range(3)]
    assert said == [Message("user", f"{left} left.") for left in ("2 turns", "1 turn", "0 turns")]
    assert len(env.step("add 0")[0]) == 1  # no notice after the end


def test_text_observation() -> None:
    env = TextObservation(Counter())
    assert env.reset(seed=0)[0] == env.task.prompt[0].text
    said = env.step("peek\npeek")[0]
    assert said == "0.0:0\n0.0:0"
    assert said in env.observation_space
    assert text_of((Message("user", "a"), Message("user", "b"))) == "a\nb"


def test_transcript() -> None:
    env = RecordTranscript(Counter())
    env.reset(seed=0)
    env.step("add 0")
    env.step(Message("assistant", "Hm."))
    roles = [each.role for each in env.transcript]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]
    snapshot = env.snapshot()
    env.step("add 0")
    env.restore(snapshot)
    assert [each.role for each in env.transcript] == roles
    env.reset(seed=0)
    assert len(env.transcript) == 1


def test_forks_restore_the_count() -> None:
    env = MaxTurns(Counter(), 3)
    env.reset(seed=0)
    env.step("add 0")
    snapshot = env.snapshot()
    for _ in range(2):
        env.restore(snapshot)
        assert [env.step("add 0")[3] for _ in range(2)] == [False, True]


def test_on_top_of_gymnasium_make() -> None:
    register_with_gymnasium()
    env = TextObservation(MaxTurns(gymnasium.make("foldgym/GuessNumber-v0"), 2))
    assert env.reset(seed=0)[0].startswith("Guess my number")
    env.step("guess 200")
    assert env.measure()["turns"] == 1
    assert env.step("guess 200")[0] == "lower"
    assert env.tools[0].name == "guess"
    assert env.spec is not None
    assert env.spec.additional_wrappers[-2].kwargs == {"turns": 2}
    again = env.spec.make()
    assert isinstance(again, TextObservation)
