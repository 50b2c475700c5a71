"""The running sum: rules by hand, the measures of a horizon, the history of the probe."""

from __future__ import annotations

import asyncio
import math

import pytest

from foldgym.agents.engines.scripted import ExpertPolicy
from foldgym.agents.renderers import ChatMLRenderer
from foldgym.agents.rollout import Rollout, rollout
from foldgym.envs import registry
from foldgym.envs.long.horizon import (
    accuracy_by_turn,
    expected_horizon,
    horizon,
    horizon_interval,
    prefix_right,
    self_conditioning,
    steps_right,
    summary,
    turns_right,
)
from foldgym.envs.long.running_sum import RunningSum
from foldgym.envs.worker import open_worker
from foldgym.errors import UserError
from foldgym.memory import FullHistory
from foldgym.seeding import generator
from foldgym.testing.contracts import check_env
from foldgym.testing.doubles import ByteTokenizer
from foldgym.types import Request, Reward


def small() -> RunningSum:
    env = RunningSum(turns=4, keys=2, words=3)
    env.reset(seed=0)
    env.values = {"a": 5, "b": -3, "c": 10}
    env.asked = [["a", "b"], ["c", "c"], ["b", "a"], ["b", "b"]]
    env.sums = [2, 22, 24, 18]
    return env


def test_one_early_mistake() -> None:
    """Off by one in the first turn, right additions after it."""
    env = small()
    said = [env.step(f"answer {total}") for total in (3, 23, 25, 19)]
    assert [step.reward for step in said] == [0.0] * 4
    assert [step.observation[0].text for step in said[:2]] == ["Turn 2: c, c", "Turn 3: b, a"]
    assert said[3].terminated
    facts = env.measure()
    assert (facts["score"], facts["answers"], facts["start"]) == (0.0, [3, 23, 25, 19], 0)
    assert summary([facts]) == {"turn": 0.0, "step": 0.75, "prefix": 0.0, "h50": 1}


def test_each_right_sum_pays_its_part() -> None:
    env = small()
    said = [env.step(f"answer {total}") for total in (2, 22, 0, 18)]
    assert [step.reward for step in said] == [0.25, 0.25, 0.0, 0.25]
    facts = env.measure()
    assert (facts["score"], facts["success"]) == (0.75, False)
    assert turns_right([2, 22, 0, 18], [2, 22, 24, 18]) == [True, True, False, True]
    assert steps_right([2, 22, 0, 18], [2, 22, 24, 18]) == [True, True, False, False]
    assert prefix_right([2, 22, 0, 18], [2, 22, 24, 18]) == [True, True, False, False]


def test_missing_answers_are_wrong_ones() -> None:
    assert turns_right([2], [2, 22]) == [True, False]
    assert steps_right([None, 22], [2, 22]) == [False, False]
    with pytest.raises(ValueError, match="3 answers to 2 turns"):
        turns_right([1, 2, 3], [1, 2])
    env = small()
    env.step("answer 2")
    for _ in range(7):
        last = env.step("I shall not.")
    assert last.truncated
    assert env.measure()["score"] == 0.25


def test_horizons() -> None:
    episodes = [[True, True, False], [True, False, False], [True, True, True], [True, False, False]]
    assert accuracy_by_turn(episodes) == [1.0, 0.5, 0.25]
    assert horizon(episodes) == 3
    assert horizon(episodes, 0.9) == 2
    assert horizon(episodes, 0.2) is None
    assert math.floor(expected_horizon(0.99)) == 68  # 68.97, so turn 69 is the first below half
    assert horizon_interval([[True, False]] * 5) == (2.0, 2.0)
    assert horizon_interval([[True, True]] * 5) == (math.inf, math.inf)
    low, high = horizon_interval(episodes, seed=1)
    assert low == 2.0
    assert high == math.inf
    with pytest.raises(ValueError, match="no episodes"):
        horizon([])
    with pytest.raises(ValueError, match="between 0 and 1"):
        expected_horizon(1.0)


def test_slope_of_self_conditioning() -> None:
    assert self_conditioning([(0.0, 0.9), (0.5, 0.6), (1.0, 0.3)]) == pytest.approx(-0.6)
    with pytest.raises(ValueError, match="two different rates"):
        self_conditioning([(0.5, 0.9), (0.5, 0.8)])


@pytest.mark.parametrize("slips", [0.0, 0.5, 1.0])
def test_history_with_slips(slips: float) -> None:
    """Shown sums are off by 1 to 10 at the given rate; what is asked builds on the last one."""
    off = count = 0
    for seed in range(30):
        env = RunningSum(turns=3, past=10, slips=slips)
        env.reset(seed=seed)
        prompt = env.task.prompt
        assert [each.role for each in prompt] == ["user", *["assistant", "tool"] * 10]
        shown = [int(each.tool_calls[0].arguments[10:-1]) for each in prompt[1::2]]
        before = 0
        for total, keys in zip(shown, env.asked, strict=False):
            error = total - before - sum(env.values[key] for key in keys)
            assert abs(error) <= 10
            off += error != 0
            count += 1
            before = total
        assert before == env.start
        assert env.sums[0] - before == sum(env.values[key] for key in env.asked[10])
        assert prompt[-1].text == f"Turn 11: {', '.join(env.asked[10])}"
    assert off / count == pytest.approx(slips, abs=0.1)


def test_history_is_a_prompt_like_any_other() -> None:
    def make() -> RunningSum:
        return RunningSum(turns=3, past=4, slips=0.5)

    assert check_env(make, hostile=100) == []
    (group,) = asyncio.run(
        rollout(
            [Request("foldgym/RunningSum-v0", 3, 1)],
            lambda request: open_worker(make, "inline", 30.0),
            ExpertPolicy("optimal"),
            Rollout(ChatMLRenderer(ByteTokenizer()), FullHistory),
            0,
            lambda t: Reward(float(t.facts["score"]), float(t.facts["score"])),
        )
    )
    assert [each.total for each in group.rewards] == [1.0]
    assert len(group.trajectories[0].turns) == 3  # the history is no turn of the agent's


def test_words_of_splits_are_disjoint() -> None:
    words: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        env = RunningSum(split=split)  # type: ignore[arg-type]
        words[split] = set()
        for seed in range(60):
            env.reset(seed=seed)
            words[split] |= set(env.values)
    assert not words["train"] & words["val"]
    assert not words["train"] & words["test"]
    assert not words["val"] & words["test"]


def test_more_turns_are_harder() -> None:
    """A player who slips at one turn in seven gets all of n turns right with (6/7) ** n."""
    found: list[float] = []
    for turns in (2, 6, 18):
        env = registry.make("foldgym/RunningSum-v0", turns=turns)
        solved = 0
        for seed in range(200):
            env.reset(seed=seed)
            over = False
            while not over:
                _, _, over, _, _ = env.step(env.expert("hasty", generator(seed, env.turn)))  # type: ignore[attr-defined]
            solved += env.measure()["success"] is True
        found.append(solved / 200)
    assert found == pytest.approx([(6 / 7) ** 2, (6 / 7) ** 6, (6 / 7) ** 18], abs=0.1)
    assert found[0] > found[1] > found[2]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"turns": 0}, "turns must be from 1 to 50000, not 0"),
        ({"words": 501}, "words must be from 1 to 500"),
        ({"slips": 1.5}, "slips from 0 to 1"),
        ({"split": "dev"}, "split"),
    ],
)
def test_wrong_settings(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        registry.make("foldgym/RunningSum-v0", **wrong)
