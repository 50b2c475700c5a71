"""Memories around memories."""

from __future__ import annotations

import math

import pytest

from foldgym.errors import ConfigError, UnknownName
from foldgym.memory import FullHistory, MemoryEdit, OmitObservations, Reminder, SlidingWindow
from foldgym.memory.reminding import divergence
from foldgym.types import At, Finish, Ids, View
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
    for wrong in ({"every": 0}, {"drift": -0.1}, {"drift": math.nan}):
        with pytest.raises(ValueError, match=r"every >= 1, or drift >= 0, not"):
            Reminder(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"every=2 or drift=0\.1, not both"):
        Reminder(every=2, drift=0.1)


class Reader:
    """Log-probs by the length of what is shown: -1 up to three items, -2 beyond; keeps views."""

    def __init__(self) -> None:
        self.shown: list[View] = []

    def __call__(self, view: View, ids: Ids) -> tuple[float, ...]:
        self.shown.append(view)
        return (-1.0 if len(view.items) <= 3 else -2.0,) * len(ids)


def test_drift_compares_with_the_task_and_the_newest_answer_alone() -> None:
    """r = e: D = e - 1 - 1 = 0.718 from the third turn on, when more than one turn is shown."""
    reader = Reader()
    told = Told(Reminder(drift=0.7), played(0), scorer=reader)
    for turn in range(2):
        told.plays(turn)
    assert reader.shown == []  # one and the same context
    assert told.state.drifts == {0: (0.0,), 1: (0.0,)}
    told.plays(2)
    assert [len(view.items) for view in reader.shown] == [3, 5]
    assert told.state.drifts[2] == (pytest.approx(math.e - 2),)
    assert told.view() == [0, 10, 20, 11, 21, 12, 22, 900]
    told.plays(3)
    assert [len(view.items) for view in reader.shown[2:]] == [3, 8]  # the reminder is shown too
    assert told.view() == [0, 10, 20, 11, 21, 12, 22, 900, 13, 23, 900]
    assert told.state.numbers == {"drift": pytest.approx((math.e - 2) / 2)}


def test_drift_below_the_threshold_reminds_of_nothing() -> None:
    told = Told(Reminder(drift=0.72), played(0), scorer=Reader())
    for turn in range(4):
        told.plays(turn)
    assert told.view() == [0, 10, 20, 11, 21, 12, 22, 13, 23]


def test_a_turn_in_pieces_is_measured_as_one() -> None:
    reader = Reader()
    told = Told(Reminder(drift=0.1), played(0), scorer=reader)
    for turn in range(3):
        told.plays(turn)
    told.says(3)
    more = told.log.append("model", (33, 34), "policy", turn=3, finish=Finish.STOP)
    told(At.AFTER_MODEL, event=more)
    assert [view.open_turn for view in reader.shown[-2:]] == [True, True]
    assert [len(view.items) for view in reader.shown[-2:]] == [4, 9]
    assert told.state.drifts[3] == (pytest.approx(math.e - 2), 0.0, 0.0)


def test_words_of_others_are_not_measured() -> None:
    told = Told(Reminder(drift=0.1), played(0), scorer=Reader())
    for source in ("template", "aux"):
        event = told.log.append("model", (1,), source, turn=0)  # type: ignore[arg-type]
        told(At.AFTER_MODEL, event=event)
    assert told.state.drifts == {}


def test_without_a_reader_of_probabilities_drift_is_refused_by_a_line_that_helps() -> None:
    with pytest.raises(ConfigError, match=r"drift = 0\.1 needs a policy that reads .* use every"):
        Told(Reminder(drift=0.1), played(0))


def test_divergence_is_the_published_one() -> None:
    """p = 1/2 in fact, 1/4 afresh: 1/2 - 1 - log(1/2) = 0.193."""
    assert divergence(math.log(0.25), math.log(0.5)) == pytest.approx(math.log(2) - 0.5)
    assert divergence(-1.0, -1.0) == 0.0
