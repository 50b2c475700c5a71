"""Memories around memories."""

from __future__ import annotations

import pytest

from foldgym.errors import ConfigError, UnknownName
from foldgym.memory import FullHistory, MemoryEdit, OmitObservations, Reminder, SlidingWindow
from tests.unit.memory.logs import Told, answered, played


def test_a_reminder_follows_every_second_turn() -> None:
    assert Told(Reminder(every=2), played(1)).view() == [0, 10, 20]
    assert Told(Reminder(every=2), played(2)).view() == [0, 10, 20, 11, 21, 900]
    assert Told(Reminder(every=2), played(5)).view() == [
        *(0, 10, 20, 11, 21, 900),
        *(12, 22, 13, 23, 900, 14, 24),
    ]


def test_turns_keep_their_numbers_when_the_inner_memory_drops_some() -> None:
    told = Told(Reminder(SlidingWindow(1), every=2), played(4))
    assert told.view() == [0, 13, 23, 900]
    assert Told(Reminder(SlidingWindow(1), every=2), played(5)).view() == [0, 14, 24]


def test_the_reminder_says_the_task_unless_told_otherwise() -> None:
    assert Told(Reminder(), answered([])).kit.made == ["Remember what you were asked: find the key"]
    assert Told(Reminder(text="Stay calm."), answered([])).kit.made == ["Stay calm."]


def test_a_reminder_promises_what_its_inner_memory_promises() -> None:
    assert Reminder(FullHistory()).rewrites is False
    assert Reminder(SlidingWindow()).rewrites is True


def test_an_inner_memory_keeps_its_tools_and_answers() -> None:
    told = Told(Reminder(MemoryEdit(), every=2), played(0))
    told.plays(0)
    assert told.calls(1, "prune_context", memory="m", ids=["1"]) == "removed 1"
    assert told.view() == [0, 11, 21, 900]
    assert [tool.name for tool in told.memory.tools()] == ["prune_context"]


def test_run_files_name_the_inner_memory_and_its_options() -> None:
    inner = Reminder("omit", options={"keep": 1}).inner
    assert isinstance(inner, OmitObservations)
    assert inner.keep == 1
    nested = Reminder("reminder", options={"inner": "omit"}).inner
    assert isinstance(nested, Reminder)
    with pytest.raises(UnknownName, match="windw"):
        Reminder("windw")
    with pytest.raises(ConfigError, match=r"memory\.options\.keeps: unknown option"):
        Reminder("omit", options={"keeps": 1})
    with pytest.raises(ValueError, match="options go with the name"):
        Reminder(FullHistory(), options={"keep": 1})
    with pytest.raises(ValueError, match="every >= 1"):
        Reminder(every=0)
