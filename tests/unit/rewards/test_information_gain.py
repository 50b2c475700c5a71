"""Information gain from given log-probs, worked out by hand."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest

from foldgym.rewards.information_gain import (
    AnswerForm,
    Moment,
    answer_value,
    form_of,
    information_gain,
)
from foldgym.types import Message, Stop, Task, Trajectory, Turn


def row(*probabilities: float) -> tuple[float, ...]:
    return tuple(math.log(p) for p in probabilities)


def gains(moments: list[Moment], turns: int, **options: Any) -> list[float]:
    played = tuple(Turn(k, Message("assistant")) for k in range(turns))
    trajectory = Trajectory("t", "w", Task("q", (), answer="x"), 0, played, (), Stop.DONE)
    return information_gain(trajectory, lambda _, form: moments, **options)


def test_a_turn_gains_what_the_next_begins_with() -> None:
    moments = [Moment(0, (row(0.2),)), Moment(1, (row(0.1, 0.4),)), Moment(2, (row(0.9),))]
    # the geometric mean of .1 and .4 is .2
    assert gains(moments, 3) == pytest.approx([0.0, 0.7, 0.0])
    logs = gains(moments, 3, kind="log_prob_diff")
    assert logs == pytest.approx([0.0, math.log(4.5), 0.0])


def test_a_fold_is_charged_what_it_lost() -> None:
    """Turn 2 folds: the answer stood at .8 before it and stands at .1 in what is left."""
    moments = [Moment(k, (row(p),)) for k, p in enumerate([0.1, 0.8, 0.8, 0.1, 0.9])]
    found = gains(moments, 5)
    assert found == pytest.approx([0.7, 0.0, -0.7, 0.8, 0.0])
    assert sum(found) == pytest.approx(0.9 - 0.1)


def test_of_several_answers_the_best_the_mean_or_the_first() -> None:
    moments = [Moment(0, (row(0.2), row(0.4))), Moment(1, (row(0.3), row(0.9)))]
    assert gains(moments, 2) == pytest.approx([0.5, 0.0])
    assert gains(moments, 2, answers="mean") == pytest.approx([0.3, 0.0])
    assert gains(moments, 2, answers="first") == pytest.approx([0.1, 0.0])


def test_a_turn_without_a_moment_or_a_number_gains_nothing() -> None:
    """Turn 1 was nobody's sample, and turn 2 began where no answer fitted the model."""
    moments = [Moment(0, (row(0.2),)), Moment(2, ((),)), Moment(3, (row(0.5),))]
    assert gains(moments, 4) == pytest.approx([0.0, 0.0, 0.3, 0.0])
    assert gains([], 2) == [0.0, 0.0]
    assert answer_value([(math.nan,), row(0.5)]) == pytest.approx(0.5)
    assert answer_value([(), row(0.5)], several="first") is None


def test_the_form_is_what_the_options_say() -> None:
    assert form_of(partial(information_gain, kind="prob_diff")) == AnswerForm()
    bound = partial(information_gain, tool="submit", thought="so", leak_check=0.0, ends=True)
    assert form_of(bound) == AnswerForm("submit", "so", ends=True)
    asked: list[AnswerForm] = []
    trajectory = Trajectory("t", "w", Task("q", ()), 0, (), (), Stop.DONE)
    assert bound(trajectory, lambda _, form: asked.append(form) or []) == []
    assert asked == [form_of(bound)]
