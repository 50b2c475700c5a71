"""ReSeek: one verdict a search; what was judged useless stays or goes; what verdicts pay."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from foldgym.agents.engines.scripted import ExpertPolicy, FunctionPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Rollout, rollout
from foldgym.envs.fictional import FictionalSearch
from foldgym.envs.worker import open_worker
from foldgym.memory.reseek import AGAIN, LEFT_OUT, ReSeek
from foldgym.rewards.retrieval import Search
from foldgym.rewards.verdicts import overlap, verdicts
from foldgym.testing.doubles import ByteTokenizer
from foldgym.tools import call
from foldgym.types import (
    Budget,
    EnvHandle,
    Message,
    Policy,
    Prompt,
    Request,
    Reward,
    Trajectory,
)

HOW = {"renderer": CompactRenderer(ByteTokenizer()), "budget": Budget(100_000)}


def episode(policy: Policy, context: str = "soft", seed: int = 1, **world: Any) -> Trajectory:
    def opened(request: Request) -> EnvHandle:
        return open_worker(lambda: FictionalSearch(**world), "inline", 30.0)

    how = Rollout(memory=lambda: ReSeek(context), **HOW)  # type: ignore[arg-type]
    request = Request("foldgym/FictionalSearch-v0", seed, n=1)
    groups = asyncio.run(
        rollout([request], opened, policy, how, 0, lambda trajectory: Reward(0.0, 0.0))
    )
    return groups[0].trajectories[0]


def script(*messages: Message, seen: list[Prompt] | None = None) -> FunctionPolicy:
    said = iter(messages)

    def speak(prompt: Prompt, rng: object) -> Message:
        if seen is not None:
            seen.append(prompt)
        return next(said)

    return FunctionPolicy(speak)


SEARCH = call("search", query="no such words at all")
DONE = call("answer", text="x")


def replies(trajectory: Trajectory) -> list[str]:
    return [turn.observation[0].text for turn in trajectory.turns]


def test_one_verdict_for_each_search() -> None:
    yes, no = call("judge", verdict="Yes"), call("judge", verdict="No")
    played = episode(script(no, SEARCH, no, yes, SEARCH, yes, call("judge", verdict="Maybe"), DONE))
    said = replies(played)
    assert said[0].startswith("error: judge: there is no result of search")
    assert said[2] == AGAIN
    assert said[3].startswith("error: judge: there is no result of search")
    assert said[5] == "kept"
    assert said[6].startswith("error:")
    assert len(played.segments) == 1  # soft: nothing ever leaves the context


@pytest.mark.parametrize(("context", "hidden"), [("soft", False), ("hard", True)])
def test_only_hard_takes_what_was_judged_useless_out_of_sight(context: str, hidden: bool) -> None:
    seen: list[Prompt] = []
    first, no, yes = call("search", query="home"), call("judge", verdict="No"), SEARCH
    episode(script(first, no, yes, call("judge", verdict="Yes"), DONE, seen=seen), context)
    result = seen[1].messages[-1].text
    assert "home of" in result
    for prompt in seen[2:]:
        shown = [message.text for message in prompt.messages]
        assert (result in shown) is not hidden
        assert (LEFT_OUT.text in shown) is hidden
        assert "nothing found" in shown or prompt is seen[2]


def test_the_expert_judges_each_search_rightly() -> None:
    right = wrong = 0
    for seed in range(20):
        played = episode(ExpertPolicy("optimal"), seed=seed, hops=2, stray=0.4)
        earned = verdicts(played, most=99)
        asked = sum(each.name == "search" for t in played.turns for each in t.message.tool_calls)
        assert sum(value > 0 for value in earned) == asked
        assert min(earned) >= 0
        said = [
            c.arguments for t in played.turns for c in t.message.tool_calls if c.name == "judge"
        ]
        right += sum("Yes" in each for each in said)
        wrong += sum("No" in each for each in said)
    assert right >= 30  # a stray search finds something now and then
    assert wrong > 5


def trajectory(verdict: str, helps: bool, n: int = 1) -> Trajectory:
    said: list[Message] = []
    for _ in range(n):
        said += [call("search", query="who is there"), call("judge", verdict=verdict)]
    played = episode(script(*said, DONE), hops=1)
    facts = {**played.facts, "supporting": ["s"], "retrieved": [["s" if helps else "x"]] * n}
    return replace(played, facts=facts)


@pytest.mark.parametrize(
    ("verdict", "helps", "earned"),
    [("Yes", True, 0.3), ("No", False, 0.3), ("Yes", False, -0.6), ("No", True, -0.3)],
)
def test_a_verdict_earns_what_reseek_says(verdict: str, helps: bool, earned: float) -> None:
    assert verdicts(trajectory(verdict, helps)) == [0.0, earned, 0.0]


def test_right_verdicts_on_junk_are_paid_a_few_times_only() -> None:
    assert sum(verdicts(trajectory("No", False, 4), most=2)) == pytest.approx(0.6)
    assert sum(verdicts(trajectory("Yes", False, 4), most=2)) == pytest.approx(-2.4)


def never(trajectory: Trajectory, search: Search, documents: Sequence[str]) -> float:
    return 0.7  # exactly the threshold, which is not above it


def test_any_scorer_can_judge_the_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scorer", sys.modules[__name__])
    assert verdicts(trajectory("Yes", True), relevance="scorer:never") == [0.0, -0.6, 0.0]


def test_overlap_is_the_share_of_an_answers_words() -> None:
    played = episode(script(SEARCH, DONE))
    asked = replace(played, task=replace(played.task, answer=["red brick house", "a barn"]))
    assert overlap(asked, Search(0, 0, "The house is red."), []) == pytest.approx(2 / 3)
    assert overlap(asked, Search(0, 0, "Barn!"), []) == 1.0


def test_a_world_need_not_measure_what_was_retrieved_for_other_scorers() -> None:
    played = trajectory("Yes", True)
    bare = replace(played, facts={}, task=replace(played.task, answer="is"))
    assert verdicts(bare, relevance="overlap") == [0.0, 0.3, 0.0]
    with pytest.raises(KeyError, match="measured no 'retrieved'"):
        verdicts(bare)


def test_a_wrong_context_is_refused() -> None:
    with pytest.raises(ValueError, match="'soft' or 'hard', not 'firm'"):
        ReSeek("firm")  # type: ignore[arg-type]
