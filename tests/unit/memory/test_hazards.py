"""What published code got wrong (memory spec section 8), and the test that holds each of them.

1 decode, encode again: unit/memory/test_notes.py
    test_mem1_trains_carried_ids_only_where_they_were_sampled
2 another context in training: properties/test_every_plugin.py
    test_every_memory_keeps_the_invariants
2 carried ids: unit/memory/test_thinking.py
    test_a_turn_in_chunks_is_one_turn_of_one_message
3 an id trained twice: unit/memory/test_hazards.py
    test_a_prune_trains_no_id_twice
4 means by rows: properties/test_training.py
    test_a_trajectory_weighs_the_same_however_often_it_folded
4 rows dropped or cut: properties/test_training.py
    test_cutting_segments_anywhere_changes_nothing
5 calls refused after a fold: unit/agents/scaffolds/test_deepagent.py
    test_a_fold_allows_what_it_took_out_of_view
5 the same: unit/memory/test_hazards.py
    test_a_call_made_before_a_fold_can_be_made_again_after_it
6 unchecked memories: unit/memory/test_deepagent.py
    test_a_broken_memory_is_written_again_once
6 empty ones: unit/memory/test_deepagent.py
    test_a_fold_with_nothing_usable_changes_nothing
6 tools blank: unit/memory/test_deepagent.py
    test_the_writer_of_the_tool_memory_is_told_the_tools
7 anchors in the user's text: unit/memory/test_deepagent.py
    test_a_question_that_holds_the_words_of_the_block_stays_as_it_is
8 ids inside ids: unit/memory/test_pruning.py
    test_ids_match_exactly
9 summaries at every step: unit/memory/test_chunks.py
    test_its_line_is_written_once
10 items that were not copied: unit/memory/test_sheets.py
    test_what_a_written_sheet_changes
10 wrong answers kept: unit/memory/test_store.py
    test_best_lets_the_first_of_the_best_write_unless_it_failed
10 in a run: unit/trainers/test_stores.py
    test_who_fails_writes_nothing_where_the_best_write
11 unknown taken for 0: unit/trainers/test_curricula.py
    test_knapsack_takes_unknown_for_unknown
11 starved arms: unit/trainers/test_selectors.py
    test_dads_never_starves_a_small_share
12 rescues as on-policy: unit/trainers/test_rescues.py
    test_rescued_members_carry_the_prompt_they_were_sampled_from
14 answers that are missing: unit/envs/test_running_sum.py
    test_missing_answers_are_wrong_ones
15 two snapshots in a group: unit/memory/test_store.py
    test_a_group_that_read_two_snapshots_stops_the_run
15 in a run: unit/trainers/test_stores.py
    test_all_episodes_of_a_step_read_one_snapshot_and_the_next_step_the_next

13, 16 and 17 are about worlds and judges: probes, `won`, and votes are tested with those.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path

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


def test_every_hazard_of_memory_names_a_test_that_exists() -> None:
    named = re.findall(r"^(\d+) .*: (\S+)\n    (\w+)$", str(__doc__), re.MULTILINE)
    root = Path(__file__).parents[2]
    missing = [name for _, file, name in named if f"def {name}(" not in (root / file).read_text()]
    assert not missing
    assert {int(number) for number, _, _ in named} >= {*range(1, 13), 15}
