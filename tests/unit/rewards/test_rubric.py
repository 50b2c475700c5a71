"""Rubrics: sums, gates, the breakdown, and faults that must not pass silently."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.config import TrainRun, parse
from foldgym.errors import ConfigError, RewardError, UnknownName
from foldgym.rewards import REWARDS, Rubric, Term, make_rubric
from foldgym.types import Message, Stop, Task, Trajectory, Turn

EPISODE = Trajectory(
    id="t7",
    env="w",
    task=Task("q", ()),
    seed=0,
    turns=tuple(
        Turn(index, Message("assistant"), reward=reward, problem=problem)
        for index, (reward, problem) in enumerate([(0.0, ""), (0.5, "no JSON"), (1.0, "")])
    ),
    segments=(),
    stop=Stop.DONE,
    facts={"score": 0.75},
)


def constant(value: Any) -> Any:
    return lambda trajectory: value


def test_outcomes_and_turns_add_up_with_a_breakdown() -> None:
    rubric = Rubric(
        [
            Term("score", REWARDS["env_score"]),  # type: ignore[list-item]
            Term("steps", REWARDS["step_rewards"], weight=2.0),
            Term("cost", REWARDS["turn_cost"], weight=0.1),
        ]
    )
    reward = rubric.score(EPISODE)
    # 0.75 + 2 * (0 + 0.5 + 1) - 0.1 * 3
    assert reward.parts == pytest.approx({"score": 0.75, "steps": 3.0, "cost": -0.3})
    assert reward.turns == pytest.approx((-0.1, 0.9, 1.9))
    assert reward.outcome == 0.75
    assert reward.total == pytest.approx(3.45)


def test_without_turn_terms_there_are_no_turn_values() -> None:
    reward = Rubric([Term("score", REWARDS["env_score"])]).score(EPISODE)
    assert (reward.turns, reward.total, reward.outcome) == ((), 0.75, 0.75)


@pytest.mark.parametrize(
    ("gate", "opens"),
    [
        ("first", True),  # 0.5 > 0
        ("first>0.4", True),
        ("first > 0.5", False),  # strict
        ("first>-1", True),
        ("first>1e-1", True),
    ],
)
def test_a_gate_looks_at_the_raw_value_of_an_earlier_term(gate: str, opens: bool) -> None:
    rubric = Rubric(
        [Term("first", constant(0.5), weight=-3.0), Term("second", constant(4.0), gate=gate)]
    )
    reward = rubric.score(EPISODE)
    assert reward.parts == {"first": -1.5, "second": 4.0 if opens else 0.0}
    assert reward.total == (2.5 if opens else -1.5)


def test_a_closed_gate_closes_the_gates_behind_it_and_calls_nothing() -> None:
    def never(trajectory: Trajectory) -> float:
        raise AssertionError("called behind a closed gate")

    rubric = Rubric(
        [
            Term("zero", constant(0.0)),
            Term("never", never, gate="zero"),
            Term("after", constant(1.0), gate="never"),
            Term("free", constant([0.0, 0.0, 0.25])),
            Term("opened", constant(1.0), gate="free>0.2"),  # a turn term's raw value is its sum
        ]
    )
    reward = rubric.score(EPISODE)
    assert reward.parts == {"zero": 0, "never": 0, "after": 0, "free": 0.25, "opened": 1.0}


@pytest.mark.parametrize(
    ("terms", "part"),
    [
        ([], "at least one"),
        ([Term("a", constant(1)), Term("a", constant(1))], "'a': the name is taken"),
        ([Term("a", constant(1), gate="a")], "names no earlier term; earlier terms: none"),
        (
            [Term("a", constant(1)), Term("b", constant(1), gate="c"), Term("c", constant(1))],
            "gate 'c' names no earlier term; earlier terms: a",
        ),
        ([Term("a", constant(1)), Term("b", constant(1), gate="a>x")], "'a>x' cannot be read"),
        ([Term("a", constant(1)), Term("b", constant(1), gate="a>1.2.3")], "cannot be read"),
        ([Term("a", constant(1)), Term("b", constant(1), gate="a>=1")], "cannot be read"),
        ([Term("a", constant(1), weight=math.inf)], "weight inf is not finite"),
    ],
)
def test_rubrics_that_cannot_work(terms: list[Term], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Rubric(terms)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (math.nan, "gave nan, which is not finite"),
        (math.inf, "not finite"),
        ([0.0, math.nan, 0.0], "not finite"),
        ([1.0, 2.0], "gave 2 values for 3 turns"),
        ("good", "raised ValueError"),
        (None, "raised TypeError"),
    ],
)
def test_a_faulty_term_names_itself_and_the_trajectory(value: Any, part: str) -> None:
    rubric = Rubric([Term("fine", constant(1)), Term("odd", constant(value))])
    with pytest.raises(RewardError) as caught:
        rubric.score(EPISODE)
    assert "reward term 'odd' on trajectory t7" in str(caught.value)
    assert part in str(caught.value)


def test_a_raising_term_keeps_its_cause() -> None:
    def broken(trajectory: Trajectory) -> float:
        return trajectory.facts["missing"]

    with pytest.raises(RewardError, match=r"'broken' on trajectory t7 raised KeyError") as caught:
        Rubric([Term("broken", broken)]).score(EPISODE)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_weight_that_overflows_is_not_finite() -> None:
    with pytest.raises(RewardError, match="not finite"):
        Rubric([Term("big", constant(1e308), weight=10.0)]).score(EPISODE)


def test_failures_have_no_score() -> None:
    failed = replace(EPISODE, stop=Stop.ERROR, error="the box is gone")
    with pytest.raises(RewardError, match=r"t7 failed \(the box is gone\)"):
        Rubric([Term("one", constant(1))]).score(failed)


_values = st.floats(-1e6, 1e6) | st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3)


@given(st.lists(st.tuples(_values, st.floats(-10, 10)), min_size=1, max_size=5))
def test_the_total_is_outcome_plus_turns_and_the_sum_of_the_parts(terms: list[Any]) -> None:
    reward = Rubric(
        [Term(f"t{i}", constant(value), weight) for i, (value, weight) in enumerate(terms)]
    ).score(EPISODE)
    assert reward.total == pytest.approx(reward.outcome + sum(reward.turns), abs=1e-6)
    assert reward.total == pytest.approx(sum(reward.parts.values()), rel=1e-9, abs=1e-6)
    assert len(reward.turns) in (0, 3)


# ---------------------------------------------------------------- from a run file

BASE = {"output": "x", "policy": {"path": "p"}, "envs": [{"name": "w"}]}


def rubric_of(*terms: dict[str, Any]) -> Rubric:
    return make_rubric(parse(TrainRun, BASE | {"reward": {"terms": list(terms)}}).reward)


def test_the_default_is_the_environments_own_score() -> None:
    for rubric in (make_rubric(), rubric_of()):
        reward = rubric.score(EPISODE)
        assert (reward.total, reward.parts) == (0.75, {"env_score": 0.75})


def test_terms_by_short_name_with_options() -> None:
    rubric = rubric_of(
        {"name": "env_score"},
        {"name": "cheap", "use": "turn_cost", "free": 2, "weight": 0.5, "gate": "env_score>0.5"},
        {"name": "module", "use": f"{__file__}:always_two"},
    )
    assert rubric.score(EPISODE).parts == {"env_score": 0.75, "cheap": -0.5, "module": 2.0}


def always_two(trajectory: Trajectory) -> float:
    return 2.0


@pytest.mark.parametrize(
    ("term", "error", "part"),
    [
        ({"name": "exact_mach"}, UnknownName, "did you mean 'exact_match'?"),
        ({"name": "turn_cost", "fre": 2}, ConfigError, "reward.terms.0.fre: unknown option"),
        ({"name": "turn_cost", "weigth": 2}, ConfigError, "did you mean 'weight'?"),
        ({"name": "turn_cost", "free": "2"}, ConfigError, "reward.terms.0.free: '2'"),
        ({"name": "stop_penalty", "stops": ["asleep"]}, ConfigError, "'max_turns'"),
    ],
)
def test_terms_that_are_wrong(term: dict[str, Any], error: type[Exception], part: str) -> None:
    with pytest.raises(error) as caught:
        rubric_of(term)
    assert part in str(caught.value)
