"""Memories against views worked out by hand: one id per event, so that views read as numbers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foldgym.memory import FullHistory, OmitObservations, SlidingWindow, Summarise
from foldgym.memory.views import squeeze
from foldgym.types import At, Boundary, Event, Finish, Log, Ref, Synth, View
from tests.unit.memory.logs import Kit, played, shown


def test_full_history_shows_everything_in_order() -> None:
    log = played(2)
    assert shown(FullHistory().view(log, None), log) == [0, 10, 20, 11, 21]


def test_a_window_keeps_whole_turns_and_the_task() -> None:
    log = played(4)
    assert shown(SlidingWindow(turns=2).view(log, None), log) == [0, 12, 22, 13, 23]
    assert shown(SlidingWindow(turns=9).view(log, None), log) == [
        0,
        *(10, 20, 11, 21, 12, 22),
        13,
        23,
    ]


def test_old_observations_become_one_line() -> None:
    log = played(3)
    memory = OmitObservations(keep=1)
    state = memory.start(log, Kit())
    assert shown(memory.view(log, state), log) == [0, 10, 900, 11, 900, 12, 22]


def fold(memory: Summarise, log: Log, used: int, notes: tuple[int, ...] | None, state: Any) -> Any:
    """One BEFORE_MODEL boundary; returns the state and what the writer of the notes was shown."""
    asked: list[list[int]] = []

    async def ask(purpose: str, view: View, max_tokens: int, by: str = "policy") -> Event | None:
        asked.append(shown(view, log))
        if notes is None:
            return None
        return log.append("memory", notes, "policy", turn=99, finish=Finish.STOP)

    at = Boundary(At.BEFORE_MODEL, used=used)
    return asyncio.run(memory.on(at, log, state, ask)), asked  # type: ignore[arg-type]


def test_a_fold_replaces_old_turns_by_notes_and_later_notes_replace_notes() -> None:
    memory, log = Summarise(keep=1, max_tokens=9), played(3)
    state = memory.start(log, Kit())
    same, asked = fold(memory, log, 50, (77, 1), state)
    assert same == state
    assert not asked
    state, asked = fold(memory, log, 51, (77, 1), state)
    assert asked == [[0, 10, 20, 11, 21, 12, 22, 900]]
    assert shown(memory.view(log, state), log) == [0, 901, 77, 902, 12, 22]
    log.append("model", (13,), "policy", turn=3)
    log.append("observation", (23,), "env", turn=3)
    state, asked = fold(memory, log, 60, (78, 1), state)
    assert asked == [[0, 901, 77, 902, 12, 22, 13, 23, 900]]
    assert shown(memory.view(log, state), log) == [0, 901, 78, 902, 13, 23]
    assert state.folds == 2


def test_notes_alone_may_carry_the_task() -> None:
    memory, log = Summarise(trigger="turns", every=2, keep_task=False), played(2)
    state = memory.start(log, Kit())
    assert shown(memory.view(log, state), log)[0] == 0
    state, _ = fold(memory, log, 1, (77, 1), state)
    assert shown(memory.view(log, state), log) == [901, 77, 902]


@pytest.mark.parametrize("notes", [None, (7, 7, 7, 7, 7, 1)])
def test_notes_that_are_missing_or_too_long_leave_everything_as_it_was(
    notes: tuple[int, ...] | None,
) -> None:
    memory, log = Summarise(), played(2)
    state = memory.start(log, Kit())
    before = shown(memory.view(log, state), log)
    state, _ = fold(memory, log, 99, notes, state)
    assert (state.folds, state.failed) == (0, 1)
    assert shown(memory.view(log, state), log) == before


def test_views_are_pure() -> None:
    log = played(3)
    for memory in (FullHistory(), SlidingWindow(2), OmitObservations(1), Summarise()):
        state = memory.start(log, Kit())
        assert memory.view(log, state) == memory.view(log, state)
        assert len(log) == 7


def test_options_without_effect_are_refused() -> None:
    with pytest.raises(ValueError, match="every"):
        Summarise(every=3)
    with pytest.raises(ValueError, match="every"):
        Summarise(trigger="turns")
    with pytest.raises(ValueError, match="turns >= 1"):
        SlidingWindow(0)


def test_a_squeeze_blanks_first_and_drops_whole_turns_after() -> None:
    log = played(3)
    view, mark = FullHistory().view(log, None), Synth((9,), "squeezed")

    def fits(limit: int, wanted: int) -> list[int] | None:
        result = squeeze(view, log, mark, lambda v: sum(shown(v, log)) <= limit)
        assert result is None or result.blanked + result.dropped == wanted
        return result and shown(result.view, log)

    assert fits(88, 1) == [0, 10, 9, 11, 21, 12, 22]
    assert fits(73, 2) == [0, 10, 9, 11, 9, 12, 22]
    assert fits(72, 1) == [0, 11, 21, 12, 22]
    assert fits(35, 2) == [0, 12, 22]
    assert fits(33, 3) == [0, 12, 9]  # the newest observation is the last to go
    assert fits(20, 0) is None


def test_a_squeeze_never_parts_a_call_from_its_result() -> None:
    log = played(3)
    result = squeeze(
        FullHistory().view(log, None), log, Synth((9,), "squeezed"), lambda v: len(v.items) <= 3
    )
    assert result is not None
    assert result.view.items == (Ref(0), Ref(5), Ref(6))
