"""What published code got wrong (memory spec section 8), played through whole episodes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs.base import ToolEnv
from foldgym.envs.worker import open_worker
from foldgym.memory import DeepAgentFold, MemoryEdit
from foldgym.testing.doubles import ByteTokenizer, HashPolicy, witness
from foldgym.tools import tool
from foldgym.types import (
    Budget,
    Ids,
    Memory,
    Message,
    Prompt,
    Request,
    Reward,
    Sampling,
    Trajectory,
)

RENDERER = CompactRenderer(ByteTokenizer())


class Shelf(ToolEnv):
    """Counts how often it is looked at."""

    def setup(self, rng: random.Random) -> str:
        self.looks = 0
        return "look around"

    @tool
    def look(self, where: str) -> str:
        """Look somewhere."""
        self.looks += 1
        return f"{where}: look {self.looks}"


class Script(HashPolicy):
    """Says these lines in turn."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__(RENDERER)
        self.lines = list(lines)

    def say(self, prompt: Prompt, rng: random.Random) -> Ids:
        return RENDERER.say(Message("assistant", self.lines[len(self.calls)]), ())


def played(
    memory: Callable[[], Memory], lines: Sequence[str], turns: int, context: int = 4000
) -> tuple[Script, Trajectory]:
    policy = Script(lines)
    how = Rollout(RENDERER, memory, Sampling(), Budget(context, 0), Limits(turns))
    (group,) = asyncio.run(
        rollout(
            [Request("shelf", 0)],
            lambda request: open_worker(Shelf, "inline", 30.0),
            policy,
            how,
            0,
            lambda trajectory: Reward(0.0, 0.0),
        )
    )
    return policy, group.trajectories[0]


def test_a_prune_trains_no_id_twice() -> None:
    """Hazards 1 and 3: the segment after the cut holds the turns that stayed as context."""
    policy, trajectory = played(
        MemoryEdit,
        [
            "look left",
            "look right",
            'prune_context {"memory": "left is empty", "ids": ["1"]}',
            "look up",
        ],
        turns=4,
    )
    said = [len(ids) for _, ids in policy.calls]
    assert witness(trajectory) == sum(said)
    assert [segment.trained for segment in trajectory.segments] == [sum(said[:3]), said[3]]
    context = RENDERER.tokenizer.decode(policy.calls[3][0])
    assert "left: look 1" not in context
    assert "right: look 2" in context
    assert "left is empty" in context
    assert trajectory.turns[2].observation[0].text == "removed 1"


def test_a_call_made_before_a_fold_can_be_made_again_after_it() -> None:
    """Hazard 5: what a fold forgot can be found again."""
    memories = ["events", "work", "tools"]
    policy, trajectory = played(
        lambda: DeepAgentFold(max_tokens=32),
        ["look left", "fold_thought", *memories, *memories, "look left"],
        turns=3,
    )
    assert witness(trajectory) == sum(len(ids) for _, ids in policy.calls)
    context = RENDERER.tokenizer.decode(policy.calls[8][0])
    assert "left: look 1" not in context
    assert "Memory (episode): events" in context
    assert trajectory.turns[-1].observation[0].text == "left: look 2"
