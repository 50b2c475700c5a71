"""Memories that the policy writes in its ordinary turns."""

from __future__ import annotations

import asyncio

import pytest

from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs import registry
from foldgym.envs.worker import open_worker
from foldgym.memory import Mem1State, NotesAndClear
from foldgym.testing.doubles import ByteTokenizer, HashPolicy
from foldgym.types import At, Budget, Request, Reward, Sampling
from tests.unit.memory.logs import Told, played


def test_mem1_shows_the_newest_message_and_its_answer_only() -> None:
    assert Told(Mem1State(), played(0)).view() == [0, 900]
    assert Told(Mem1State(), played(3)).view() == [0, 900, 12, 22]
    assert Told(Mem1State(""), played(3)).view() == [0, 12, 22]


def test_mem1_trains_carried_ids_only_where_they_were_sampled() -> None:
    """Hazards 1 and 2: nothing is encoded again, and contexts are those of the rollout."""
    renderer = CompactRenderer(ByteTokenizer())
    policy = HashPolicy(renderer, garbage=0.0)
    how = Rollout(
        renderer, Mem1State, Sampling(max_tokens=120), Budget(3000, 120), Limits(max_turns=5)
    )
    world = "foldgym/KeyDoor-v0"
    (group,) = asyncio.run(
        rollout(
            [Request(world, 3)],
            lambda request: open_worker(registry.maker(world), "inline", 30.0),
            policy,
            how,
            3,
            lambda trajectory: Reward(0.0, 0.0),
        )
    )
    segments = group.trajectories[0].segments
    assert (len(segments), len(policy.calls)) == (4, 5)  # the second turn has dropped nothing yet
    for segment, (context, ids) in zip(segments, policy.calls[1:], strict=True):
        assert segment.token_ids == (*context, *ids)
    assert [
        sum(turn >= 0 for turn in segment.turn_ids[: -len(ids)])
        for segment, (_, ids) in zip(segments, policy.calls[1:], strict=True)
    ] == [
        len(policy.calls[0][1]),
        0,
        0,
        0,
    ]
    for (_, ids), (context, _) in zip(policy.calls, policy.calls[1:], strict=False):
        assert "".join(f"{i}," for i in ids) in "".join(f"{i}," for i in context)


def test_notes_survive_a_clearing_as_whole_turns() -> None:
    told = Told(NotesAndClear(window=6), played(1))
    assert told.calls(1, "note", text="the key is red") == "noted"
    told(At.BEFORE_MODEL)
    assert told.view() == [0, 10, 20, 11, 21]
    told.plays(2)
    told(At.BEFORE_MODEL)
    assert told.view() == [0, 900, 11, 21, 12, 22]
    told.plays(3)
    told(At.BEFORE_MODEL)
    assert told.view() == [0, 900, 11, 21, 12, 22, 13, 23]
    told.plays(4)
    told(At.BEFORE_MODEL)
    assert told.view() == [0, 900, 11, 21, 14, 24]


def test_only_the_last_notes_stay_and_pressure_lets_go_of_them() -> None:
    told = Told(NotesAndClear(window=6, keep=0, notes=2), played(0))
    for turn in range(3):
        told.calls(turn, "note", text=f"note {turn}")
    told(At.BEFORE_MODEL)
    assert told.view() == [0, 900, 11, 21, 12, 22]
    told(At.PRESSURE)
    assert told.view() == [0, 900, 12, 22]


def test_pressure_clears_before_it_costs_a_note() -> None:
    told = Told(NotesAndClear(), played(1))
    told.calls(1, "note", text="a")
    told.plays(2)
    told(At.PRESSURE)
    assert told.view() == [0, 900, 11, 21, 12, 22]


def test_a_note_without_text_is_answered_with_its_usage() -> None:
    told = Told(NotesAndClear(), played(1))
    assert told.calls(1, "note") == "error: note: text is missing. Usage: note <text>"
    assert told.state.notes == ()


def test_options_without_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="window=0"):
        NotesAndClear(window=0)
