"""DeepAgent's folds: three checked JSON memories, repaired once, at most so many times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from foldgym.memory import DeepAgentFold
from foldgym.memory.schemas import SHAPES, describe, shapes_for, wrong
from foldgym.types import At, Finish
from tests.unit.memory.logs import Told, answered, played

EPISODE = {
    "task_description": "find the key",
    "key_events": [{"step": "1", "description": "looked", "outcome": "a box"}],
    "current_progress": "half",
}
WORKING: dict[str, Any] = {
    "immediate_goal": "open the box",
    "current_challenges": "",
    "next_actions": [{"type": "tool_call", "description": "open it"}],
}
TOOL: dict[str, Any] = {"tools_used": [], "derived_rules": ["look first"]}


def rate(name: str, success: Any) -> dict[str, Any]:
    empty = {"effective_parameters": [], "common_errors": [], "response_pattern": ""}
    return {"tool_name": name, "success_rate": success, "experience": "", **empty}


GOOD = [json.dumps(each) for each in (EPISODE, WORKING, TOOL)]
BLOCK = [901, 701, 902, 901, 702, 902, 901, 703, 902]


def folding(writes: Sequence[str | None], **options: Any) -> Told:
    return Told(DeepAgentFold(**options), played(4), writes)


def test_a_call_folds_all_turns_into_three_memories() -> None:
    told = folding(GOOD)
    assert told.calls(4, "fold_thought") == "memory is folded before your next turn"
    told(At.BEFORE_MODEL)
    live = [10, 20, 11, 21, 12, 22, 13, 23, 14, 24]
    assert told.asked == [[0, *live, 900]] * 3
    assert told.view() == [0, *BLOCK]
    told.plays(5)
    told(At.BEFORE_MODEL)
    assert told.view() == [0, *BLOCK, 15, 25]


def test_a_second_fold_replaces_the_block() -> None:
    told = folding(GOOD + GOOD)
    for turn in (4, 5):
        told.calls(turn, "fold_thought")
        told(At.BEFORE_MODEL)
    assert told.asked[3] == [0, *BLOCK, 15, 25, 900]
    assert told.view() == [0, 901, 704, 902, 901, 705, 902, 901, 706, 902]


@pytest.mark.parametrize(("trigger", "folds"), [("marker", 0), ("pressure", 1), ("both", 1)])
def test_pressure_folds_unless_only_the_policy_may(trigger: str, folds: int) -> None:
    told = folding(GOOD, trigger=trigger)
    told(At.BEFORE_MODEL, used=50)
    assert told.state.folds == 0
    told(At.BEFORE_MODEL, used=51)
    assert told.state.folds == folds
    assert bool(told.memory.tools()) is (trigger != "pressure")


def test_past_the_limit_there_is_a_notice_and_no_fold() -> None:
    told = folding(GOOD, max_folds=1)
    told.calls(4, "fold_thought")
    told(At.BEFORE_MODEL)
    assert told.calls(5, "fold_thought") == "error: memory was folded 1 times and folds no more"
    told(At.BEFORE_MODEL, used=99)
    told(At.PRESSURE, used=99)
    assert told.view() == [0, *BLOCK, 15, 25]
    assert len(told.asked) == 3


def test_a_broken_memory_is_written_again_once() -> None:
    """Hazard 6: nothing goes unchecked."""
    told = folding(["half a JSON {", *GOOD])
    told(At.PRESSURE)
    assert told.purposes == ["fold", "repair", "fold", "fold"]
    assert told.asked[1] == [0, 10, 20, 11, 21, 12, 22, 13, 23, 900, 901, 701, 902, 900]
    assert "Write it again: it is not JSON" in told.kit.made[-1]
    assert told.view() == [0, 901, 702, 902, 901, 703, 902, 901, 704, 902]


def test_a_memory_that_stays_broken_is_raw_text_or_left_out() -> None:
    broken: list[str | None] = ["no", "still no", GOOD[1], GOOD[2]]
    told = folding(broken)
    told(At.PRESSURE)
    assert told.view() == [0, 901, 702, 902, 901, 703, 902, 901, 704, 902]
    told = folding(broken, fallback="refuse")
    told(At.PRESSURE)
    assert told.view() == [0, 901, 703, 902, 901, 704, 902]


@pytest.mark.parametrize("writes", [[None] * 3, ["no"] * 6])
def test_a_fold_with_nothing_usable_changes_nothing(writes: list[str | None]) -> None:
    """Hazard 6: memories never become empty, and a refused fold counts."""
    told = folding(writes, fallback="refuse", max_folds=1)
    before = told.view()
    told(At.PRESSURE)
    assert told.view() == before
    assert (told.state.folds, told.state.failed) == (0, 1)
    told(At.PRESSURE)
    assert not told.writes


def test_a_fold_longer_than_what_it_replaces_is_refused() -> None:
    told = Told(DeepAgentFold(), played(1), GOOD)
    told(At.PRESSURE)
    assert told.view() == [0, 10, 20]
    assert told.state.failed == 1


def test_the_writer_of_the_tool_memory_is_told_the_tools() -> None:
    """Hazard 6: the tools there are."""
    told = folding([])
    (instruction,) = (text for text in told.kit.made if "about the tools" in text)
    assert instruction.endswith("The tools are: look.")


def test_a_question_that_holds_the_words_of_the_block_stays_as_it_is() -> None:
    """Hazard 7: the block has a place of its own, not an anchor in somebody's text."""
    log = answered(["x"] * 4)
    log.append("task", (5, 901, 902), "env")
    told = Told(DeepAgentFold(), log, GOOD)
    told(At.PRESSURE)
    assert told.view() == [0, 5, 901, 902, *BLOCK]


