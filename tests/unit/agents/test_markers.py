"""Stop strings: cut by ids, and answered by the memory."""

from __future__ import annotations

from typing import Any

import pytest

from foldgym.agents.markers import cut
from foldgym.memory import FullHistory
from foldgym.testing.doubles import witness
from foldgym.types import (
    Ask,
    At,
    Boundary,
    Completion,
    Finish,
    Log,
    Proposal,
    Snapshot,
    Stop,
)
from tests.unit.memory.test_hazards import RENDERER, played

decode = RENDERER.tokenizer.decode


def said(text: str) -> Completion:
    ids = tuple(text.encode())
    logprobs = tuple(-0.1 * k for k in range(len(ids)))
    return Completion(ids, logprobs, 3, versions=tuple(range(len(ids))))


@pytest.mark.parametrize(
    ("text", "earlier", "kept"),
    [
        ("go <f> on", "", "go <f>"),
        ("go on", "", "go on"),
        ("> on", "go <f", ">"),
    ],
)
def test_a_completion_ends_with_the_id_that_completes_a_stop(
    text: str, earlier: str, kept: str
) -> None:
    found = cut(said(text), ["<f>"], decode, tuple(earlier.encode()))
    assert decode(found.ids) == kept
    assert found.logprobs == said(text).logprobs[: len(kept)]
    assert (found.version, found.versions) == (3, tuple(range(len(kept))))
    assert (found.finish is Finish.MARKER) == (kept != "go on")


class Pausing(FullHistory):
    """Answers a stop string."""

    stops = ("<pause>",)

    def start(self, log: Log, kit: Any) -> Any:
        assert kit.scorer is not None
        return State(kit.store, "")

    async def on(self, boundary: Boundary, log: Log, state: Any, ask: Ask) -> Any:
        event = boundary.event
        if boundary.at is At.AFTER_MODEL and event and event.finish is Finish.MARKER:
            return State(state.store, "go on")
        return state


class State:
    def __init__(self, store: Snapshot, reply: str) -> None:
        self.store, self.reply = store, reply
        self.proposal = Proposal((("a", "b"),))
        self.numbers = {"pauses": 2}


def test_a_stop_is_answered_by_the_memory_and_trained_up_to_its_end() -> None:
    lines = ["look left", "look <pause> right", "look left", "look right"]
    policy, trajectory = played(Pausing, lines, 4)
    heard = [turn.observation[0].text for turn in trajectory.turns]
    assert heard == ["left: look 1", "go on", "left: look 2", "right: look 3"]
    assert [turn.finish for turn in trajectory.turns][1] is Finish.MARKER
    assert trajectory.turns[1].message.text == "look <pause>"
    gone = len(" right") + 1  # and the end token
    assert witness(trajectory) == sum(len(ids) for _, ids in policy.calls) - gone
    assert trajectory.stop is Stop.MAX_TURNS
    assert trajectory.counters["pauses"] == 2
    assert trajectory.proposal == Proposal((("a", "b"),), read=Snapshot().address)
