"""IGPO's information gain: how much a turn raised the probability of the gold answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from foldgym.types import Trajectory

Gain = Literal["prob_diff", "log_prob_diff"]
Several = Literal["max", "mean", "first"]
NEED = "answer_logprobs"


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How the gold answer is put in the policy's mouth.

    By a call of `tool` ("auto": the first that the world has of `answer`, `submit`,
    `final_answer` and `finish`; "none", or a world without any of these: plain text), after
    `thought` where the renderer writes thoughts. Plain text stands between `before` and `after`.
    With `ends` what closes the message is scored too, so that an answer which only begins right
    is worth less.
    """

    tool: str = "auto"
    thought: str = ""
    before: str = ""
    after: str = ""
    ends: bool = False


class Moment(NamedTuple):
    """Log-probs [tokens] of every gold answer, had it been given instead of turn `turn`."""

    turn: int
    answers: tuple[tuple[float, ...], ...]


AnswerLogprobs: TypeAlias = Callable[[Trajectory, AnswerForm], Sequence[Moment]]


def information_gain(
    trajectory: Trajectory,
    answer_logprobs: AnswerLogprobs,
    *,
    kind: Gain = "prob_diff",
    answers: Several = "max",
    tool: str = "auto",
    thought: str = "",
    before: str = "",
    after: str = "",
    ends: bool = False,
    leak_check: float = 0.9,
) -> list[float]:
    """Per turn: how much likelier the policy's own gold answer became by it and what it brought.

    Before a turn the answer is worth p, the geometric mean probability of its tokens at
    temperature 1 (or log p); a turn gains what the next turn begins with minus what it began
    with, and the last turn, which the outcome pays, gains 0. So gains add up to last minus first.
    A fold is a turn: it gains what is left after it minus what there was, mostly less than 0.
    Of several gold answers the best counts, or their mean, or the first.

    The other options are those of `AnswerForm`. `leak_check` is for the start of a run, which is
    refused if the policy gives an answer that it was shown a smaller probability; 0 is off.
    Source: IGPO's code, which scores the first gold answer and has no folds.
    """
    del leak_check  # read by trainers.answers
    form = AnswerForm(tool, thought, before, after, ends)
    moments = answer_logprobs(trajectory, form)
    values = [answer_value(moment.answers, kind, answers) for moment in moments]
    gains = [0.0] * len(trajectory.turns)
    for moment, gain in zip(moments, differences(values), strict=False):
        gains[moment.turn] = gain
    return gains


def form_of(fn: Callable[..., Any]) -> AnswerForm:
    """The form that a term asks for, as far as its options say."""
    given = fn.keywords if isinstance(fn, partial) else {}
    names = [field.name for field in fields(AnswerForm)]
    return AnswerForm(**{name: given[name] for name in names if name in given})


def answer_value(
    answers: Sequence[Sequence[float]], kind: Gain = "prob_diff", several: Several = "max"
) -> float | None:
    """What the gold answers are worth at one moment; None if none of them can be read.

    >>> answer_value([[math.log(0.5), math.log(0.125)], [math.log(0.2)]])
    0.25
    """
    values: list[float] = []
    for row in answers[:1] if several == "first" else answers:
        if row and all(math.isfinite(value) for value in row):
            mean = math.fsum(row) / len(row)
            values.append(math.exp(mean) if kind == "prob_diff" else mean)
    if not values:
        return None
    return math.fsum(values) / len(values) if several == "mean" else max(values)


def differences(values: Sequence[float | None]) -> list[float]:
    """Each value minus the one before it; one that is missing gains 0 and keeps what was."""
    gains: list[float] = []
    last: float | None = None
    for place, value in enumerate(values):
        if place:
            gains.append(0.0 if value is None or last is None else value - last)
        if value is not None:
            last = value
    return gains


def information_gains(logprobs: Sequence[Sequence[float]], kind: Gain = "prob_diff") -> list[float]:
    """Gains [K] from the gold answer's token log-probs after each of the K + 1 prefixes.

    Prefix 0 is the prompt, prefix t the prompt and t turns with their tool results. A prefix is
    worth the geometric mean probability of the answer's tokens, `exp(mean log-prob)`
    (`"prob_diff"`), or the mean log-prob itself (`"log_prob_diff"`); a gain is the difference of
    neighbours, so gains add up to last minus first. A prefix without tokens, or with a log-prob
    that is not finite, gains 0 and keeps the value before it. Source: IGPO's code.
    """
    return differences([answer_value([row], kind) for row in logprobs])
