"""Gain, loss and recall of memories, worked out by hand for a player that only reads.

A chain of h facts, one document a search: the reader searches h times, answers, and needs all h
facts in view. Task and tokens are bytes, so contexts can be counted.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch

from foldgym.agents.drift import Fresh, divergence, drift
from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.evaluate import tasks
from foldgym.agents.memory_report import (
    Contestant,
    MemoryReport,
    Trial,
    evaluate_memories,
)
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout
from foldgym.envs.registry import maker
from foldgym.envs.worker import open_worker
from foldgym.memory import MEMORIES, FullHistory, SlidingWindow, Summarise
from foldgym.testing.doubles import ByteTokenizer, HashPolicy
from foldgym.testing.readers import Reader
from foldgym.types import Budget, Group, Ids, Memory, Policy, Reward, Sampling, Segment

RENDERER = CompactRenderer(ByteTokenizer())
WORLD = "foldgym/FictionalSearch-v0"


def reported(
    memories: Mapping[str, Callable[[], Memory]],
    contexts: Sequence[int] = (4000,),
    policy: Policy | None = None,
    world: str = WORLD,
    samples: int = 1,
    episodes: int = 20,
    kept: list[tuple[str, int, Sequence[Group]]] | None = None,
    options: Mapping[str, Any] | None = None,
    reserve: int = 64,
    **kwargs: Any,
) -> MemoryReport:
    make = maker(world, **({"top_k": 1, "hops": 2} if options is None else options))
    budget = Budget(4000, reserve)
    trial = Trial(
        tasks(world, episodes, 0, samples),
        lambda request: open_worker(make, "inline", 30.0),
        policy or Reader(RENDERER),
        Rollout(RENDERER, FullHistory, Sampling(max_tokens=reserve), budget, Limits(12)),
        lambda t: Reward(float(t.facts["score"]), 0.0),
        0,
        oracle_context=4000,
        keep=None if kept is None else lambda *cell: kept.append(cell),
        **kwargs,
    )
    contestants = [Contestant(label, memory, budget) for label, memory in memories.items()]
    return asyncio.run(evaluate_memories(trial, contestants, contexts))


def played(kept: list[tuple[str, int, Sequence[Group]]], label: str, context: int) -> list[Any]:
    (groups,) = [groups for name, size, groups in kept if (name, size) == (label, context)]
    return [trajectory for group in groups for trajectory in group.trajectories]


def test_gain_and_loss_by_hand() -> None:
    memories = {"one": lambda: SlidingWindow(1), "two": lambda: SlidingWindow(2)}
    kept: list[tuple[str, int, Sequence[Group]]] = []
    found = reported(memories, options={"top_k": 1, "hops": (1, 1)}, kept=kept)
    hops = [trajectory.facts["hops"] for trajectory in played(kept, "none", 4000)]
    assert (easy := hops.count(1)) + hops.count(2) == 20
    assert 0 < easy < 20
    # with all facts in the prompt the answer comes at once
    assert found.oracle is not None
    assert found.oracle.report.success.mean == found.oracle.report.turns.mean == 1.0
    # in one turn of the past there is room for one fact: chains of two are lost
    assert [t.facts["success"] for t in played(kept, "none", 4000)] == [n == 1 for n in hops]
    one, two = found.own["one"][4000], found.own["two"][4000]
    assert one.report.outcomes == found.none[4000].report.outcomes
    assert (one.gain.mean, one.loss.mean) == (0.0, pytest.approx(1 - easy / 20))
    assert two.report.success.mean == 1.0
    assert (two.gain.mean, two.loss.mean) == (pytest.approx(1 - easy / 20), 0.0)
    assert (two.gain.wins, two.gain.losses, two.gain.n) == (20 - easy, 0, 20)


def test_every_setting_plays_the_same_tasks_with_the_same_streams() -> None:
    kept: list[tuple[str, int, Sequence[Group]]] = []
    memories = {"full": FullHistory, "fold": lambda: Summarise("turns", 2)}
    reported(memories, (500, 4000), HashPolicy(RENDERER), samples=2, episodes=3, kept=kept)
    assert [(label, context) for label, context, _ in kept] == [
        ("oracle", 4000),
        ("none", 500),
        ("none", 4000),
        ("full", 500),
        ("full", 4000),
        ("fold", 500),
        ("fold", 4000),
    ]
    streams = [[(t.id, t.seed) for t in played(kept, label, size)] for label, size, _ in kept]
    assert len(streams[0]) == 6
    assert all(each == streams[0] for each in streams)
    texts = [m.text for m in played(kept, "oracle", 4000)[0].task.prompt]
    assert texts[0] == played(kept, "none", 500)[0].task.prompt[0].text
    assert len(texts[1].splitlines()) == 2  # a line a fact


def test_success_by_context_is_what_fits() -> None:
    kept: list[tuple[str, int, Sequence[Group]]] = []
    reported({"full": FullHistory}, kept=kept)
    needed = [t.turns[-1].prompt_tokens for t in played(kept, "full", 4000)]
    context = sorted(needed)[10] - 1 + 64  # one id too short for the median
    found = reported({"full": FullHistory}, (context, 4000), kept=kept)
    fits = [each < sorted(needed)[10] for each in needed]
    assert 0 < sum(fits) < 20
    assert [t.facts["success"] for t in played(kept, "full", context)] == fits
    cell = found.own["full"][context]
    assert cell.report.success.mean == sum(fits) / 20
    assert cell.report.stops == {"done": sum(fits), "max_context": 20 - sum(fits)}
    assert cell.loss.mean == pytest.approx(1 - sum(fits) / 20)


def test_recall_by_age_is_a_step_at_the_window() -> None:
    memories = {"three": lambda: SlidingWindow(3), "full": FullHistory}
    found = reported(memories, probes=9, options={"top_k": 1, "hops": 4})
    three, full = found.own["three"][4000].recall, found.own["full"][4000].recall
    assert three is not None
    assert full is not None
    # four searches and an answer in view of all: ages 1 to 4, once each in 20 episodes
    assert full.by_age == dict.fromkeys((1, 2, 3, 4), (20, 20))
    assert full.by_folds == {0: (80, 80)}
    assert (full.rate.mean, full.asked, full.no_room) == (1.0, 80, 0)
    assert found.own["full"][4000].kept is None  # nothing was folded
    assert found.own["full"][4000].kept_at_last.mean == 1.0
    # three turns in view: the reader runs in circles for 12 turns. At the last, facts 0 and 1 and
    # 2 take turns in view, and the fourth was never found
    assert {age: right for age, (right, _) in three.by_age.items() if age <= 3} == {
        1: 20,
        2: 20,
        3: 20,
    }
    assert sum(right for age, (right, _) in three.by_age.items() if age > 3) == 0
    assert three.rate.mean == 3 / 4
    assert found.own["three"][4000].report.success.mean == 0.0


def test_folds_age_facts_and_fidelity_is_what_the_notes_hold() -> None:
    memories = {
        "copies": lambda: Summarise("turns", 2, max_tokens=200),
        "loses": lambda: Summarise("turns", 2, max_tokens=40),
    }
    found = reported(memories, probes=9, options={"top_k": 1, "hops": 4})
    copies, loses = (found.own[label][4000] for label in memories)
    # the fold before turn 2 copies two facts, said 2 and 1 turns ago; the one before turn 4 would
    # copy four sentences, longer than the two turns that it replaces, and is refused; at the last
    # turn two facts have seen a fold and two none
    assert copies.recall.by_folds == {0: (20 * 2, 20 * 2), 1: (20 * 4, 20 * 4)}
    assert copies.report.success.mean == copies.kept.mean == copies.kept_at_last.mean == 1.0
    assert (copies.costs["shortenings"], copies.costs["failed_folds"]) == (1.0, 1.0)
    # notes of 40 bytes hold one sentence of 24 to 29: the chain is lost
    assert loses.report.success.mean == 0.0
    assert loses.kept.mean < 1.0
    assert loses.recall.by_folds[1][0] < loses.recall.by_folds[1][1]
    assert loses.loss.mean == 1.0


def test_what_a_world_or_a_policy_does_not_offer_is_left_out() -> None:
    world = "foldgym/GuessNumber-v0"
    memories = {"window": lambda: SlidingWindow(2)}
    found = reported(memories, (900,), HashPolicy(RENDERER), world, options={})
    assert found.oracle is None
    cell = found.own["window"][900]
    assert cell.loss is None
    assert cell.gain is not None
    assert cell.recall is None
    assert cell.kept_at_last is None
    assert cell.drift is None
    silent = reported(memories, probes=0, episodes=3).own["window"][4000]
    assert silent.recall is None
    assert silent.kept_at_last.mean == 1.0  # facts are looked for without asking anybody


@pytest.mark.parametrize("memory", sorted(MEMORIES))
def test_every_memory_is_reported_as_json(memory: str) -> None:
    policy = HashPolicy(RENDERER)
    found = reported({memory: MEMORIES[memory]}, (900, 1500), policy, episodes=3, samples=2)
    table = json.loads(json.dumps(found.to_table(), allow_nan=False))
    assert list(table["own"][memory]) == ["900", "1500"]
    cell = table["own"][memory]["900"]
    assert cell["context"] == 900
    assert cell["costs"]["context_peak"] <= 900
    assert cell["gain"]["n"] == 3
    assert len(found.cells) == 5
    again = reported(
        {memory: MEMORIES[memory]}, (900, 1500), HashPolicy(RENDERER), episodes=3, samples=2
    )
    for one, other in zip(found.cells, again.cells, strict=True):
        assert one.to_table() | {"seconds": 0} == other.to_table() | {"seconds": 0}


# ---------------------------------------------------------------- drift


class Table:
    """A scorer whose log-probs stand in a table of (last id of the prompt, id)."""

    def logprobs(self, prompt: Ids, target: Ids) -> tuple[float, ...]:
        found = []
        for token in target:
            found.append({(1, 7): -1.0, (2, 7): -1.5, (7, 8): -0.5}[prompt[-1], token])
            prompt = (*prompt, token)
        return tuple(found)


def test_drift_by_hand() -> None:
    assert divergence(-1.0, -1.0) == 0.0
    # r = e^0.5: 1.648721 - 1 - 0.5; and the other way round e^-0.5 - 1 + 0.5
    assert divergence(-1.0, -1.5) == pytest.approx(0.148721, abs=1e-6)
    assert divergence(-1.5, -1.0) == pytest.approx(0.106531, abs=1e-6)
    zeros = (0.0,) * 5
    segments = (
        Segment((3, 1, 7, 8, 2), (-1, -1, 0, 0, -1), zeros, (0,) * 5),
        Segment((2, 7, 8), (-1, 1, 1), (0.0,) * 3, (0,) * 3),
    )
    trajectory = played_stub(segments)
    fresh = Fresh({0: (3, 1), 1: (1,)}, ((0, 1),))
    found = drift(trajectory, fresh, Table())
    assert found[0] == 0.0
    # turn 1 was sampled behind 2 and is fresh behind 1; its second id has the same last id before
    assert found[1] == pytest.approx(0.148721 / 2, abs=1e-6)


def played_stub(segments: tuple[Segment, ...]) -> Any:
    kept: list[tuple[str, int, Sequence[Group]]] = []
    reported({"full": FullHistory}, episodes=1, kept=kept)
    (trajectory,) = played(kept, "full", 4000)
    return dataclasses.replace(trajectory, segments=segments)


def test_drift_of_a_model_starts_at_0_and_is_0_where_the_context_is_fresh() -> None:
    torch.set_num_threads(1)
    size = ByteTokenizer().vocab_size
    model = init_model(vocab_size=size, hidden=16, layers=1, heads=2, mlp=16, max_positions=4096)
    policy = TorchPolicy(model, RENDERER.stop_ids, pad_id=0)
    memories = {
        "one": lambda: SlidingWindow(1),
        "full": FullHistory,
        "fold": lambda: Summarise("turns", 2, max_tokens=12),
    }
    found = reported(
        memories, policy=policy, episodes=2, scorer=policy, drift=2, reserve=16, probes=1
    )
    one, full, fold = (found.own[label][4000].drift for label in memories)
    assert one is not None
    assert len(one["by_turn"]) > 3
    assert set(one["by_turn"].values()) == {0.0}
    assert one["folds"] == 0
    assert one["before"] is None
    assert full["by_turn"]["0"] == full["by_turn"]["1"] == 0.0
    assert full["by_turn"]["2"] > 0.0
    assert all(value >= 0.0 for value in full["by_turn"].values())
    assert fold["folds"] > 0
    assert fold["after"] > 0.0
