"""Recorded episodes replay exactly: same questions, same replies, same tokens, same measures.

A change here changes what agents are trained and judged on. If that is meant, write the files
anew with FOLDGYM_WRITE_GOLDEN=1 and say so in the changelog.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from foldgym.agents.engines.scripted import ExpertPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs import registry
from foldgym.envs.worker import open_worker
from foldgym.memory import FullHistory
from foldgym.records import to_table
from foldgym.testing.doubles import ByteTokenizer
from foldgym.types import Request, Reward

HERE = Path(__file__).parent / "episodes"
# PyDocsSearch is left out: its documents are those of the interpreter that runs it. HiddenGrid and
# HiddenSequence, too: their episodes are longer than these, and their files would be large.
WORLDS = (
    *("Arithmetic", "EscapeRoom", "FictionalChain", "FictionalSearch", "FunctionOperator"),
    *("GuessNumber", "Household", "KeyDoor", "Reactor", "RunningSum", "Saturn", "Sokoban"),
)


def played(world: str) -> list[dict[str, Any]]:
    """Two tasks of two members each, by the optimal and the hasty expert."""
    name = f"foldgym/{world}-v0"
    how = Rollout(CompactRenderer(ByteTokenizer()), FullHistory, limits=Limits(max_turns=12))
    found: list[dict[str, Any]] = []
    for style in ("optimal", "hasty"):
        groups = asyncio.run(
            rollout(
                [Request(name, 11, 2), Request(name, 12, 2)],
                lambda request: open_worker(registry.maker(request.env), "inline", 30.0),
                ExpertPolicy(style),
                how,
                5,
                lambda t: Reward(float(t.facts["score"]), float(t.facts["score"])),
            )
        )
        for group in groups:
            for trajectory, reward in zip(group.trajectories, group.rewards, strict=True):
                table = to_table(trajectory, reward)
                del table["seconds"]  # the only thing in it that no seed decides
                found.append({"style": style, **table})
    return json.loads(json.dumps(found))


@pytest.mark.parametrize("world", WORLDS)
def test_recorded_episodes_replay_exactly(world: str) -> None:
    path = HERE / f"{world}.json"
    now = played(world)
    if os.environ.get("FOLDGYM_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(now, indent=None, separators=(",", ":")) + "\n")
    recorded = json.loads(path.read_text())
    assert len(recorded) == 8
    for old, new in zip(recorded, now, strict=True):
        assert new == old
