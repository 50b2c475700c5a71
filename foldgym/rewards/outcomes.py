"""Reward terms that look only at how an episode went: answers, the environment's score, costs."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, cast

from foldgym.types import Task, Trajectory

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
StopName: TypeAlias = Literal[
    "done", "truncated", "max_turns", "max_context", "max_seconds", "parse_errors"
]
_LIMITS: tuple[StopName, ...] = ("max_turns", "max_context", "max_seconds", "parse_errors")
_SPECIAL = frozenset({"yes", "no", "noanswer"})


def normalise(text: str) -> str:
    """Answer normalisation of SQuAD and HotpotQA: lower case, no punctuation, articles or gaps.

    >>> normalise("The  Beatles!")
    'beatles'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def text_exact(answer: str, gold: str) -> float:
    """1.0 if both normalise to the same text, else 0.0."""
    return float(normalise(answer) == normalise(gold))


def text_f1(answer: str, gold: str) -> float:
    """Token F1 of HotpotQA: bags of normalised words; yes, no and noanswer only match themselves.

    >>> text_f1("the red house", "red car")
    0.5
    """
    said, wanted = normalise(answer), normalise(gold)
    if said != wanted and (said in _SPECIAL or wanted in _SPECIAL):
        return 0.0
    said_words, wanted_words = said.split(), wanted.split()
    if not said_words or not wanted_words:
        return float(said_words == wanted_words)
    shared = (Counter(said_words) & Counter(wanted_words)).total()
    return 2.0 * shared / (len(said_words) + len(wanted_words))


def exact_match(trajectory: Trajectory, *, fact: str = "answer") -> float:
    """1.0 if `facts[fact]` (what the agent answered) is the task's answer, or one of them."""
    return max(text_exact(said(trajectory, fact), gold) for gold in golds(trajectory.task))


def token_f1(trajectory: Trajectory, *, fact: str = "answer") -> float:
    """The best `text_f1` of `facts[fact]` against the task's answer or answers."""
    return max(text_f1(said(trajectory, fact), gold) for gold in golds(trajectory.task))


def env_score(trajectory: Trajectory, *, fact: str = "score") -> float:
    """What the environment measured at the end: `facts["score"]`, or another number of `facts`."""
    return number_fact(trajectory, fact)


def step_rewards(trajectory: Trajectory) -> list[float]:
    """The environment's own reward of every turn. Use it instead of `env_score`, not beside it."""
    return [turn.reward for turn in trajectory.turns]


def turn_cost(trajectory: Trajectory, *, free: int = 0) -> list[float]:
    """-1 for every turn after the first `free` ones; scale it with the term's weight."""
    return [-float(index >= free) for index in range(len(trajectory.turns))]


def format_cost(trajectory: Trajectory) -> list[float]:
    """-1 for every turn whose text could not be read."""
    return [-float(bool(turn.problem)) for turn in trajectory.turns]


def stop_penalty(trajectory: Trajectory, *, stops: tuple[StopName, ...] = _LIMITS) -> float:
    """-1 if the episode ended for one of these reasons (values of `Stop`), else 0."""
    return -float(trajectory.stop.value in stops)


def number_fact(trajectory: Trajectory, fact: str) -> float:
    """A number that the environment measured. Raises `KeyError` that lists what it did measure."""
    if fact not in trajectory.facts:
        raise KeyError(f"{trajectory.env} measured no {fact!r}; facts: {sorted(trajectory.facts)}")
    return float(trajectory.facts[fact])


def said(trajectory: Trajectory, fact: str = "answer") -> str:
    """What was answered; an episode that ended without an answer said nothing."""
    value = trajectory.facts.get(fact)
    return "" if value is None else str(value)


def golds(task: Task) -> list[str]:
    """Every right answer of a task: `answer` (a text or several), then `metadata["aliases"]`.

    MuSiQue and others keep aliases apart; any of them is as right as the answer. Raises
    `TypeError` or `ValueError` for a task without a usable answer.
    """
    answer: Any = task.answer
    if isinstance(answer, Mapping) or answer is None:
        raise TypeError(f"the task's answer is {answer!r}, not a text or a list of texts")
    found = _texts(answer)
    if not found:
        raise ValueError("the task has an empty list of answers")
    return list(dict.fromkeys([*found, *_texts(task.metadata.get("aliases") or ())]))


def _texts(value: Any) -> list[str]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [str(item) for item in cast("Sequence[Any]", value)]
    return [str(value)]
