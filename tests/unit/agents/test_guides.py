"""Help before the first sampled turn: shown, never trained, and replayed exactly or not at all."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, member_of, rollout
from foldgym.envs.base import ToolEnv
from foldgym.envs.worker import open_worker
from foldgym.memory import FullHistory
from foldgym.testing.doubles import ByteTokenizer
from foldgym.tools import call, tool
from foldgym.types import Budget, Group, Guide, Message, Request, Reward, Stop, Task


class Steps(ToolEnv):
    """Say 1, 2, 3, 4; what is said wrongly is answered by an error."""

    experts = ("optimal",)
    honest = True

    def setup(self, rng: random.Random) -> Task:
        self.at = 0
        self.start = rng.randrange(10)
        question = Message("user", "Count.")
        return Task("count", (question,), metadata={"criteria": ["one", "two", "three", "four"]})

    @tool
    def say(self, number: int) -> str:
        """Say a number.

        Args:
            number: the number
        """
        if number != self.at + 1:
            noise = "" if self.honest else f" {self.rng.random()}"
            return f"error: wrong{noise}"
        self.at += 1
        if self.at == 4:
            self.finish(1.0)
        return "right"

    def expert(self, style: str, rng: random.Random) -> Message:
        return call("say", number=self.at + 1)


class Moody(Steps):
    honest = False


RENDERER = CompactRenderer(ByteTokenizer())
HOW = Rollout(RENDERER, FullHistory, budget=Budget(max_context=4000), limits=Limits(max_turns=6))


def played(request: Request, speak: Any = None, world: type[ToolEnv] = Steps) -> Group:
    policy = FunctionPolicy(speak or (lambda prompt, rng: f"say {prompt.turn + 1}"))
    (group,) = asyncio.run(
        rollout(
            [request],
            lambda request: open_worker(world, "inline"),
            policy,
            HOW,
            0,
            lambda t: Reward(float(t.facts["score"]), 0.0),
        )
    )
    return group


def text_of(ids: Any) -> str:
    return RENDERER.tokenizer.decode(ids)


def test_a_request_takes_no_guide_one_or_one_each() -> None:
    one, two = Guide(hint="a"), Guide(hint="b")
    assert Request("w", 0, 2).guide(1) == Guide()
    assert Request("w", 0, 2, guides=(one,)).guide(1) == one
    assert Request("w", 0, 2, guides=(one, two)).guide(1) == two
    with pytest.raises(ValueError, match="2 guides for 3 members"):
        Request("w", 0, 3, guides=(one, two))
    assert not Guide().helps
    assert Guide(lead=1).helps


def test_a_hint_is_part_of_the_question_and_of_no_loss() -> None:
    group = played(Request("steps", 1, 2, guides=(Guide(hint="Begin with one."), Guide())))
    helped, alone = group.trajectories
    assert helped.counters["guided"] == 1
    assert "guided" not in alone.counters
    assert helped.task.prompt[-1] == Message("user", "Begin with one.")
    (segment,) = helped.segments
    first = segment.turn_ids.index(0)
    assert "Begin with one." in text_of(segment.token_ids[:first])
    assert helped.trained == alone.trained


def test_part_of_the_criteria_is_revealed() -> None:
    group = played(Request("steps", 1, 2, guides=(Guide(reveal=0.5), Guide(reveal=0.1))))
    half, tenth = group.trajectories
    assert half.task.prompt[-1].text.count("\n- ") == 2
    assert tenth.task.prompt == (Message("user", "Count."),)  # round(0.4) = 0: the bare question


def test_the_expert_leads_and_the_policy_goes_on() -> None:
    group = played(Request("steps", 1, guides=(Guide(lead=2),)))
    (trajectory,) = group.trajectories
    assert trajectory.stop is Stop.DONE
    assert [turn.purpose for turn in trajectory.turns] == ["replay", "replay", "act", "act"]
    sampled = {turn for segment in trajectory.segments for turn in segment.turn_ids}
    assert sampled == {-1, 2, 3}
    whole = played(Request("steps", 1, guides=(Guide(lead=9),))).trajectories[0]
    assert whole.stop is Stop.DONE
    assert whole.trained == 0  # the expert finished; nothing is left to learn from


def test_turns_played_again_count_towards_the_limit() -> None:
    group = played(Request("steps", 1, max_turns=3, guides=(Guide(lead=2),)))
    (trajectory,) = group.trajectories
    assert trajectory.stop is Stop.MAX_TURNS
    assert len(trajectory.turns) == 3


def stumble(prompt: Any, rng: random.Random) -> str:
    return ["say 1", "say 7", "say 8", "say 9", "say 9", "say 9"][prompt.turn]


def test_an_episode_starts_from_a_recorded_prefix() -> None:
    failed = played(Request("steps", 1, 2), stumble).trajectories[1]
    guide = Guide(prefix=failed.turns[:2], hint="That was wrong; look at the error.")
    request = Request("steps", 1, 2, {"episode": 1}, guides=(guide,), reason="recovery")

    def recover(prompt: Any, rng: random.Random) -> str:
        return f"say {prompt.turn}"  # turns 0 and 1 are given, so this says 2, 3, 4

    group = played(request, recover)
    for member, trajectory in enumerate(group.trajectories):
        assert trajectory.id == f"steps:1(recovery):{member}"
        assert member_of(trajectory) == member
        assert trajectory.stop is Stop.DONE
        assert [turn.message for turn in trajectory.turns[:2]] == [
            turn.message for turn in failed.turns[:2]
        ]
        (segment,) = trajectory.segments
        start = segment.turn_ids.index(2)
        assert set(segment.turn_ids[:start]) == {-1}
        shown = text_of(segment.token_ids[:start])
        assert shown.index("say 1") < shown.index("error: wrong") < shown.index("look at the error")


def test_the_failed_prefix_is_token_for_token_what_was_sampled() -> None:
    failed = played(Request("steps", 1, 1), stumble).trajectories[0]
    again = played(
        Request("steps", 1, 1, {"episode": 0}, guides=(Guide(prefix=failed.turns[:2]),)), stumble
    ).trajectories[0]
    (before,), (after,) = failed.segments, again.segments
    assert after.token_ids == before.token_ids
    assert [t for t in after.turn_ids if t >= 0] == [t for t in before.turn_ids if t >= 2]


def test_a_world_that_does_not_repeat_itself_is_found_out() -> None:
    failed = played(Request("moody", 1, 1), stumble, Moody).trajectories[0]
    guide = Guide(prefix=failed.turns[:2])
    same = played(Request("moody", 1, 1, {"episode": 0}, guides=(guide,)), stumble, Moody)
    assert same.trajectories
    other = played(Request("moody", 1, 1, {"episode": 5}, guides=(guide,)), stumble, Moody)
    assert not other.trajectories
    assert "does not repeat itself" in other.failures[0].error


def test_a_request_lowers_limits_and_never_raises_them() -> None:
    (trajectory,) = played(Request("steps", 1, max_turns=2)).trajectories
    assert (trajectory.stop, len(trajectory.turns)) == (Stop.MAX_TURNS, 2)
    (trajectory,) = played(Request("steps", 1, max_turns=99), stumble).trajectories
    assert len(trajectory.turns) == 6
    (trajectory,) = played(Request("steps", 1, max_context=66)).trajectories
    assert trajectory.stop is Stop.MAX_CONTEXT
