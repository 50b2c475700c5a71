"""Tasks one after the other: each reads what the earlier ones left, and nothing of itself."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import pytest

from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.evaluate import evaluate
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout
from foldgym.agents.stream import Stream, stream
from foldgym.envs.base import ToolEnv
from foldgym.envs.worker import open_worker
from foldgym.errors import ConfigError
from foldgym.memory import KvStore, Store
from foldgym.testing.doubles import ByteTokenizer
from foldgym.tools import call, tool
from foldgym.types import Message, Prompt, Request, Reward, Snapshot


class Vault(ToolEnv):
    """A code that is the same in every task. Who looks it up is too slow to get in."""

    def setup(self, rng: random.Random) -> str:
        self.looked = False
        return "open the vault"

    @tool
    def look(self) -> str:
        """Find the code."""
        self.looked = True
        return "the code is blue"

    @tool
    def enter(self, code: str) -> str:
        """Try a code."""
        self.finish(float(code == "blue" and not self.looked))
        return "tried"


def speak(prompt: Prompt, rng: random.Random) -> Message:
    """Asks the memory; looks and keeps the code only if it is not there."""
    heard = prompt.messages[-1].text
    if "open the vault" in heard:
        return call("memory_get", key="code")
    if "nothing is kept" in heard:
        return call("look")
    if "the code is" in heard:
        return call("memory_put", key="code", text="blue")
    return call("enter", code="blue")


HOW = Rollout(CompactRenderer(ByteTokenizer()), KvStore, limits=Limits(8))


def played(store: Store, tasks: int = 4, orders: int = 1, n: int = 1) -> tuple[Stream, list[Any]]:
    return asyncio.run(
        stream(
            [Request("vault", seed, n) for seed in range(tasks)],
            lambda request: open_worker(Vault, "inline", 30.0),
            FunctionPolicy(speak),
            HOW,
            7,
            lambda t: Reward(0.0, 0.0),
            store,
            orders=orders,
        )
    )


def test_the_first_task_of_every_order_teaches_the_others() -> None:
    store = Store()
    found, groups = played(store, orders=3)
    assert found.orders == ((0.0, 1.0, 1.0, 1.0),) * 3
    assert found.items == (1, 1, 1)
    assert [group.request.seed for group in groups] == [0, 1, 2, 3]
    assert [(item.key, item.text) for item in store.head.items] == [("key/code", "blue")]
    assert store.head.items[0].source == "vault:0:0"
    reads = [group.trajectories[0].proposal.read for group in groups]
    assert reads[0] == Snapshot().address
    assert len(set(reads)) == 4  # every use is counted, so every snapshot is new
    assert found.to_table() == {
        "orders": [[0.0, 1.0, 1.0, 1.0]] * 3,
        "by_position": [0.0, 1.0, 1.0, 1.0],
        "first_half": 0.5,
        "second_half": 1.0,
        "items": [1, 1, 1],
    }


def test_samples_of_a_task_read_the_same_store() -> None:
    found, groups = played(Store("majority"), tasks=2, n=2)
    assert found.orders == ((0.0, 1.0),)
    assert {t.proposal.read for t in groups[0].trajectories} == {Snapshot().address}


def test_frozen_evaluation_reads_and_never_writes() -> None:
    store = Store()
    played(store, tasks=1)
    how = replace(HOW, store=store.head)
    requests = [Request("vault", seed) for seed in range(3)]
    report, groups = asyncio.run(
        evaluate(
            requests,
            lambda request: open_worker(Vault, "inline", 30.0),
            FunctionPolicy(speak),
            how,
            7,
            lambda t: Reward(0.0, 0.0),
        )
    )
    assert report.envs["vault"].success.mean == 1.0
    assert {g.trajectories[0].proposal.read for g in groups} == {store.head.address}


def test_a_store_that_looks_at_rewards_is_refused() -> None:
    with pytest.raises(ConfigError, match="must not look at their rewards"):
        played(Store("best"))


def test_positions_without_a_score_are_left_out() -> None:
    found = Stream(((None, 1.0, 0.0), (0.0, None, 1.0)), (0, 0))
    assert found.to_table()["by_position"] == [0.0, 1.0, 0.5]
    assert found.at(0, 1 / 3) == 0.0
    assert Stream(((None, None),), (0,)).at(0, 0.5) is None
