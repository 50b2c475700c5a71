"""Which sampled ids belong to an action or to a plan: span finders, pluggable by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.errors import Bug
from foldgym.trainers.advantages.credit import sampled
from foldgym.trainers.advantages.inputs import by_turn, turn_of_tokens
from foldgym.types import Ids, Trajectory, Turn

if TYPE_CHECKING:
    from numpy.typing import NDArray

SpanFn = Callable[[Trajectory, Turn, Ids], "bool | Sequence[bool]"]


def tool_calls(trajectory: Trajectory, turn: Turn, ids: Ids) -> bool:
    """The whole of a turn whose message calls tools; what could not be read is no call."""
    return bool(turn.message.tool_calls) and not turn.problem


def folds(trajectory: Trajectory, turn: Turn, ids: Ids) -> bool:
    """The whole of a turn that folded memory."""
    return turn.purpose != "act"


def actions(trajectory: Trajectory, turn: Turn, ids: Ids) -> bool:
    """Tool calls and folds."""
    return tool_calls(trajectory, turn, ids) or folds(trajectory, turn, ids)


SPANS: dict[str, SpanFn] = {"actions": actions, "folds": folds, "tool_calls": tool_calls}


def find(use: str) -> SpanFn:
    """A finder by short name, "module:function" or "file.py:function".

    It takes a trajectory, one of its turns and the ids which that turn sampled, and says which of
    these belong to the span: one bool for all, or one per id. Raises like `config.resolve`.
    """
    from foldgym.config import resolve

    return resolve("span finder", use, SPANS)


def ngrams(ids: Sequence[int], grams: Iterable[Sequence[int]]) -> list[bool]:
    """Which ids lie inside an occurrence of one of the n-grams of ids; a help for finders.

    >>> ngrams((5, 1, 2, 1, 2, 3), [(1, 2, 3), (5,)])
    [True, False, False, True, True, True]
    """
    inside = [False] * len(ids)
    for gram in map(tuple, grams):
        for start in range(len(ids) - len(gram) + 1):
            if gram and tuple(ids[start : start + len(gram)]) == gram:
                inside[start : start + len(gram)] = [True] * len(gram)
    return inside


def marked(trajectory: Trajectory, finder: SpanFn) -> NDArray[np.bool_]:
    """Which sampled ids [N] lie in a span, in the order of their turns.

    A finder sees whole turns, so spans do not depend on how a trajectory was cut. Raises `Bug` if
    it gives neither a bool nor one per id.
    """
    turn_N = turn_of_tokens(trajectory)
    ids = [np.asarray(s.token_ids)[sampled(s) >= 0] for s in trajectory.segments]
    id_N = (np.concatenate(ids) if ids else np.zeros(0, dtype=np.int64))[by_turn(trajectory)]
    out_N = np.zeros(len(turn_N), dtype=np.bool_)
    for k, turn in enumerate(trajectory.turns):
        here_N = turn_N == k
        inside = finder(trajectory, turn, tuple(int(i) for i in id_N[here_N]))
        if not isinstance(inside, bool) and len(inside) != int(here_N.sum()):
            raise Bug(
                f"the span finder gave {len(inside)} marks for the {int(here_N.sum())} ids of "
                f"turn {k} of trajectory {trajectory.id}"
            )
        out_N[here_N] = np.asarray(inside, dtype=np.bool_)
    return out_N
