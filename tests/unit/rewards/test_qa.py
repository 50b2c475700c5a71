"""Question answering as each benchmark scores it, against values worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.rewards import REWARDS, make_rubric
from foldgym.rewards.outcomes import exact_match, golds, text_exact, token_f1
from foldgym.rewards.qa import (
    answered_match,
    balanced,
    igpo_f1,
    set_f1,
    sub_exact_match,
    text_contains,
)
from foldgym.types import Message, Stop, Task, Trajectory, Turn


def episode(gold: Any = "x", *texts: str, problem: str = "", **facts: Any) -> Trajectory:
    metadata = {"aliases": facts.pop("aliases")} if "aliases" in facts else {}
    turns = tuple(
        Turn(index, Message("assistant", text), problem=problem) for index, text in enumerate(texts)
    )
    task = Task("q", (), answer=gold, metadata=metadata)
    return Trajectory("t", "w", task, 0, turns, (), Stop.DONE, facts)


@pytest.mark.parametrize(
    ("said", "gold", "value"),
    [
        ("It was The Beatles, I think.", "beatles", 1.0),
        ("the U.S.A. of course", "USA", 1.0),
        ("cart", "car", 1.0),  # characters, not words: that is how Search-R1 has it
        ("car", "cart", 0.0),
        ("", "x", 0.0),
        ("x", "the", 0.0),  # "the" normalises to nothing, which stands in nothing
        ("a", "the", 1.0),
    ],
)
def test_sub_exact_match(said: str, gold: str, value: float) -> None:
    assert text_contains(said, gold) == value


@given(st.text(max_size=15), st.text(max_size=15))
def test_whoever_matches_exactly_also_contains(one: str, two: str) -> None:
    assert text_exact(one, two) <= text_contains(one, two)


@pytest.mark.parametrize(
    ("said", "gold", "f1"),
    [
        ("the red, red house", "the car", 0.4),  # {the} of {the red house} and {the car}: 2 / 5
        ("red house", "RED-HOUSE", 1.0),  # punctuation becomes a blank, it does not join
        ("a house", "the house", 0.5),  # articles stay: 2 * 1 / (2 + 2)
        ("house house house", "house", 1.0),  # sets
        ("yes it is", "yes", 0.5),  # no rule for yes and no: 2 * 1 / (3 + 1)
        ("", "x", 0.0),
        ("?!", "?!", 0.0),  # nothing is left of either
    ],
)
def test_set_f1_of_igpo(said: str, gold: str, f1: float) -> None:
    assert set_f1(said, gold) == pytest.approx(f1)


def test_igpo_outcome_takes_the_best_answer_and_punishes_broken_formats() -> None:
    assert igpo_f1(episode(["red car", "house"], "a", answer="the house")) == pytest.approx(2 / 3)
    assert igpo_f1(episode("x", "<think>so</think>", answer="x")) == 1.0
    assert igpo_f1(episode("x", "<think>so", answer="x")) == -2.0
    assert igpo_f1(episode("x", "<think>so", answer="x"), tags=("answer",)) == 1.0
    assert igpo_f1(episode("x", "ok", problem="error: broken", answer="x")) == -2.0
    assert igpo_f1(episode("x", "ok")) == -2.0
    assert igpo_f1(episode("x", "ok", answer=" "), malformed=-0.5) == -0.5


def test_tags_are_balanced_by_number() -> None:
    assert balanced("<think>a</think><answer>b</answer>")
    assert balanced("no tags")
    assert not balanced("<think>a<think>b</think>")
    assert balanced("<other>", ("think",))


def test_aliases_are_as_right_as_the_answer() -> None:
    right = episode("United States", answer="USA", aliases=["USA", "US"])
    assert golds(right.task) == ["United States", "USA", "US"]
    assert exact_match(right) == 1.0
    assert token_f1(right) == 1.0
    # best of "big red car" / "car": 2 * 1 / (1 + 1)
    assert token_f1(episode("big red car", answer="car", aliases="car")) == 1.0
    assert golds(Task("q", (), answer=["a", "b", "a"], metadata={"aliases": None})) == ["a", "b"]


def test_a_wrong_answer_may_earn_more_than_silence() -> None:
    assert answered_match(episode("x", answer="x")) == 1.0
    assert answered_match(episode("x", answer="y")) == 0.1
    assert answered_match(episode("x", answer="y"), wrong=0.0) == 0.0
    assert answered_match(episode("x", answer="  ")) == 0.0
    assert answered_match(episode("x")) == 0.0
    assert sub_exact_match(episode(["lies", "pas"], answer="tanpas")) == 1.0


def test_they_stand_in_run_files_by_name() -> None:
    from foldgym.config import RewardSection

    terms: Any = [
        {"name": "outcome", "use": "igpo_f1", "malformed": -1.0},
        {"name": "contained", "use": "sub_exact_match", "weight": 0.5},
    ]
    rubric = make_rubric(RewardSection.model_validate({"terms": tuple(terms)}))
    reward = rubric.score(episode("x", "ok", answer="y x"))
    # set F1 of {y x} and {x}: 2 / 3, and half of 1
    assert reward.parts == pytest.approx({"outcome": 2 / 3, "contained": 0.5})
    assert {"igpo_f1", "sub_exact_match", "answered_match"} <= set(REWARDS)
