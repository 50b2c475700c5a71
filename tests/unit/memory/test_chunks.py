"""HiAgent: subgoals whose turns become one line."""

from __future__ import annotations

import pytest

from foldgym.memory import HiAgent
from foldgym.types import At
from tests.unit.memory.logs import Told, played


def two_subgoals(**options: str) -> Told:
    """Turns 0 and 1 for one subgoal, turns 2 and 3 for another."""
    told = Told(HiAgent(**options), played(0), ["met, it is red", "second", "third"])  # type: ignore[arg-type]
    told.plays(0, "Subgoal: get the key\nI look", "a box")
    told.plays(1, "I open it", "a red key")
    told.plays(2, "Subgoal: open the door", "it is locked")
    told.plays(3, "I unlock it", "it is open")
    return told


def test_a_finished_subgoal_becomes_one_line() -> None:
    told = two_subgoals()
    assert told.view() == [0, 10, 20, 11, 21, 12, 22, 13, 23]
    told(At.BEFORE_MODEL)
    assert told.asked == [[0, 10, 20, 11, 21, 900]]
    assert told.view() == [0, 901, 701, 902, 12, 22, 13, 23]
    assert told.kit.made[-1] == "1. get the key - "


def test_its_line_is_written_once() -> None:
    """Hazard 9: not anew at every step."""
    told = two_subgoals()
    for turn in range(4, 8):
        told(At.BEFORE_MODEL)
        told.plays(turn)
    assert told.purposes == ["result"]
    told.plays(8, "Subgoal: leave")
    told(At.BEFORE_MODEL)
    assert told.purposes == ["result", "result"]
    assert told.asked[1][:4] == [0, 901, 701, 902]
    assert told.view() == [0, 901, 701, 902, 901, 702, 902, 18, 28]


def test_the_last_answer_can_be_the_line() -> None:
    told = two_subgoals(result="last")
    told(At.BEFORE_MODEL)
    assert told.asked == []
    assert told.view() == [0, 900, 12, 22, 13, 23]
    assert told.kit.made[-1] == "1. get the key - a red key"


def test_the_last_answer_stands_in_when_nothing_was_written() -> None:
    told = two_subgoals()
    told.writes = [None]
    told(At.BEFORE_MODEL)
    assert told.kit.made[-1] == "1. get the key - a red key"
    assert told.state.failed == 1


def test_retrieved_turns_are_the_same_ids_until_the_next_subgoal() -> None:
    told = two_subgoals()
    told(At.BEFORE_MODEL)
    assert told.calls(4, "retrieve", ids=[1]) == "shown again above"
    assert told.view() == [0, 10, 20, 11, 21, 12, 22, 13, 23, 14, 24]
    told.plays(5, "Subgoal: leave")
    told(At.BEFORE_MODEL)
    assert told.view() == [0, 901, 701, 902, 901, 702, 902, 15, 25]


@pytest.mark.parametrize("ids", [[2], [0], [1, 7], []])
def test_only_finished_subgoals_can_be_retrieved(ids: list[int]) -> None:
    told = two_subgoals()
    told(At.BEFORE_MODEL)
    assert told.calls(4, "retrieve", ids=ids).startswith("error: finished subgoals are 1; not")
    assert told.view() == [0, 901, 701, 902, 12, 22, 13, 23, 14, 24]


def test_a_subgoal_can_be_a_call_and_never_follows_another_without_an_action() -> None:
    told = Told(HiAgent(result="last"), played(1))
    assert told.calls(1, "subgoal", text="get the key") == "started"
    assert told.calls(2, "subgoal", text="no, the door").startswith("error: act on this")
    told.plays(3)
    assert told.calls(4, "subgoal", text="the door") == "started"
    told(At.BEFORE_MODEL)
    assert [chunk.title for chunk in told.state.chunks] == ["start", "get the key", "the door"]
    assert told.view() == [0, 900, 900, 14, 24]


def test_pressure_closes_what_was_retrieved_and_then_drops_the_oldest_line() -> None:
    told = two_subgoals()
    told(At.BEFORE_MODEL)
    told.calls(4, "retrieve", ids=[1])
    told(At.PRESSURE)
    assert told.view() == [0, 901, 701, 902, 12, 22, 13, 23, 14, 24]
    for _ in range(2):  # the open subgoal never goes
        told(At.PRESSURE)
        assert told.view() == [0, 12, 22, 13, 23, 14, 24]
