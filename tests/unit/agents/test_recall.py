"""Questions beside an episode: who is asked what, and that nothing else changes.

The reader acts on the ids it is shown and on nothing else. A search shows one document, so a chain
of n facts takes n searches and an answer; at the answer fact i was said n - i turns before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import foldgym
from foldgym.agents.recall import PROBE, Recollection, Recorder, ask, plain
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs.registry import maker
from foldgym.envs.worker import open_worker
from foldgym.memory import MEMORIES, FullHistory, SlidingWindow, Summarise
from foldgym.testing.doubles import ByteTokenizer, HashPolicy, witness
from foldgym.testing.readers import Reader
from foldgym.tools import call
from foldgym.types import Budget, Group, Memory, Message, Policy, Request, Reward, Sampling

RENDERER = CompactRenderer(ByteTokenizer())


def played(
    memory: Callable[[], Memory],
    recorder: Recorder | None = None,
    policy: Policy | None = None,
    budget: Budget | None = None,
    episodes: int = 6,
    **kwargs: Any,
) -> list[Group]:
    kwargs = {"hops": 4, "top_k": 1} | kwargs
    make = maker("foldgym/FictionalSearch-v0", **kwargs)
    how = Rollout(
        RENDERER,
        memory,
        Sampling(max_tokens=200),
        budget or Budget(100_000, 100),
        Limits(12),
        watch=recorder,
    )
    return asyncio.run(
        rollout(
            [Request("search", seed) for seed in range(episodes)],
            lambda request: open_worker(make, "inline", 30.0),
            policy or Reader(RENDERER),
            how,
            0,
            lambda t: Reward(float(t.facts["score"]), 0.0),
        )
    )


def answered(recorder: Recorder, policy: Policy | None = None) -> list[Recollection]:
    found = list(recorder.found.values())
    return asyncio.run(ask(found, policy or Reader(RENDERER), RENDERER, Sampling(), 0, 5))


def by_age(recollections: Sequence[Recollection]) -> dict[int, tuple[int, int]]:
    """(right, asked) by age."""
    found: dict[int, tuple[int, int]] = {}
    for question in [question for each in recollections for question in each.questions]:
        right, asked = found.get(question.age, (0, 0))
        found[question.age] = (right + question.right, asked + 1)
    return dict(sorted(found.items()))


def test_full_history_recalls_all_and_success_needs_all() -> None:
    recorder = Recorder(most=9)
    groups = played(FullHistory, recorder)
    assert [group.rewards[0].total for group in groups] == [1.0] * 6
    assert [len(group.trajectories[0].turns) for group in groups] == [5] * 6
    found = answered(recorder)
    # at the answer the four facts are 4, 3, 2 and 1 turns old; there was no fold
    assert by_age(found) == {1: (6, 6), 2: (6, 6), 3: (6, 6), 4: (6, 6)}
    assert all(each.kept == () and each.kept_at_last == ((4, 4),) for each in found)
    assert {question.folds for each in found for question in each.questions} == {0}


def test_recall_of_a_window_is_a_step_and_the_chain_is_lost() -> None:
    recorder = Recorder(most=9)
    groups = played(lambda: SlidingWindow(2), recorder)
    # facts 0 and 1 in view, fact 2 is searched; then 1 and 2 in view, fact 0 is searched again,
    # and so on for ever: 12 turns, none of them the answer
    assert [group.rewards[0].total for group in groups] == [0.0] * 6
    assert {len(group.trajectories[0].turns) for group in groups} == {12}
    found = answered(recorder)
    ages = by_age(found)
    assert all(right == asked for age, (right, asked) in ages.items() if age <= 2)
    assert all(right == 0 for age, (right, _) in ages.items() if age > 2)
    assert {1, 2, 3} <= set(ages)
    assert [group.rewards[0].total for group in played(lambda: SlidingWindow(4))] == [1.0] * 6


def test_a_fold_that_copies_keeps_everything_and_a_short_one_the_newest() -> None:
    def folded(most: int) -> list[Recollection]:
        recorder = Recorder(most=9)
        played(lambda: Summarise("turns", 3, max_tokens=most), recorder)
        return answered(recorder)

    wide = folded(200)
    # one fold before turn 3: three facts were said, 3, 2 and 1 turns ago, one fold since; at the
    # answer all four, the newest without a fold since
    assert by_age(wide) == {1: (12, 12), 2: (12, 12), 3: (12, 12), 4: (6, 6)}
    assert all(each.kept == ((3, 3),) and each.kept_at_last == ((4, 4),) for each in wide)
    assert [question.folds for question in wide[0].questions].count(1) == 6
    # sentences are 24 to 29 bytes long: with 40 only the newest of the three survives a fold
    narrow = folded(40)
    assert {each.kept[0] for each in narrow} == {(1, 3)}
    for each in narrow:
        first = each.questions[:3]
        assert sorted(question.age for question in first) == [1, 2, 3]
        assert all(question.right == (question.age == 1) for question in first)


def test_what_does_not_fit_is_not_asked_and_not_right() -> None:
    recorder = Recorder(most=9)
    # the question takes about 45 ids more than the view of the last turn
    groups = played(FullHistory, recorder, budget=Budget(200, 8))
    assert all(group.trajectories[0].counters["context_peak"] <= 200 for group in groups)
    found = answered(recorder)
    asked = [question for each in found for question in each.questions]
    assert any(question.prompt is None for question in asked)
    assert all(question.right == (question.prompt is not None) for question in asked)
    assert all(len(q.prompt.ids) <= 192 for q in asked if q.prompt is not None)


@pytest.mark.parametrize("memory", sorted(MEMORIES))
def test_questions_change_nothing_and_are_never_trained(memory: str) -> None:
    budget = Budget(1500, 120, 0.4)
    plain_policy, watched = HashPolicy(RENDERER), HashPolicy(RENDERER)
    alone = played(MEMORIES[memory], None, plain_policy, budget, 3)
    recorder = Recorder(most=9)
    beside = played(MEMORIES[memory], recorder, watched, budget, 3)
    assert beside == alone
    assert watched.calls == plain_policy.calls
    sampled = sum(len(ids) for _, ids in watched.calls)
    answered(recorder, watched)
    assert sum(witness(group.trajectories[0]) for group in beside) == sampled
    prompts = [q.prompt for each in recorder.found.values() for q in each.questions if q.prompt]
    assert all(prompt.purpose == PROBE for prompt in prompts)
    assert len(watched.calls) == len(plain_policy.calls) + len(prompts)


def test_answers_are_compared_exactly_but_for_what_does_not_matter() -> None:
    assert plain(" Score  +1. ") == "score +1"
    assert plain("-1") != plain("1")

    class Says:
        version = 0

        def __init__(self, said: Message) -> None:
            self.said = said

        def open(self, seed: int, env: Any) -> Any:
            return self

        async def sample(self, prompt: Any, sampling: Sampling) -> Any:
            assert sampling.temperature == 0.0
            return foldgym.types.Completion(message=self.said)

        def close(self) -> None:
            pass

    recorder = Recorder(most=1)
    played(FullHistory, recorder, episodes=1)
    ((question,),) = [each.questions for each in recorder.found.values()]
    for said, right in (
        (Message("assistant", question.answer.upper() + " ."), True),
        (call("answer", text=question.answer), True),
        (call("answer", text=f"it is {question.answer}"), False),
        (Message("assistant", tool_calls=(foldgym.types.ToolCall("answer", "no JSON"),)), False),
        (Message("assistant", tool_calls=(foldgym.types.ToolCall("answer", "[1]"),)), False),
    ):
        ((judged,),) = [each.questions for each in answered(recorder, Says(said))]
        assert judged.right is right
