from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

import foldgym
from foldgym.agents.engines.scripted import ExpertPolicy, FunctionPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs.base import Env
from foldgym.envs.worker import open_worker
from foldgym.memory import FullHistory
from foldgym.testing.doubles import ByteTokenizer
from foldgym.tools import tool
from foldgym.types import (
    Boundary,
    Budget,
    EnvHandle,
    Group,
    Log,
    Message,
    Request,
    Reward,
    Stop,
    Tool,
    Trajectory,
    View,
)


class Count(foldgym.ToolEnv):
    """Say the next number, up to the goal."""

    goal = 3
    trouble: str = ""

    def setup(self, rng: random.Random) -> str:
        self.at = 0
        self.start = rng.randrange(1000)
        return f"count from {self.start}"

    @tool
    def say(self, number: int) -> str:
        """Say a number."""
        if self.trouble == "hang":
            threading.Event().wait()
        if self.trouble == "raise":
            raise RuntimeError("the floor gave way")
        self.at += number == self.start + self.at
        if self.at == self.goal:
            self.finish(1.0)
        return f"{self.at} right"

    def grade(self) -> float:
        return self.at / self.goal


def rolled(
    speak: Callable[..., Any],
    n: int = 1,
    make: Callable[[int], Env] = lambda place: Count(),
    limits: Limits | None = None,
    isolation: str = "thread",
    budget: Callable[[int], float] = lambda place: 120.0,
    memory: Callable[[], Any] = FullHistory,
    context: Budget | None = None,
    retries: int = 0,
    groups: int = 1,
) -> list[Group]:
    places = iter(range(10_000))

    def open_env(request: Request) -> EnvHandle:
        place = next(places)
        return open_worker(lambda: make(place), isolation, budget(place))  # type: ignore[arg-type]

    how = Rollout(
        CompactRenderer(ByteTokenizer()),
        memory,
        limits=limits or Limits(),
        budget=context or Budget(),
        retries=retries,
    )

    def score(trajectory: Trajectory) -> Reward:
        value = float(trajectory.facts["score"])
        return Reward(value, value)

    requests = [Request("count", seed, n) for seed in range(groups)]
    return asyncio.run(rollout(requests, open_env, FunctionPolicy(speak), how, 0, score))


def right(prompt: Any, rng: random.Random) -> str:
    start = int(prompt.messages[0].text.split()[-1])
    return f"say {start + prompt.turn}"


def test_an_episode_from_question_to_measurement() -> None:
    (group,) = rolled(right)
    (trajectory,) = group.trajectories
    assert trajectory.stop is Stop.DONE
    assert trajectory.facts["score"] == 1.0
    assert [turn.observation[0].text for turn in trajectory.turns] == [
        *("1 right", "2 right", "3 right"),
    ]
    assert [turn.reward for turn in trajectory.turns] == [0.0, 0.0, 1.0]
    assert group.rewards[0].total == 1.0
    assert trajectory.counters["sampled_tokens"] == trajectory.trained


def test_members_share_the_task_and_have_their_own_stream() -> None:
    groups = rolled(lambda prompt, rng: f"say {rng.randrange(10**6)}", n=3, groups=2)
    for group in groups:
        assert len({t.task.prompt for t in group.trajectories}) == 1
        assert len({t.seed for t in group.trajectories}) == 3
        assert len({t.turns[0].message for t in group.trajectories}) == 3
    assert groups[0].trajectories[0].task.prompt != groups[1].trajectories[0].task.prompt


def test_an_episode_that_hits_a_limit_is_measured() -> None:
    (group,) = rolled(right, limits=Limits(max_turns=2))
    assert group.trajectories[0].stop is Stop.MAX_TURNS
    assert group.trajectories[0].facts["score"] == pytest.approx(2 / 3)
    (group,) = rolled(right, limits=Limits(max_seconds=0.0))
    assert group.trajectories[0].stop is Stop.MAX_SECONDS
    assert group.trajectories[0].facts["score"] == pytest.approx(1 / 3)
    (group,) = rolled(right, context=Budget(max_context=60, reserve=20))
    assert group.trajectories[0].stop is Stop.MAX_CONTEXT
    assert 0 < group.trajectories[0].facts["score"] < 1


