"""Memories that cut turns out: whole calls with their results, by exact ids."""

from __future__ import annotations

import pytest

from foldgym.memory import ErrorPrune, MemoryEdit
from tests.unit.memory.logs import Told, answered, played


@pytest.mark.parametrize(
    ("answers", "view"),
    [
        ("e", [0, 10, 20]),
        ("ee", [0, 10, 20, 11, 21]),
        ("eeo", [0, 11, 21, 12, 22]),
        ("eoe", [0, 10, 20, 11, 21, 12, 22]),
        ("oeeeoee", [0, 10, 20, 13, 23, 14, 24, 15, 25, 16, 26]),
    ],
)
def test_of_failures_before_a_success_the_last_stays(answers: str, view: list[int]) -> None:
    log = answered(["error: no" if each == "e" else "ok" for each in answers])
    assert Told(ErrorPrune(), log).view() == view


def test_what_counts_as_a_failure_can_be_said() -> None:
    log = answered(["Traceback", "Traceback", "4"])
    assert Told(ErrorPrune(marks=("Traceback",)), log).view() == [0, 11, 21, 12, 22]
    with pytest.raises(ValueError, match="marks"):
        ErrorPrune(marks=("",))


def labelled(turns: int) -> Told:
    """Turns 0 .. turns - 1 with the ids 1 .. turns."""
    told = Told(MemoryEdit(), played(0))
    for turn in range(turns):
        told.plays(turn)
    return told


def test_a_prune_removes_whole_turns_and_stays_itself() -> None:
    told = labelled(3)
    assert told.view() == [0, 10, 900, 20, 11, 900, 21, 12, 900, 22]
    assert told.calls(3, "prune_context", memory="all red", ids=["1", "3"]) == "removed 2"
    assert told.view() == [0, 11, 900, 21, 13, 23]
    told.plays(4)
    assert told.view() == [0, 11, 900, 21, 13, 23, 14, 900, 24]
    assert [text for text in told.kit.made if "id" in text] == [
        *("[id 1]", "[id 2]", "[id 3]", "[id 4]"),
    ]


def test_ids_match_exactly() -> None:
    """Hazard 8: "1" is not a part of "12"."""
    told = labelled(12)
    told.calls(12, "prune_context", memory="m", ids=["12"])
    assert told.view()[:4] == [0, 10, 900, 20]
    assert 21 + 10 not in told.view()
    assert 11 + 10 in told.view()
    told.calls(13, "prune_context", memory="m", ids=["1"])
    assert told.view()[:4] == [0, 11, 900, 21]
    assert "no id '1'" in told.calls(14, "prune_context", memory="m", ids=["1"])


@pytest.mark.parametrize(
    ("memory", "ids", "reply"),
    [
        ("m", ["9"], "there is no id '9'"),
        ("m", ["1", "x"], "nothing removed; there is no id 'x'"),
        ("m", [], "must not be empty"),
        (" ", ["1"], "must not be empty"),
        ("m", "1", "should be array"),
    ],
)
def test_a_prune_that_makes_no_sense_removes_nothing(memory: str, ids: object, reply: str) -> None:
    told = labelled(2)
    before = told.view()
    assert reply in told.calls(2, "prune_context", memory=memory, ids=ids)
    assert told.view() == [*before, 12, 900, 22]


def test_a_removed_turn_has_no_id_any_more() -> None:
    told = labelled(2)
    told.calls(2, "prune_context", memory="m", ids=["1"])
    assert "no id '1'" in told.calls(3, "prune_context", memory="m", ids=["1"])
