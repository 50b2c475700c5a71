"""Shaping and specialised rewards against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from foldgym.errors import ConfigError, RewardError
from foldgym.rewards import REWARDS, Rubric, Term
from foldgym.rewards.gates import gated_sum
from foldgym.rewards.gui import dast_rewards, ui_r1_reward
from foldgym.rewards.information_gain import information_gains
from foldgym.rewards.judge import rubric_score
from foldgym.rewards.patch import patch_similarity
from foldgym.rewards.pear import pear
from foldgym.rewards.rubric import needs
from foldgym.rewards.scaffold import revealed, scaffold_ratio
from foldgym.rewards.shaping import (
    budget,
    budget_at,
    budget_reward,
    fission,
    l_grpo,
    overlong,
    overlong_penalty,
)
from foldgym.rewards.tool_use import fold_preference, gold_calls, spear_bonus, tool_call_bonus
from foldgym.rewards.webshop import webshop_reward
from foldgym.types import Message, Segment, Stop, Task, ToolCall, Trajectory, Turn


def episode(
    ids: int = 0, turns: tuple[Turn, ...] = (), name: str = "t", metadata: Any = None, **facts: Any
) -> Trajectory:
    """`ids` sampled ids after one of context."""
    size = ids + 1
    segment = Segment((7,) * size, (-1, *[0] * ids), (0.0,) * size, (0,) * size)
    task = Task("q", (), metadata=metadata or {})
    return Trajectory(name, "w", task, 0, turns, (segment,), Stop.DONE, facts)


def turn(*calls: tuple[str, str], **more: Any) -> Turn:
    return Turn(
        0, Message("assistant", tool_calls=tuple(ToolCall(*call) for call in calls)), **more
    )


# ---------------------------------------------------------------- what a term may ask for


def test_a_term_is_given_the_step_and_its_group() -> None:
    def rank(trajectory: Trajectory, group: Any, step: int, *, scale: float = 1.0) -> float:
        return scale * step * group.index(trajectory)

    rubric = Rubric([Term("rank", rank, weight=2.0), Term("score", REWARDS["env_score"])])
    assert needs(rank) == ("group", "step")
    assert rubric.needs == {"group", "step"}
    pair = [episode(name="a", score=0.5), episode(name="b", score=0.25)]
    assert [r.total for r in rubric.score_group(pair, step=3)] == [0.5, 6.25]


def test_a_term_that_lacks_something_is_refused_and_not_guessed() -> None:
    rubric = Rubric([Term("bonus", REWARDS["tool_call_bonus"])])
    with pytest.raises(ConfigError, match="'bonus' needs step, which is not given here"):
        rubric.score(episode())


def test_plain_terms_need_nothing() -> None:
    assert needs(REWARDS["env_score"]) == ()
    assert needs(math.sin) == ()  # may be a builtin that tells no signature
    assert Rubric([Term("one", lambda trajectory: 1.0)]).score_group([episode()])[0].total == 1.0


# ---------------------------------------------------------------- lengths


def test_overlong_falls_inside_the_cache_and_stops_at_the_factor() -> None:
    assert [overlong_penalty(n, 100, 20, 2.0) for n in (80, 90, 100, 500)] == [0, -1, -2, -2]
    assert overlong(episode(15), max_tokens=20, cache=10) == -0.5
    with pytest.raises(ValueError, match="cache=0"):
        overlong_penalty(1, 10, 0)


def test_l_grpo_pays_brevity_only_where_everyone_is_right() -> None:
    right, wrong = episode(25, success=True), episode(50, success=False)
    assert l_grpo(right, [right, right], max_tokens=100, alpha=2.0) == pytest.approx(1.5)
    assert l_grpo(right, [right, wrong], max_tokens=100) == 0.0


def test_the_budget_never_rises() -> None:
    assert [budget_at(s, 100, 30, 0.5, 10) for s in (0, 9, 10, 19, 20, 99)] == [
        *(100, 100, 50, 50, 30, 30)
    ]
    with pytest.raises(ValueError, match="end=200"):
        budget_at(0, 100, 200, 0.5, 10)
    assert [budget_reward(n, 10) for n in (0, 10, 15, 20, 99)] == [1, 1, 0.5, 0, 0]
    assert [budget_reward(n, 10, "triangular") for n in (0, 5, 10, 15)] == [0, 0.5, 1, 0.5]
    assert budget(episode(75), 10, start=100, end=30, decay=0.5, every=10) == 0.5


def test_fission_is_a_third_of_each() -> None:
    good = episode(20, (turn(),), score=0.5)
    assert fission(good, max_tokens=100, w_fmt=2.0) == pytest.approx((2 + 0.5 + 0.8) / 3)
    unreadable = episode(20, (turn(problem="?"),), score=0.5)
    assert fission(unreadable, max_tokens=100) == pytest.approx((0.5 + 0.8) / 3)


def test_pear_cuts_every_turn_at_its_first_closing_id() -> None:
    # turn 0: think 1.0, close, answer 0.2 and another close 0.6; turn 1: all thinking, 0.4
    ids, turns = (7, 5, 3, 6, 3, 7, 5), (-1, 0, 0, 0, 0, -1, 1)
    main = Segment(ids, turns, (0.0,) * 7, (0,) * 7)
    aside = Segment((7, 5), (-1, 1), (0.0,) * 2, (0,) * 2, trainable=False)
    t = Trajectory(
        "t", "w", Task("q", ()), 0, (turn(), turn()), (main, aside), Stop.DONE, {"success": True}
    )
    column: Any = ([9.0, 1.0, 9.0, 0.2, 0.6, 9.0, 0.4], [9.0, 9.0])
    # mean of 1.0 and 0.4, minus 0.5 times the mean of 0.2 and 0.6
    assert pear(t, lambda t: column, close=3, alpha=0.5) == pytest.approx(1.0 - 0.5)


# ---------------------------------------------------------------- tools


def test_the_tool_bonus_fades_and_is_capped() -> None:
    three = episode(0, (turn(("look", "{}")),) * 3)
    assert tool_call_bonus(three, 0, max_steps=100) == pytest.approx(0.3)
    assert tool_call_bonus(three, 50, max_steps=100) == pytest.approx(0.15)
    assert tool_call_bonus(three, 101, max_steps=100) == 0.0
    assert spear_bonus(50, 999, 100, "constant") == 1.0


def test_gold_calls_count_once_each() -> None:
    gold = {"calls": [{"name": "look", "arguments": {"x": 1}}, {"name": "go"}]}
    played = (
        turn(("look", '{"x": 1}'), ("look", '{"x": 2}')),
        turn(("look", '{"x": 1}')),  # the same again
        turn(("go", "{}")),
        turn(("go", "not JSON")),
    )
    assert gold_calls(episode(0, played, metadata=gold)) == [1, 0, 1, 0]
    assert gold_calls(episode(0, played, metadata=gold), share=True) == [0.5, 0, 0.5, 0]
    with pytest.raises(KeyError, match="task q has no 'calls'"):
        gold_calls(episode(0, played))


def test_folding_is_preferred_by_what_it_saves() -> None:
    direct = episode(0, (turn(prompt_tokens=90, sampled_tokens=10),), name="direct")
    folds = (turn(prompt_tokens=40, sampled_tokens=10), turn(purpose="fold", prompt_tokens=50))
    folded = episode(0, folds, name="folded")
    assert fold_preference(folded, [direct, folded]) == pytest.approx((100 - 50) / 150)
    assert fold_preference(direct, [direct, folded]) == 0.0
    assert fold_preference(folded, [folded]) == 0.0


# ---------------------------------------------------------------- judges and scaffolds


def test_a_rubric_is_graded_by_a_judge() -> None:
    items = [{"criterion": "kind", "points": 3}, {"criterion": "rude", "points": -2}]
    rubric = Rubric([Term("rubric", REWARDS["graded_rubric"])])
    asked: list[Any] = []

    def judge(trajectory: Trajectory, criteria: Any) -> list[bool]:
        asked.append(tuple(criteria))
        return [True, True]

    reward = rubric.score(episode(metadata={"rubric": items}), judge=judge)
    assert (reward.total, asked) == (pytest.approx(1 / 3), [("kind", "rude")])
    with pytest.raises(RewardError, match="without positive points"):
        rubric.score(episode(metadata={"rubric": items[1:]}), judge=judge)
    assert rubric_score([], []) is None


def test_the_scaffold_falls_with_member_and_step() -> None:
    ratios = [[scaffold_ratio(i, 4, step, 11, 0.5, 10.0) for i in range(4)] for step in (1, 6, 11)]
    assert ratios[1] == pytest.approx([0.5, 1 / 3, 1 / 6, 0.0])
    for row in ratios:
        assert row == sorted(row, reverse=True)
        assert row[-1] == 0.0
    assert ratios[0][0] > ratios[1][0] > ratios[2][0]
    shown = revealed(0.5, 5, seed=1, member=0)
    assert len(shown) == 2  # 2.5 rounds to even
    assert shown == revealed(0.5, 5, seed=1, member=0)
    assert len({tuple(revealed(0.5, 9, 1, member)) for member in range(8)}) > 1


# ---------------------------------------------------------------- other worlds


def test_gates_are_strict_and_chained() -> None:
    assert gated_sum([[1.0], [0.5], [2.0]], [0.0, 0.5]) == (1.5, [True, True, False])
    assert gated_sum([[0.0], [9.0], [9.0]], [0.0, 0.0]) == (0.0, [True, False, False])
    with pytest.raises(ValueError, match="2 levels need 1 thresholds"):
        gated_sum([[1.0], [1.0]], [])


def test_gains_telescope_and_skip_what_cannot_be_read() -> None:
    half, quarter = math.log(0.5), math.log(0.25)
    assert information_gains([[quarter], [], [half]]) == pytest.approx([0.0, 0.25])
    assert information_gains([[quarter], [math.nan], [half, half]]) == pytest.approx([0.0, 0.25])
    assert information_gains([[], [half]]) == [0.0]
    assert information_gains([[-1000.0], [-1.0]], "log_prob_diff") == [999.0]


def test_a_click_without_a_place_is_not_a_hit() -> None:
    assert ui_r1_reward("click", "click", None, (1, 1), (0, 0, 9, 9), True).total == 2.0
    assert ui_r1_reward("scroll", "scroll", None, (1, 1), None, False) == (1.0, 1.0, 0.0)
    # 4.9 is cut to 4, which is outside
    assert ui_r1_reward("click", "click", (4.9, 5), (1, 1), (5, 5, 9, 9), True).coord == 0.0


def test_dast_of_empty_groups_and_answers() -> None:
    assert dast_rewards([], []) == []
    assert dast_rewards([3.0, 0.0], [0, 0]) == [3.5, -0.1]


def test_patches_are_compared_over_all_paths() -> None:
    assert patch_similarity({"a": "+x", "b": "+y"}, {"a": "+x"}) == 0.5
    assert patch_similarity({}, {}) == 1.0
    long = "abcdefgh" * 50  # above 200 characters difflib would take frequent ones for junk
    assert patch_similarity({"a": long}, {"a": long + "x"}) > 0.99


def test_a_goal_without_a_price_limit() -> None:
    assert webshop_reward(1, 2, 0, 0, None, True, False, 0.5) == (1.0, 0.5)
    assert webshop_reward(0, 0, 0, 0, None, True, False, 0.5).reward == 1.0
    assert webshop_reward(2, 2, 0, 0, True, False, False, 0.15).r_type == 0.5
    assert webshop_reward(2, 2, 0, 0, True, True, False, 0.05).r_type == 0.1
