"""What rescues share: who failed, what a task can say of itself, and what must not be said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from foldgym.trainers.samplers.stats import guided, score_of
from foldgym.types import Group, Guide, Json, Request, Task

RESCUE = "rescue"  # reason of a request whose group, or member, replaces what failed


def all_failed(group: Group, metric: str, solved: float) -> bool:
    """Whether no member reached `solved`; only such a group may be helped."""
    return all(score_of(t, metric) < solved for t in group.trajectories)


def unaided(group: Group) -> bool:
    """Whether everybody tried alone."""
    return not any(guided(t) for t in group.trajectories)


def helped(request: Request, n: int, guide: Guide) -> Request:
    """The same task once more for `n` members, with help."""
    return replace(request, n=n, guides=(guide,), reason=RESCUE)


def texts(task: Task, key: str) -> tuple[str, ...]:
    """The texts under `task.metadata[key]`: one, several, or none."""
    found = task.metadata.get(key)
    if isinstance(found, str):
        return (found,)
    return tuple(str(part) for part in found) if isinstance(found, Sequence) else ()


def beginning(text: str, share: float) -> str:
    """About that share of a text, never cut inside a word. 1 is all of it.

    >>> beginning("alpha beta gamma", 0.5)
    'alpha beta'
    """
    if share >= 1:
        return text
    words, size, taken = text.split(), share * len(text), 0
    kept: list[str] = []
    for word in words:
        if taken >= size:
            break
        kept.append(word)
        taken += len(word) + 1
    return " ".join(kept)


def leaks(text: str, answer: Json) -> bool:
    """Whether a text contains one of the values of an answer (letter case aside).

    Single characters are not looked for: they are in every text.
    """
    shown = text.casefold()
    return any(len(leaf) > 1 and leaf.casefold() in shown for leaf in _leaves(answer))


def _leaves(answer: Json) -> Iterator[str]:
    if isinstance(answer, dict):
        answer = list(answer.values())  # pyright: ignore[reportUnknownVariableType]
    if isinstance(answer, (list, tuple)):
        for part in answer:  # pyright: ignore[reportUnknownVariableType]
            yield from _leaves(part)
    elif answer is not None and not isinstance(answer, bool):
        yield str(answer).strip()
