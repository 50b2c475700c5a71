"""Rewards of question answering beyond exact match and token F1: as each benchmark scores."""

from __future__ import annotations

import string
from collections.abc import Callable

from foldgym.rewards.outcomes import exact_match, golds, normalise, said
from foldgym.types import Trajectory

TAGS = ("code", "tool_call", "think", "answer")
_SPACED = str.maketrans(dict.fromkeys(string.punctuation, " "))


def text_contains(answer: str, gold: str) -> float:
    """Search-R1's subEM: 1.0 if the normalised gold answer stands in the normalised answer.

    A gold answer that normalises to nothing is only contained in another such answer.

    >>> text_contains("It was The Beatles, I think", "Beatles")
    1.0
    """
    inner, outer = normalise(gold), normalise(answer)
    return float(inner in outer if inner else inner == outer)


def set_f1(answer: str, gold: str) -> float:
    """Token F1 of IGPO: sets of lower-case words, punctuation as blanks, articles kept.

    >>> set_f1("the red, red house", "the car")
    0.4
    """
    one, other = (set(text.lower().translate(_SPACED).split()) for text in (answer, gold))
    if not one or not other:
        return 0.0
    return 2.0 * len(one & other) / (len(one) + len(other))


def balanced(text: str, tags: tuple[str, ...] = TAGS) -> bool:
    """Whether every tag is opened as often as it is closed."""
    return all(text.count(f"<{tag}>") == text.count(f"</{tag}>") for tag in tags)


def sub_exact_match(trajectory: Trajectory, *, fact: str = "answer") -> float:
    """1.0 if a gold answer stands in `facts[fact]`; it pays for saying too much, so watch it."""
    return _best(text_contains, trajectory, fact)


def answered_match(trajectory: Trajectory, *, wrong: float = 0.1, fact: str = "answer") -> float:
    """`exact_match`, but a wrong answer earns `wrong` and only silence 0 (Search-R1's formats)."""
    given = said(trajectory, fact).strip()
    return max(exact_match(trajectory, fact=fact), wrong) if given else 0.0


def igpo_f1(
    trajectory: Trajectory,
    *,
    malformed: float = -2.0,
    tags: tuple[str, ...] = TAGS,
    fact: str = "answer",
) -> float:
    """IGPO's outcome: the best `set_f1`, or `malformed` for an episode that broke the format.

    That is one without an answer, with a turn that could not be read, or with a tag in anything
    it said that is not closed as often as it is opened. Source: IGPO's code.
    """
    texts = [f"{turn.message.thinking}{turn.message.text}" for turn in trajectory.turns]
    broken = any(turn.problem for turn in trajectory.turns) or not balanced("".join(texts), tags)
    if broken or not said(trajectory, fact).strip():
        return malformed
    return _best(set_f1, trajectory, fact)


def _best(score: Callable[[str, str], float], trajectory: Trajectory, fact: str) -> float:
    answer = said(trajectory, fact)
    return max(score(answer, gold) for gold in golds(trajectory.task))
