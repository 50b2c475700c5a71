"""What memories cost and lose, against counts worked out by hand and against the engine's own."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch

import foldgym
from foldgym.agents.counting import Tally, costs, of_segments
from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs import registry
from foldgym.envs.worker import open_worker
from foldgym.memory import MEMORIES, FullHistory, MemoryEdit, Reminder, SlidingWindow, Summarise
from foldgym.testing.doubles import ByteTokenizer
from foldgym.trainers.metrics import summary
from foldgym.types import (
    Budget,
    Log,
    Memory,
    Policy,
    Prompt,
    Ref,
    Request,
    Reward,
    Sampling,
    Segment,
    Synth,
    ToolCall,
    Trajectory,
    View,
)

RENDERER = CompactRenderer(ByteTokenizer())


class Echo(foldgym.ToolEnv):
    """Says back what it is told, for ever."""

    def setup(self, rng: random.Random) -> str:
        return "go"

    @foldgym.tool
    def say(self, word: str) -> str:
        """Say a word."""
        return word


def episode(
    policy: Policy, memory: Callable[[], Memory], turns: int, make: Any = Echo
) -> Trajectory:
    how = Rollout(
        RENDERER, memory, Sampling(max_tokens=20), Budget(4096, 64, 0.02), Limits(turns, 60.0, 99)
    )
    open_env = lambda request: open_worker(make, "inline", 30.0)  # noqa: E731
    (group,) = asyncio.run(
        rollout([Request("echo", 0)], open_env, policy, how, 0, lambda t: Reward(0.0, 0.0))
    )
    assert not group.failures, group.failures[0].error
    return group.trajectories[0]


def test_calls_are_added_up_and_what_an_engine_still_holds_is_reused() -> None:
    tally = Tally(Counter())
    tally.called("policy", (1, 2, 3), (7, 9))
    tally.called("policy", (1, 2, 3, 7, 9, 4), (8,))  # 1 2 3 7: the key of a last id is not there
    tally.called("aux", (1, 2, 3, 7), (5,))
    tally.called("policy", (1, 2, 6), (8,))  # a rewrite: 1 2
    assert dict(tally.counters) == {
        "calls": 3,
        "prompt_tokens": 3 + 6 + 3,
        "sampled_tokens": 2 + 1 + 1,
        "reused_tokens": 0 + 4 + 2,
        "context_peak": 7,
        "aux_calls": 1,
        "aux_prompt_tokens": 4,
        "aux_sampled_tokens": 1,
        "aux_reused_tokens": 0,
        "aux_context_peak": 5,
    }


def test_the_memory_block_is_what_is_neither_task_nor_turn() -> None:
    log = Log()
    log.append("task", (1, 1, 1), "env")
    log.append("model", (2, 2), "policy", turn=0)
    log.append("observation", (3,), "env", turn=0)
    log.append("memory", (4, 4, 4, 4, 9), "policy", turn=1)
    tally = Tally(Counter())
    tally.shown(View((Ref(0), Synth((5, 5), "frame"), Ref(3, 0, 4), Ref(1), Ref(2))), log)
    assert tally.counters["memory_peak"] == 2 + 4
    tally.shown(View((Ref(0),)), log)
    assert tally.counters["memory_peak"] == 6


def test_a_call_is_forgotten_when_no_answer_to_it_is_shown() -> None:
    log = Log()
    log.append("task", (1,), "env")
    for turn in range(3):
        log.append("model", (2,), "policy", turn=turn)
        log.append("observation", (3,), "env", turn=turn)
    key, other = ToolCall("search", "key"), ToolCall("search", "door")
    tally = Tally(Counter())
    tally.acted([key, key], 0)  # twice in one message is not again
    assert "duplicate_calls" not in tally.counters
    tally.shown(View((Ref(0), Ref(1), Ref(2))), log)
    tally.acted([key], 1)
    assert (tally.counters["duplicate_calls"], tally.counters["forgotten_calls"]) == (1, 0)
    tally.shown(View((Ref(0), Ref(5), Ref(6))), log)  # turn 2 alone
    tally.acted([other, key], 3)
    assert (tally.counters["duplicate_calls"], tally.counters["forgotten_calls"]) == (2, 1)


def test_the_rewrite_ratio_is_segment_tokens_over_sampled_tokens() -> None:
    def segment(*turns: int) -> Segment:
        zeros = (0,) * len(turns)
        return Segment(zeros, turns, (0.0,) * len(turns), zeros)

    found = of_segments([segment(-1, -1, 0, 0, -1, 1), segment(-1, 2)])
    assert found == {"segments": 2, "segment_tokens": 8, "rewrite_ratio": 8 / 4}
    assert of_segments([]) == {"segments": 0, "segment_tokens": 0}


def test_a_window_rewrites_and_forgets() -> None:
    said = ["a", "a", "b", "a"]
    policy = FunctionPolicy(lambda prompt, rng: f"say {said[prompt.turn]}")
    # <user>go<end> 4, <assistant> 1, say a<end> 6, <tool>a<end> 3; a glue token before each turn
    window = episode(policy, lambda: SlidingWindow(1), 4)
    assert window.counters["prompt_tokens"] == 5 + 3 * (5 + 6 + 3 + 1)
    assert window.counters["sampled_tokens"] == 24
    assert window.counters["context_peak"] == 15 + 6
    # turns 0 and 1 share a segment of 15 + 6 ids, 2 and 3 have one each
    assert window.counters["segment_tokens"] == 3 * 21
    assert window.counters["rewrite_ratio"] == 63 / 24
    # the prompt of turn 1 begins with that of turn 0 and "say a"; that of turn 2 equals it (all
    # but its last id is of use); that of turn 3 shares the task, the header and "say "
    assert window.counters["reused_tokens"] == 0 + 10 + 14 + 9
    assert (window.counters["duplicate_calls"], window.counters["forgotten_calls"]) == (2, 1)
    full = episode(policy, FullHistory, 4)
    assert full.counters["segments"] == 1
    assert full.counters["reused_tokens"] == 10 + 20 + 30
    assert (full.counters["duplicate_calls"], full.counters["forgotten_calls"]) == (2, 0)
    assert "shortenings" not in full.counters


def test_a_fold_counts_what_it_removed_and_what_it_shows_instead() -> None:
    seen: list[Prompt] = []

    def speak(prompt: Prompt, rng: random.Random) -> str:
        seen.append(prompt)
        return "notes" if prompt.purpose == "fold" else "say hello"

    memory = lambda: Summarise("turns", 2, instruction="?")  # noqa: E731
    played = episode(FunctionPolicy(speak), memory, 4)
    # turns of 1 + 10 + 7 ids; notes take <user>Notes: notes<end>, 14, the instruction 3
    lengths = [len(prompt.ids) for prompt in seen]
    assert lengths == [5, 23, 41 + 3, 5 + 14, 5 + 14 + 18]
    assert played.counters["shortenings"] == 1
    assert played.counters["removed_tokens"] == 41 - 19
    assert played.counters["memory_peak"] == 14
    assert "failed_folds" not in played.counters
    assert costs([played])["notes"] == 6 / (6 + 4 * 10)


def test_refused_folds_are_counted_through_a_wrapper() -> None:
    policy = FunctionPolicy(
        lambda prompt, rng: "x" * 99 if prompt.purpose == "fold" else "say hello"
    )
    memory = lambda: Reminder(Summarise("turns", 2), 9)  # noqa: E731
    played = episode(policy, memory, 3)
    assert played.counters["failed_folds"] == 1
    assert "shortenings" not in played.counters


def test_a_prune_is_a_shortening_too() -> None:
    said = ["say hello", "say you", 'prune_context {"memory": "m", "ids": ["1"]}', "say you"]
    policy = FunctionPolicy(lambda prompt, rng: said[prompt.turn])
    played = episode(policy, MemoryEdit, 4)
    # the turn of "hello": 1 + 10 + 7, and its label <user>[id 1]<end>
    assert played.counters["shortenings"] == 1
    assert played.counters["removed_tokens"] == 18 + 8
    assert played.counters["duplicate_calls"] == 1
    assert "forgotten_calls" not in played.counters or not played.counters["forgotten_calls"]


@pytest.mark.parametrize("memory", ["full", "window", "summarise", "edit"])
@pytest.mark.parametrize("batching", ["rounds", "dynamic"])
def test_reuse_is_what_the_engine_reused(memory: str, batching: Any) -> None:
    torch.set_num_threads(1)
    size = ByteTokenizer().vocab_size
    model = init_model(vocab_size=size, hidden=16, layers=1, heads=2, mlp=16, max_positions=4096)
    policy = TorchPolicy(model, RENDERER.stop_ids, pad_id=0, batching=batching)
    make = registry.maker("foldgym/KeyDoor-v0")
    played = episode(policy, MEMORIES[memory], 8, make)
    assert played.counters["calls"] >= 8
    found = policy.counters()
    assert found["reused"] == played.counters["reused_tokens"] > 0
    assert found["prefilled"] + found["reused"] == played.counters["prompt_tokens"]
    assert found["decoded"] == played.counters["sampled_tokens"]


def test_metrics_of_a_step_hold_the_costs() -> None:
    policy = FunctionPolicy(lambda prompt, rng: "say hello")
    played = episode(policy, FullHistory, 2)
    found = summary([foldgym.types.Group(Request("echo", 0), (played,), (Reward(0.0, 0.0),))])
    # prompts of 5 and 23 ids, 10 sampled each
    assert found["memory/context_mean"] == (5 + 23 + 20) / 2
    assert found["memory/rewrite_ratio"] == 33 / 20
    assert found["memory/reuse"] == 14 / 28
    assert costs([]) == {}
