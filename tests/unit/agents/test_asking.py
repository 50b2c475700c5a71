"""Several questions of one memory at once: side by side, in the order asked, none left behind."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch

from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs.worker import open_worker
from foldgym.errors import EngineError
from foldgym.memory import DeepAgentFold, FullHistory
from foldgym.testing.doubles import HashPolicy, witness
from foldgym.types import (
    Ask,
    At,
    Boundary,
    Budget,
    Completion,
    Group,
    Kit,
    Log,
    Message,
    Policy,
    Prompt,
    Request,
    Reward,
    Sampling,
    Stop,
    View,
)
from tests.unit.memory.test_hazards import RENDERER, Shelf


def play(policy: Policy, memory: Callable[[], Any], n: int = 1, tokens: int = 24) -> Group:
    how = Rollout(
        RENDERER, memory, Sampling(max_tokens=tokens), Budget(2000, 60), Limits(3), retries=0
    )
    groups = asyncio.run(
        rollout(
            [Request("shelf", 0, n)],
            lambda request: open_worker(Shelf, "inline", 30.0),
            policy,
            how,
            0,
            lambda trajectory: Reward(0.0, 0.0),
        )
    )
    return groups[0]


class Slow(HashPolicy):
    """Every answer takes its own time; `waits` says how many passes of the loop, in turn."""

    def __init__(self, waits: list[int]) -> None:
        super().__init__(RENDERER)
        self.waits, self.open_now, self.most = waits, 0, 0

    def open(self, seed: int, env: Any) -> Any:
        inner, outer = super().open(seed, env), self

        class Session:
            async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
                outer.open_now += 1
                outer.most = max(outer.most, outer.open_now)
                for _ in range(outer.waits.pop(0) if outer.waits else 0):
                    await asyncio.sleep(0)
                outer.open_now -= 1
                return await inner.sample(prompt, sampling)

            def close(self) -> None:
                pass

        return Session()


class Three(FullHistory):
    """Asks three times at once before every turn, and asks the first two again."""

    rewrites = True

    def start(self, log: Log, kit: Kit) -> Any:
        return [kit.synth(Message("user", f"question {k}"), "question") for k in range(3)]

    async def on(self, boundary: Boundary, log: Log, state: Any, ask: Ask) -> Any:
        async def twice(k: int) -> None:
            shown = View((*self.view(log, None).items, state[k]))
            await ask(f"first{k}", shown, 20)
            if k < 2:
                await ask(f"again{k}", shown, 20)

        if boundary.at is At.BEFORE_MODEL:
            await asyncio.gather(*(twice(k) for k in range(3)))
        return state


@pytest.mark.parametrize("seed", range(12))
def test_answers_stand_in_the_order_asked_whatever_they_took(seed: int) -> None:
    rng = random.Random(seed)
    prompt_one = Slow([])
    delayed = Slow([rng.randrange(20) for _ in range(18)])
    (at_once,) = play(prompt_one, Three).trajectories
    (later,) = play(delayed, Three).trajectories
    assert delayed.most == 3
    assert [turn.purpose for turn in later.turns[:6]] == [
        *("first0", "first1", "first2", "again0", "again1", "act"),
    ]
    assert later == at_once
    assert witness(later) == sum(len(ids) for _, ids in delayed.calls)


class Failing(Slow):
    """The second question of every episode fails while the others are on their way."""

    def open(self, seed: int, env: Any) -> Any:
        inner, outer = super().open(seed, env), self

        class Session:
            async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
                if prompt.purpose == "first1":
                    raise EngineError("down")
                said = await inner.sample(prompt, sampling)
                outer.finished.append(prompt.purpose)
                return said

            def close(self) -> None:
                pass

        return Session()

    finished: list[str]


def test_when_one_question_fails_the_others_end_with_the_episode() -> None:
    policy = Failing([9] * 9)
    policy.finished = []
    (failed,) = play(policy, Three).failures
    assert failed.stop is Stop.ERROR
    assert failed.error == "EngineError: down"
    assert policy.finished == []


@pytest.mark.parametrize("batching", ["rounds", "dynamic"])
def test_an_engine_that_waits_for_whole_episodes_answers_all_three(batching: str) -> None:
    """Folds of three memories with repairs, several episodes at once, through a real engine."""
    torch.set_num_threads(1)
    model = init_model(
        vocab_size=RENDERER.tokenizer.vocab_size, hidden=32, layers=1, heads=2, mlp=32
    )
    runs = [
        play(
            TorchPolicy(model, RENDERER.stop_ids, pad_id=0, batching=batching),  # type: ignore[arg-type]
            lambda: Eager(max_folds=1, max_tokens=4),
            n=2,
            tokens=4,
        )
        for _ in range(2)
    ]
    purposes = [turn.purpose for turn in runs[0].trajectories[0].turns]
    assert purposes[1:7] == [*["fold"] * 3, *["repair"] * 3]  # noise is no JSON
    assert [t.turns for t in runs[0].trajectories] == [t.turns for t in runs[1].trajectories]
    if batching == "rounds":
        assert runs[0] == runs[1]


class Eager(DeepAgentFold):
    """Folds before every turn."""

    async def on(self, boundary: Boundary, log: Log, state: Any, ask: Ask) -> Any:
        pressed = boundary.at is At.BEFORE_MODEL
        at = Boundary(At.PRESSURE) if pressed else boundary
        return await super().on(at, log, state, ask)
