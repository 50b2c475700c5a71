"""When rows run, and whose fault stays whose: rounds, continuous batching, failures."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from engine_talk import (
    BATCHING,
    SIX,
    Talk,
    converse,
    engine,
    ids_of,
    qwen,
    reference,
    together,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from foldgym.agents.cast import Cast
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.errors import Bug, ConfigError, EngineError
from foldgym.types import Completion, Finish, Ids, Prompt, Sampling


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# ---------------------------------------------------------------- scheduling


def test_rounds_give_equal_bits_however_slow_the_environments_are() -> None:
    model = qwen()
    runs = []
    for run in range(3):
        rng = random.Random(run)
        runs.append(together(engine(model), range(10), delay=lambda rng=rng: rng.random() * 0.01))
    assert runs[0] == runs[1] == runs[2]


def test_a_used_engine_gives_the_same_bits_as_a_new_one() -> None:
    model = qwen()
    used = engine(model)
    together(used, range(30), turns=8)
    used.advance(0)
    assert together(used, range(10)) == together(engine(model), range(10))


def test_rounds_are_the_same_when_places_are_handed_on() -> None:
    """A limit on concurrency: an episode starts when another has ended, whichever that is."""
    model = qwen()

    def run(seed: int) -> tuple[list[Talk], list[float]]:
        policy, rng = engine(model), random.Random(seed)

        async def all_of_them() -> list[Talk]:
            places = asyncio.Semaphore(4)

            async def one(number: int) -> Talk:
                async with places:
                    turns = 1 + number % 4
                    return await converse(
                        policy, number, turns=turns, delay=lambda: rng.random() * 0.005
                    )

            return await asyncio.gather(*(one(number) for number in range(14)))

        talks = asyncio.run(asyncio.wait_for(all_of_them(), 60))
        counters = policy.counters()
        return talks, [counters[name] for name in ("forwards", "padded", "reused")]

    assert run(0) == run(1) == run(2)


@pytest.mark.parametrize("batching", BATCHING)
def test_more_rows_than_fit_a_batch(batching: str) -> None:
    model = qwen()
    wide = together(engine(model, batching), range(13))
    narrow = together(engine(model, batching, max_batch=3), range(13))
    assert ids_of(wide) == ids_of(narrow)


@pytest.mark.parametrize("batching", BATCHING)
@settings(max_examples=25)
@given(data=st.data())
def test_no_pattern_of_opening_closing_and_cancelling_blocks_the_others(
    batching: str, data: st.DataObject
) -> None:
    policy = engine(SMALL, batching, max_batch=data.draw(st.integers(1, 5)))
    fate = st.sampled_from(["play", "fail", "cancel", "idle", "late"])
    fates = data.draw(st.lists(fate, min_size=1, max_size=6))

    async def one(number: int, fate: str) -> None:
        if fate == "late":
            await asyncio.sleep(0.002)
        session = policy.open(1000 + number)
        try:
            if fate == "idle":
                await asyncio.sleep(0.004)
            elif fate == "cancel":
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(session.sample(Prompt((5,)), Sampling(1.0, 200)), 0.0)
            elif fate == "fail":
                with pytest.raises(EngineError):
                    await session.sample(Prompt((5,) * 300), SIX)
        finally:
            session.close()
        if fate in ("play", "late"):
            talk = await converse(policy, number, turns=2)
            assert len(talk.completions) == 2

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number, fate) for number, fate in enumerate(fates)))

    async def abandon() -> None:
        policy.open(99)

    asyncio.run(asyncio.wait_for(all_of_them(), 30))
    asyncio.run(abandon())  # the session of a loop that is gone blocks nobody in the next
    assert len(together(policy, [50, 51], turns=2)) == 2


SMALL = qwen(seed=5)
NOBODY: Any = None  # the engine does not look at the world


async def _ensemble(policy: TorchPolicy, number: int, delay: Callable[[], float]) -> list[Ids]:
    """An episode of several lineages: they take turns, think at once, and at once again inside."""
    rng, cast = random.Random(number), Cast(policy, number, NOBODY)
    said: list[Ids] = []

    async def speak(lineage: str, times: int, waits: bool = True) -> None:
        own = random.Random(f"{number} {lineage}")
        for _ in range(times):
            if waits:
                await asyncio.sleep(delay())
            prompt = Prompt(tuple(own.randrange(5, 60) for _ in range(own.randrange(1, 9))))
            said.append((await cast.sample(lineage, "policy", prompt, SIX)).ids)

    async def inside(lineage: str) -> None:
        await speak(lineage, 1)
        await cast.together([speak(f"{lineage}/{place}", 1 + place) for place in range(2)])

    try:
        for step in range(3):
            await speak("main", 1)
            many = [speak(f"path/{place}", rng.randrange(3)) for place in range(rng.randrange(4))]
            await cast.together([*many, inside(f"deep/{step}")])
            await asyncio.gather(*(speak("at once", 1, waits=False) for _ in range(2)))
    finally:
        cast.close()
    return said


@pytest.mark.parametrize("batching", BATCHING)
def test_episodes_of_several_lineages_block_nobody(batching: str) -> None:
    """In rounds, what each of them samples does not depend on how slow its world is."""
    model = qwen()

    def run(seed: int) -> tuple[list[list[Ids]], float]:
        policy, rng = engine(model, batching), random.Random(seed)

        async def all_of_them() -> list[list[Ids]]:
            return await asyncio.gather(
                *(_ensemble(policy, number, lambda: rng.random() * 0.002) for number in range(6))
            )

        talks = asyncio.run(asyncio.wait_for(all_of_them(), 60))
        return [sorted(talk) for talk in talks], policy.counters()["forwards"]

    runs = [run(seed) for seed in range(3)]
    assert all(len(talk) >= 3 * (1 + 4 + 2) for talk in runs[0][0])
    if batching == "rounds":
        assert runs[0] == runs[1] == runs[2]


def test_a_cancelled_lineage_blocks_nobody() -> None:
    policy = engine(SMALL)

    async def failing() -> None:
        cast = Cast(policy, 1, NOBODY)

        async def fail() -> None:
            await cast.sample("long", "policy", Prompt((5,) * 300), SIX)

        async def wait() -> None:
            await cast.sample("short", "policy", Prompt((5,)), SIX)
            await asyncio.Event().wait()

        try:
            with pytest.raises(EngineError, match=r"session \d+(\.\d)?: a prompt of 300 ids"):
                await cast.together([wait(), fail()])
        finally:
            cast.close()

    async def all_of_them() -> None:
        await asyncio.gather(failing(), converse(policy, 7, turns=3))

    asyncio.run(asyncio.wait_for(all_of_them(), 30))


def test_dynamic_batching_lets_a_slow_environment_delay_only_itself() -> None:
    policy = engine(qwen(), "dynamic")

    async def race() -> list[int]:
        finished: list[int] = []
        release = asyncio.Event()

        async def slow() -> None:
            session = policy.open(0)
            await release.wait()  # an environment that answers when all others are done
            await session.sample(Prompt((5,)), Sampling(1.0, 3))
            session.close()
            finished.append(0)

        async def quick(number: int) -> None:
            await converse(policy, number)
            finished.append(number)

        slowly = asyncio.create_task(slow())
        await asyncio.wait_for(asyncio.gather(quick(1), quick(2)), 30)
        release.set()
        await asyncio.wait_for(slowly, 30)
        return finished

    assert asyncio.run(race())[-1] == 0


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "abandoned"])
def test_the_thread_of_dynamic_batching_ends_with_the_last_session(closed: bool) -> None:
    policy = engine(qwen(), "dynamic")
    before = set(threading.enumerate())

    async def play() -> list[threading.Thread]:
        session = policy.open(0)
        started = [thread for thread in threading.enumerate() if thread not in before]
        await session.sample(Prompt((5,)), SIX)
        if closed:
            session.close()
        return started

    (thread,) = asyncio.run(play())
    assert thread.daemon
    thread.join(120)
    assert not thread.is_alive()
    assert len(together(policy, range(2), turns=1)) == 2


_EXIT = """
import atexit, threading
before = set(threading.enumerate())
atexit.register(lambda: print(set(threading.enumerate()) - before))  # after those of later imports