@pytest.mark.parametrize(
    ("kind", "change", "problem"),
    [
        ("episode", {"key_events": "none"}, "key_events should be a list"),
        ("episode", {"key_events": [{"step": "1"}]}, "key_events.0 lacks description"),
        ("episode", {"current_progress": 3}, "current_progress should be a text"),
        ("working", {"next_actions": ["go"]}, "next_actions.0 should be an object"),
        (
            "working",
            {"next_actions": [{"type": "sleep", "description": ""}]},
            "type should be one of decision, planning, tool_call",
        ),
        ("tool", {"tools_used": [{"tool_name": "look"}]}, "tools_used.0 lacks success_rate"),
        ("tool", {"derived_rules": [True]}, "derived_rules.0 should be a text"),
        ("tool", {"tools_used": [rate("look", 1.01)]}, "success_rate should be a number from 0 to"),
        ("tool", {"tools_used": [rate("look", -1)]}, "success_rate should be a number from 0 to 1"),
        ("tool", {"tools_used": [rate("look", True)]}, "success_rate should be a number from 0 to"),
        ("tool", {"tools_used": [rate("look", "all")]}, "success_rate should be a number from 0"),
        ("tool", {"tools_used": [rate("fly", 0.5)]}, "tool_name should be one of fold, look"),
    ],
)
def test_what_is_wrong_is_said(kind: str, change: dict[str, Any], problem: str) -> None:
    good = {"episode": EPISODE, "working": WORKING, "tool": TOOL}[kind]
    shape = shapes_for(["look", "fold"])[kind]
    assert wrong(json.dumps(good), shape) == ""
    assert wrong(f"Here it is:\n```json\n{json.dumps(good)}\n```", shape) == ""
    assert wrong(json.dumps(good | change), shape).startswith(problem)


def test_broken_text_is_never_an_exception() -> None:
    for text in ("", "[" * 100_000, "3", '"x"', "```json\n```"):
        assert wrong(text, SHAPES["episode"])


def test_a_shape_describes_itself() -> None:
    assert json.loads(describe(SHAPES["working"])) == {
        "immediate_goal": "text",
        "current_challenges": "text",
        "next_actions": [{"type": "decision|planning|tool_call", "description": "text"}],
    }


@pytest.mark.parametrize("success", [0, 1, 0.5, 1.0])
def test_a_rate_of_success_is_a_share(success: float) -> None:
    written = TOOL | {"tools_used": [rate("look", success)]}
    assert wrong(json.dumps(written), shapes_for(["look"])["tool"]) == ""
    assert wrong(json.dumps(TOOL | {"tools_used": [rate("any", 0)]}), shapes_for([])["tool"]) == ""
    nan = json.dumps(TOOL | {"tools_used": [rate("look", float("nan"))]})
    assert "number from 0 to 1" in wrong(nan, shapes_for(["look"])["tool"])


def test_a_marker_takes_the_place_of_the_tool() -> None:
    told = folding(GOOD + GOOD, marker="<fold_thought>", trigger="marker", max_folds=1)
    assert told.memory.tools() == ()
    assert told.kit.made[-1].endswith("say <fold_thought>")
    assert told.view()[:2] == [0, 900]
    for turn, reply in (
        (4, "memory is folded before your next turn"),
        (5, "error: memory was folded 1 times and folds no more"),
    ):
        event = told.log.append("model", (10 + turn,), "policy", turn=turn, finish=Finish.MARKER)
        told(At.AFTER_MODEL, event=event)
        assert told.state.reply == reply
        told.hears(turn, reply)
        told(At.BEFORE_MODEL)
    assert told.view() == [0, 900, *BLOCK, 15, 25]
    assert len(told.asked) == 3


@pytest.mark.parametrize(
    ("wrong_options", "problem"),
    [
        ({"marker": "<f>", "trigger": "pressure"}, "trigger='pressure' takes no marker"),
        ({"marker": " "}, "a marker of more than spaces"),
        ({"max_folds": 0}, "max_folds >= 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong_options: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        DeepAgentFold(**wrong_options)
