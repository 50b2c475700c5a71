"""DeepAgent: hidden tools and their search, refused repetitions, folds that allow them, caps."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from scaffold_play import Errands, staged

from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.rollout import Limits
from foldgym.agents.scaffolds.deepagent import DeepAgent
from foldgym.agents.scaffolds.toolbox import ToolIndex, canonical
from foldgym.memory import DeepAgentFold, FullHistory
from foldgym.tools import call, tool
from foldgym.types import Budget, Message, Prompt, Stop, Tool, ToolCall, Trajectory


def played(lines: list[str | Message], memory: Any = FullHistory, **options: Any) -> Trajectory:
    """One episode in which the acting turns say these lines, and every note is a text."""
    said = iter(lines)
    more = {key: options.pop(key) for key in ("aux", "world", "budget") if key in options}

    def speak(prompt: Prompt, rng: random.Random) -> str | Message:
        return next(said, "") if prompt.purpose == "act" else f"note of {prompt.purpose}"

    group = staged(
        FunctionPolicy(speak),
        lambda: DeepAgent(**options),
        memory=memory,
        limits=Limits(max_turns=len(lines)),
        **({"budget": Budget(20000, 100)} | more),
    )
    assert not group.failures, group.failures[0].error
    return group.trajectories[0]


def heard(trajectory: Trajectory) -> list[str]:
    acts = [turn for turn in trajectory.turns if turn.purpose == "act"]
    return [" | ".join(message.text for message in turn.observation) for turn in acts]


def test_hidden_tools_are_found_and_then_called() -> None:
    trajectory = played(
        [
            call("buy", thing="milk"),
            call("tool_search", query="a shop that sells something"),
            "buy milk",
            call("tool_search", query="hand it over"),
            "answer here you are",
        ]
    )
    texts = heard(trajectory)
    assert texts[0].startswith('error: there is no tool "buy"')
    assert texts[0].endswith("Find tools with tool_search")
    (found,) = json.loads(texts[1])
    assert found["name"] == "buy"
    assert found["parameters"]["required"] == ["thing"]
    assert texts[2] == "you have milk"
    assert [each["name"] for each in json.loads(texts[3])] == ["answer"]
    assert trajectory.stop is Stop.DONE
    assert trajectory.counters["tool_searches"] == 2
    assert trajectory.counters["hidden_calls"] == 1
    assert len(trajectory.segments) == 1  # one continuous stream


def test_what_is_not_hidden() -> None:
    assert heard(played(["buy milk"], always=("buy",))) == ["you have milk"]
    assert heard(played(["buy milk"], tools="closed")) == ["you have milk"]
    nothing = played([call("tool_search", query="zzz")])
    assert heard(nothing) == ["no tool matches; describe in other words what it should do"]
    broken = played([call("tool_search", words="shop")])
    assert "query" in heard(broken)[0]
    assert heard(broken)[0].startswith("error")


def test_a_repeated_call_does_not_reach_the_world() -> None:
    counted: list[int] = []

    class Counting(Errands):
        @tool
        def buy(self, thing: str) -> str:
            """Buy a thing in the shop."""
            counted.append(1)
            return f"you have {thing}"

    lines: list[str | Message] = ["buy milk", call("buy", thing="milk"), "buy bread"]
    trajectory = played(lines, tools="closed", world=Counting)
    assert heard(trajectory)[1].startswith("error: you made this very call before")
    assert len(counted) == 2
    assert trajectory.counters["refused_duplicates"] == 1
    for repeatable in (("buy",), ("*",)):
        counted.clear()
        played(lines, tools="closed", world=Counting, repeatable=repeatable)
        assert len(counted) == 3
    looks = (ToolCall("look", "{}", "a"), ToolCall("look", "{ }", "b"))
    twice = Message("assistant", tool_calls=looks)
    both = heard(played([twice], tools="closed"))[0]
    assert both.startswith("error: you made this very call before")
    assert "rain" in both


def test_a_fold_allows_what_it_took_out_of_view() -> None:
    """A hazard of the reference: there a call stays refused, and what was forgotten is lost."""
    lines: list[str | Message] = ["buy milk", "fold_thought", "buy milk", "buy milk"]
    trajectory = played(lines, lambda: DeepAgentFold(max_tokens=8), tools="closed")
    texts = heard(trajectory)
    assert texts[0] == "you have milk"
    assert texts[2] == "you have milk"
    assert texts[3].startswith("error: you made this very call before")
    assert any(turn.purpose == "fold" for turn in trajectory.turns)


def test_found_tools_stay_callable_over_a_fold() -> None:
    lines: list[str | Message] = [
        call("tool_search", query="shop"),
        "fold_thought",
        "buy milk",
        call("tool_search", query="shop"),
    ]
    texts = heard(played(lines, lambda: DeepAgentFold(max_tokens=8)))
    assert texts[2] == "you have milk"
    assert json.loads(texts[3])[0]["name"] == "buy"  # the same search again: it was folded away


def test_after_the_last_call_only_the_answer_counts() -> None:
    lines: list[str | Message] = ["buy milk", "buy bread", "buy salt", "just text"]
    trajectory = played(lines, tools="closed", max_actions=2)
    texts = heard(trajectory)
    assert texts[:2] == ["you have milk", "you have bread"]
    assert texts[2].startswith("error: all 2 calls are used up")
    assert texts[3] == "yes?"
    assert trajectory.counters["calls_over_limit"] == 1


def test_long_answers_lose_their_middle() -> None:
    (text,) = heard(played(["look"], tools="closed", max_observation=20))
    # "rain, " thirty times
    assert text == "rain, rain\n[160 characters left out]\nin, rain, "


def test_long_answers_are_condensed_by_a_reader() -> None:
    seen: list[str] = []

    def read(prompt: Prompt, rng: random.Random) -> str:
        seen.append(prompt.messages[-1].text)
        return "wet outside"

    options = {"tools": "closed", "max_observation": 30, "condense": "aux"}
    trajectory = played(["look"], aux=FunctionPolicy(read), **options)
    assert heard(trajectory) == ["wet outside"]
    assert "look {}" in seen[0]
    assert "rain, rain" in seen[0]
    assert {segment.lineage for segment in trajectory.segments} == {"main"}
    own = played(["look"], **(options | {"condense": "policy"}))
    assert heard(own) == ["note of condense"]
    assert {segment.lineage for segment in own.segments} == {"main", "reader"}


def test_a_search_shows_whole_specifications_only() -> None:
    searching = [call("tool_search", query="what things text shop hand weather")]
    (text,) = heard(played(searching))
    assert len(json.loads(text)) == 3
    (short,) = heard(played(searching, max_result=len(text) - 1))
    assert json.loads(short) == json.loads(text)[:2]
    (one,) = heard(played(searching, top_k=1))
    assert json.loads(one) == json.loads(text)[:1]

    def choose(prompt: Prompt, rng: random.Random) -> str:
        return "look would help"

    (chosen,) = heard(
        played(searching, max_result=len(text) - 1, condense="aux", aux=FunctionPolicy(choose))
    )
    assert [each["name"] for each in json.loads(chosen)] == ["look"]


def test_a_thousand_tools() -> None:
    tools = [
        Tool(f"get_{city}_rain", f"How much rain falls in {city}.", {"type": "object"})
        for city in (f"town{n}" for n in range(1000))
    ]
    index = ToolIndex(tools)
    assert index.find("rain in town517", 3)[0].name == "get_town517_rain"
    assert len(index.find("rain", 10)) == 10
    assert index.find("volcano", 10) == []


def test_canonical_calls() -> None:
    assert canonical(ToolCall("f", '{"b": 1, "a": [2]}')) == 'f {"a": [2], "b": 1}'
    assert canonical(ToolCall("f", "no json")) == "f no json"


def test_impossible_options() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        DeepAgent(top_k=0)
    with pytest.raises(ValueError, match="words has no 'sing'; it may hold: condense"):
        DeepAgent(words={"sing": "la"})
