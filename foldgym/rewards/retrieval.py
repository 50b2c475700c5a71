"""What searches brought: rewards over the facts that search worlds measure.

queries      every query that was run, in order
retrieved    what each of them brought, a list of document ids per query
supporting   ids of the documents that the answer rests on, as far as the world knows them
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from foldgym.rewards.outcomes import normalise
from foldgym.types import Trajectory

ERROR = "error:"  # how the reply to a call that was not carried out begins


class Search(NamedTuple):
    """One search that was carried out: its turn, its number from 0, and what was shown of it."""

    turn: int
    number: int
    text: str


def recall(retrieved: Sequence[Sequence[str]], supporting: Sequence[str]) -> float:
    """Share of the supporting documents that any search brought; 1 if there are none.

    >>> recall([["a", "x"], ["a"]], ["a", "b"])
    0.5
    """
    wanted = set(supporting)
    return len(wanted & _all(retrieved)) / len(wanted) if wanted else 1.0


def precision(retrieved: Sequence[Sequence[str]], supporting: Sequence[str]) -> float:
    """Share of the documents brought, each counted once, that support; 0 if none was brought.

    >>> precision([["a", "x"], ["a"]], ["a", "b"])
    0.5
    """
    found = _all(retrieved)
    return len(found & set(supporting)) / len(found) if found else 0.0


def redundant(queries: Sequence[str], retrieved: Sequence[Sequence[str]]) -> list[bool]:
    """Per query: the same words as an earlier one, or documents of which every one was known.

    Words are compared as answers are: without case, punctuation, articles and order. A query that
    brought nothing is redundant only if it was asked before.

    >>> redundant(["home of Ada", "ada HOME of", "ruler"], [["a"], ["b"], ["b", "a"]])
    [False, True, True]
    """
    asked: set[tuple[str, ...]] = set()
    known: set[str] = set()
    out: list[bool] = []
    for query, documents in zip(queries, retrieved, strict=True):
        words = tuple(sorted(normalise(query).split()))
        out.append(words in asked or (bool(documents) and known.issuperset(documents)))
        asked.add(words)
        known.update(documents)
    return out


def searches(trajectory: Trajectory, tool: str = "search") -> Iterator[Search]:
    """The replies of `tool` in order, without those to calls that were not carried out."""
    number = 0
    for turn in trajectory.turns:
        for message in turn.observation:
            mine = message.role == "tool" and message.name == tool
            if mine and not message.text.startswith(ERROR):
                yield Search(turn.index, number, message.text)
                number += 1


def supporting_recall(trajectory: Trajectory) -> float:
    """`recall` of the facts `retrieved` and `supporting`."""
    return recall(_fact(trajectory, "retrieved"), _fact(trajectory, "supporting"))


def supporting_precision(trajectory: Trajectory) -> float:
    """`precision` of the facts `retrieved` and `supporting`."""
    return precision(_fact(trajectory, "retrieved"), _fact(trajectory, "supporting"))


def redundant_queries(trajectory: Trajectory) -> float:
    """-1 for every redundant query; scale it with the term's weight."""
    return -float(sum(redundant(_fact(trajectory, "queries"), _fact(trajectory, "retrieved"))))


def query_cost(trajectory: Trajectory, *, free: int = 0) -> float:
    """-1 for every query after the first `free` ones."""
    return -float(max(0, len(_fact(trajectory, "queries")) - free))


def support_found(trajectory: Trajectory, *, tool: str = "search") -> list[float]:
    """Per turn: share of the supporting documents that its searches were the first to bring.

    The turns add up to `supporting_recall`, but to 0 where nothing supports.
    """
    wanted = set(_fact(trajectory, "supporting"))
    values = [0.0] * len(trajectory.turns)
    known: set[str] = set()
    for search, documents in brought(trajectory, tool):
        new = wanted.intersection(documents) - known
        values[search.turn] += len(new) / len(wanted) if wanted else 0.0
        known |= new
    return values


def brought(trajectory: Trajectory, tool: str = "search") -> list[tuple[Search, Sequence[str]]]:
    """Every search with the ids of what it brought.

    Raises `ValueError` if the world measured another number of searches than there are replies.
    """
    found, retrieved = list(searches(trajectory, tool)), _fact(trajectory, "retrieved")
    if len(found) != len(retrieved):
        raise ValueError(
            f"{trajectory.env} measured {len(retrieved)} searches (facts: retrieved), but there "
            f"are {len(found)} replies of the tool {tool!r}; name the tool that searches"
        )
    return list(zip(found, retrieved, strict=True))


def _all(retrieved: Sequence[Sequence[str]]) -> set[str]:
    return {document for documents in retrieved for document in documents}


def _fact(trajectory: Trajectory, name: str) -> Sequence[Any]:
    if name not in trajectory.facts:
        known = sorted(trajectory.facts)
        raise KeyError(f"{trajectory.env} measured no {name!r}; facts: {known}")
    return trajectory.facts[name]