import asyncio
from engine_talk import SIX, engine, qwen
from foldgym.types import Prompt

async def play():
    await policy.open(0).sample(Prompt((5,)), SIX)

policy = engine(qwen(), "dynamic")
asyncio.run(play())
print(len(set(threading.enumerate()) - before))
"""


def test_a_process_ends_after_the_threads_of_its_engines() -> None:
    """One that is in torch when the interpreter goes would abort the process."""
    done = subprocess.run(
        [sys.executable, "-c", _EXIT],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.stdout, done.returncode) == ("1\nset()\n", 0), done.stderr


def test_closed_sessions_give_back_their_place_in_the_cache() -> None:
    policy = engine(qwen())
    for number in range(20):
        together(policy, [number, number + 100, number + 200], turns=1)
    assert len(policy._decoder._seats) == 3  # type: ignore[attr-defined]


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize("batching", BATCHING)
def test_a_prompt_that_leaves_no_room_fails_with_both_numbers(batching: str) -> None:
    policy = engine(qwen(max_positions=16), batching)
    policy._decoder._stops = frozenset()  # type: ignore[attr-defined]

    async def try_it(length: int) -> Completion:
        session = policy.open(0)
        try:
            return await session.sample(Prompt((5,) * length), Sampling(1.0, 64))
        finally:
            session.close()

    for length in (16, 300):
        with pytest.raises(EngineError, match=rf"prompt of {length} ids .* 16 positions"):
            asyncio.run(try_it(length))
    cut = asyncio.run(try_it(12))
    assert (len(cut.ids), cut.finish) == (4, Finish.LENGTH)
    with pytest.raises(EngineError, match="empty prompt"):
        asyncio.run(try_it(0))


@pytest.mark.parametrize("batching", BATCHING)
def test_broken_numbers_fail_their_own_row_only(batching: str) -> None:
    """Token 60 has an infinite embedding; whoever reads it is lost, and nobody else."""
    model = qwen()
    model.config.tie_word_embeddings = False
    model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.model.embed_tokens.weight[60] = float("inf")
        model.lm_head.weight[60] = 0.0  # never the likeliest
    policy = engine(model, batching)

    async def one(number: int, prompt: Ids) -> Completion:
        session = policy.open(number)
        try:
            first = await session.sample(Prompt(prompt), Sampling(0.0, 4))
            again = await session.sample(Prompt((*prompt, *first.ids, 7)), Sampling(0.0, 4))
            want = reference(model, (*prompt, *first.ids, 7), again.ids, 1.0)
            assert np.isfinite(want).all()
            return again
        finally:
            session.close()

    async def all_of_them() -> list[Any]:
        prompts = [(5, 6), (5,) * 20 + (60, 7), (8,) * 9, (9,) * 25 + (60,)]
        rows = (one(number, prompt) for number, prompt in enumerate(prompts))
        first = await asyncio.gather(*rows, return_exceptions=True)
        # their places in the cache hold nothing harmful for whoever comes next
        rows = (one(4 + n, (5,) * length) for n, length in enumerate((3, 3, 3, 40)))
        return [*first, *await asyncio.gather(*rows, return_exceptions=True)]

    results = asyncio.run(asyncio.wait_for(all_of_them(), 30))
    for number, result in enumerate(results):
        if number in (1, 3):
            assert isinstance(result, EngineError)
            assert str(result).startswith(f"session {number}: the model's logits are not finite")
        else:
            assert isinstance(result, Completion)


@pytest.mark.parametrize("batching", BATCHING)
def test_a_forward_pass_that_raises_fails_its_rows_and_the_engine_goes_on(batching: str) -> None:
    model = qwen()
    policy = engine(model, batching)
    broken = model.lm_head.register_forward_hook(lambda *_: 1 / 0)

    async def both() -> list[Any]:
        return await asyncio.gather(
            *(converse(policy, number, turns=1) for number in range(3)), return_exceptions=True
        )

    failures = asyncio.run(asyncio.wait_for(both(), 30))
    assert all(isinstance(failure, EngineError) for failure in failures)
    assert "ZeroDivisionError: division by zero" in str(failures[0])
    assert isinstance(failures[0].__cause__, ZeroDivisionError)
    broken.remove()
    again = together(policy, [10, 11, 12])
    assert ids_of(again) == ids_of(together(engine(model), [10, 11, 12]))


def test_a_session_is_used_by_one_task_at_a_time_and_not_after_its_end() -> None:
    policy = engine(qwen())

    async def misuse() -> None:
        session = policy.open(0)
        first = asyncio.create_task(session.sample(Prompt((5,)), Sampling(1.0, 2)))
        await asyncio.sleep(0)
        with pytest.raises(Bug, match="session 0 already waits"):
            await session.sample(Prompt((5,)), Sampling())
        await first
        session.close()
        session.close()
        with pytest.raises(Bug, match="session 0 is closed"):
            await session.sample(Prompt((5,)), Sampling())

    asyncio.run(asyncio.wait_for(misuse(), 30))


def test_impossible_settings_are_refused() -> None:
    model = qwen()
    with pytest.raises(ConfigError, match="id 61 is outside the model's 61 ids"):
        TorchPolicy(model, (61,), pad_id=0)
    with pytest.raises(ConfigError, match="no stop ids"):
        TorchPolicy(model, (), pad_id=0)
    with pytest.raises(ConfigError, match="use one of rounds, dynamic"):
        engine(model, "sometimes")
    with pytest.raises(ConfigError, match="max_batch is 0"):
        engine(model, max_batch=0)
