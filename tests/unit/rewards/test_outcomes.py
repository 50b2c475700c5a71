"""Outcome rewards against values worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.rewards.outcomes import (
    env_score,
    exact_match,
    format_cost,
    normalise,
    step_rewards,
    stop_penalty,
    text_exact,
    text_f1,
    token_f1,
    turn_cost,
)
from foldgym.types import Message, Stop, Task, Trajectory, Turn


def episode(gold: Any = "x", stop: Stop = Stop.DONE, **facts: Any) -> Trajectory:
    turns = tuple(
        Turn(index, Message("assistant"), reward=float(index), problem=problem)
        for index, problem in enumerate(["", "broken", ""])
    )
    return Trajectory("t", "w", Task("q", (), answer=gold), 0, turns, (), stop, facts)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("The  Beatles!", "beatles"),
        ("An apple a day", "apple day"),
        ("U.S.A.", "usa"),
        ("Theatre", "theatre"),  # articles are whole words
        ("a.an.the", "aanthe"),  # punctuation goes first, so these are no articles
        ("  ", ""),
        ("Åse\tØ\n", "åse ø"),
    ],
)
def test_normalise(text: str, plain: str) -> None:
    assert normalise(text) == plain


@pytest.mark.parametrize(
    ("said", "gold", "f1"),
    [
        ("the red house", "red car", 0.5),  # 1 shared; 2 * 1 / (2 + 2)
        ("red red car", "red car", 0.8),  # bags: 2 * 2 / (3 + 2)
        ("Pastan", "pastan!", 1.0),
        ("pastan", "lies", 0.0),
        ("yes", "yes", 1.0),
        ("yes it is", "yes", 0.0),  # 0.5 without the rule
        ("no", "no idea", 0.0),
        ("noanswer", "noanswer given", 0.0),
        ("", "the", 1.0),
        ("", "x", 0.0),
    ],
)
def test_token_f1_of_hotpotqa(said: str, gold: str, f1: float) -> None:
    assert text_f1(said, gold) == pytest.approx(f1)


@given(st.text(max_size=20), st.text(max_size=20))
def test_f1_is_symmetric_bounded_and_1_exactly_on_equal_bags(one: str, two: str) -> None:
    value = text_f1(one, two)
    assert 0.0 <= value <= 1.0
    assert value == text_f1(two, one)
    assert text_exact(one, two) <= value


def test_exact_match_takes_any_of_several_answers() -> None:
    assert exact_match(episode("Pastan", answer="the pastan")) == 1.0
    assert exact_match(episode(["lies", "Pastan"], answer="pastan")) == 1.0
    assert exact_match(episode(["lies", "tanpas"], answer="pastan")) == 0.0
    assert exact_match(episode(42, answer="42")) == 1.0
    assert exact_match(episode("x", said="x"), fact="said") == 1.0


def test_token_f1_takes_the_best_answer() -> None:
    assert token_f1(episode(["red car", "red house"], answer="the red house")) == 1.0
    assert token_f1(episode("red car", answer="the red house")) == pytest.approx(0.5)


def test_an_episode_without_an_answer_scores_0() -> None:
    assert exact_match(episode("x", stop=Stop.MAX_TURNS)) == 0.0
    assert exact_match(episode("x", answer=None)) == 0.0
    assert token_f1(episode("x")) == 0.0


@pytest.mark.parametrize("gold", [None, {"a": 1}, []])
def test_a_task_without_a_usable_answer_is_an_error(gold: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        exact_match(episode(gold, answer="x"))


def test_env_score_reads_what_was_measured() -> None:
    assert env_score(episode(score=0.25)) == 0.25
    assert env_score(episode(score=0.25, found=True), fact="found") == 1.0
    with pytest.raises(KeyError, match=r"measured no 'score'; facts: .*found"):
        env_score(episode(found=True))


def test_costs_and_penalties() -> None:
    assert step_rewards(episode()) == [0.0, 1.0, 2.0]
    assert turn_cost(episode()) == [-1.0, -1.0, -1.0]
    assert turn_cost(episode(), free=2) == [0.0, 0.0, -1.0]
    assert format_cost(episode()) == [0.0, -1.0, 0.0]
    assert stop_penalty(episode()) == 0.0
    assert stop_penalty(episode(stop=Stop.MAX_CONTEXT)) == -1.0
    assert stop_penalty(episode(stop=Stop.TRUNCATED)) == 0.0
    assert stop_penalty(episode(stop=Stop.TRUNCATED), stops=("truncated",)) == -1.0
