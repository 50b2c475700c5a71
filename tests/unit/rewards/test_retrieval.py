"""Retrieval rewards against values worked out by hand, and the facts that worlds measure."""

from __future__ import annotations

from typing import Any

import pytest

from foldgym.envs.fictional import FictionalSearch
from foldgym.rewards.retrieval import (
    precision,
    query_cost,
    recall,
    redundant,
    redundant_queries,
    searches,
    support_found,
    supporting_precision,
    supporting_recall,
)
from foldgym.seeding import generator
from foldgym.types import Message, Stop, Task, Trajectory, Turn


def reply(text: str, name: str = "search") -> Message:
    return Message("tool", text, name=name)


def episode(*heard: tuple[Message, ...], **facts: Any) -> Trajectory:
    turns = tuple(Turn(k, Message("assistant"), observation=seen) for k, seen in enumerate(heard))
    return Trajectory("t", "w", Task("q", ()), 0, turns, (), Stop.DONE, facts)


PLAYED = episode(
    (reply("a and b"), reply("a again")),  # two searches in one turn
    (reply("error: search: query is missing"),),
    (reply("kept", "note"),),
    (reply("c"),),
    (reply("right", "answer"),),
    queries=["Ada home", "home, ADA", "ruler"],
    retrieved=[["a", "b"], ["a", "b"], ["c"]],
    supporting=["a", "c", "d"],
)


def test_recall_and_precision() -> None:
    assert supporting_recall(PLAYED) == pytest.approx(2 / 3)  # a and c of a, c, d
    assert supporting_precision(PLAYED) == pytest.approx(2 / 3)  # a and c of a, b, c
    assert recall([], []) == 1.0
    assert recall([], ["a"]) == 0.0
    assert precision([[]], ["a"]) == 0.0


def test_redundant_queries() -> None:
    assert redundant(["x", "x", "y"], [[], [], []]) == [False, True, False]
    assert redundant(["x", "y", "z"], [["a"], ["a"], ["a", "b"]]) == [False, True, False]
    assert redundant_queries(PLAYED) == -1.0
    assert query_cost(PLAYED) == -3.0
    assert query_cost(PLAYED, free=2) == -1.0


def test_searches_are_the_replies_to_calls_that_were_carried_out() -> None:
    assert [(found.turn, found.number, found.text) for found in searches(PLAYED)] == [
        (0, 0, "a and b"),
        (0, 1, "a again"),
        (3, 2, "c"),
    ]


def test_support_found_pays_the_first_turn_that_brings_a_document() -> None:
    values = support_found(PLAYED)
    assert values == pytest.approx([1 / 3, 0, 0, 1 / 3, 0])
    assert sum(values) == pytest.approx(supporting_recall(PLAYED))


def test_facts_that_do_not_fit_are_errors_that_say_so() -> None:
    with pytest.raises(KeyError, match="measured no 'retrieved'"):
        supporting_recall(episode())
    with pytest.raises(ValueError, match="0 replies of the tool 'find'"):
        support_found(PLAYED, tool="find")


def test_a_search_world_measures_what_was_asked_and_found() -> None:
    env = FictionalSearch(hops=2)
    env.reset(seed=3)
    first, second = env.chain.facts
    env.step(f"search {first.query}")
    env.step("search nothingness")
    env.step(env.expert("optimal", generator(0)))
    facts = env.measure()
    assert facts["queries"] == [first.query, "nothingness", second.query]
    assert facts["supporting"] == [first.document.text, second.document.text]
    assert facts["retrieved"][0][0] == first.document.text
    assert facts["retrieved"][1] == []
    assert recall(facts["retrieved"], facts["supporting"]) == 1.0