def test_unreadable_messages_are_answered_and_counted_in_a_row() -> None:
    broken = '{"name": "say", "arguments": '
    lines = [broken, broken, "say 1", broken, broken, broken, "never said"]
    (group,) = rolled(lambda prompt, rng: lines[prompt.turn])
    (trajectory,) = group.trajectories
    assert trajectory.stop is Stop.PARSE_ERRORS
    problems = [bool(turn.problem) for turn in trajectory.turns]
    assert problems == [True, True, False, True, True, True]
    assert trajectory.turns[0].observation[0].text == trajectory.turns[0].problem
    assert trajectory.facts["score"] == 0.0


def test_a_hung_and_a_raising_member_fail_alone_within_the_budget() -> None:
    def make(place: int) -> Env:
        env = Count()
        env.trouble = {3: "hang", 7: "raise"}.get(place, "")
        return env

    # only what hangs has so little time
    (group,) = rolled(right, n=16, make=make, budget=lambda place: 1.0 if place == 3 else 120.0)
    assert len(group.trajectories) == 14
    assert {t.facts["score"] for t in group.trajectories} == {1.0}
    errors = sorted(t.error.partition(":")[0] for t in group.failures)
    assert errors == ["EnvCrashed", "EnvTimeout"]
    assert all(t.stop is Stop.ERROR for t in group.failures)


def test_a_failed_episode_is_played_again_and_the_group_is_whole() -> None:
    def make(place: int) -> Env:
        env = Count()
        env.trouble = "raise" if place == 1 else ""
        return env

    (group,) = rolled(right, n=4, make=make, retries=1)
    assert len(group.trajectories) == 4
    assert [t.id for t in group.failures] == ["count:0:1"]
    assert "count:0:1+1" in [t.id for t in group.trajectories]


def test_environments_work_side_by_side() -> None:
    """All 32 members must be inside their tool at once, or the barrier breaks and they crash."""
    everyone = threading.Barrier(32, timeout=120)

    class Meeting(Count):
        goal = 1

        @tool
        def say(self, number: int) -> str:
            """Say a number."""
            everyone.wait()
            self.finish(1.0)
            return "met"

    (group,) = rolled(right, n=32, make=lambda place: Meeting())
    assert not group.failures
    assert len(group.trajectories) == 32


def test_a_bug_stops_the_run() -> None:
    def broken(prompt: Any, rng: random.Random) -> str:
        raise KeyError("a bug in a policy")

    with pytest.raises(KeyError, match="a bug"):
        rolled(broken, n=4)


def test_experts_play_through_the_same_loop() -> None:
    class Taught(Count):
        experts = ("optimal",)

        def expert(self, style: str, rng: random.Random) -> Message:
            return Message("assistant", f"say {self.start + self.at}")

    how = Rollout(CompactRenderer(ByteTokenizer()), FullHistory)
    groups = asyncio.run(
        rollout(
            [Request("taught", 5, 2)],
            lambda request: open_worker(Taught, "thread", 10.0),
            ExpertPolicy("optimal"),
            how,
            0,
            lambda t: Reward(float(t.facts["score"]), 0.0),
        )
    )
    assert [reward.total for reward in groups[0].rewards] == [1.0, 1.0]


class Notebook:
    """A memory with a tool of its own: what is noted is echoed by the next reply."""

    rewrites = False

    def tools(self) -> tuple[Tool, ...]:
        schema = {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
        }
        return (Tool("note", "Write down.", schema),)

    def start(self, log: Log, kit: Any) -> Any:
        return type("State", (), {"reply": ""})()

    def view(self, log: Log, state: Any) -> View:
        return FullHistory().view(log, None)

    async def on(self, boundary: Boundary, log: Log, state: Any, ask: Any) -> Any:
        if boundary.call is not None:
            state.reply = f"noted {boundary.call.arguments}"
        return state


def test_a_memory_answers_its_own_tools_and_the_world_hears_the_rest() -> None:
    def speak(prompt: Any, rng: random.Random) -> str:
        start = int(prompt.messages[0].text.split()[-1])
        if prompt.turn == 0:
            return "note milk"
        return f"note eggs\nsay {start}" if prompt.turn == 1 else f"say {start + prompt.turn - 1}"

    (group,) = rolled(speak, memory=Notebook)
    (trajectory,) = group.trajectories
    heard = [[message.text for message in turn.observation] for turn in trajectory.turns]
    assert heard[0] == ['noted {"text": "milk"}']
    assert heard[1] == ['noted {"text": "eggs"}', "1 right"]
    assert trajectory.stop is Stop.DONE
    assert trajectory.counters["memory_tool_calls"] == 2
