"""The engine that samples with a copy of the weights."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import torch
from engine_talk import engine, ids_of, qwen, together

from foldgym.agents.engines.behind import Behind
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.errors import Bug


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def changed(policy: TorchPolicy) -> None:
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight *= 0.9
    policy.advance()


def test_the_copy_samples_the_same_bits_and_only_what_is_published() -> None:
    policy = engine(qwen())
    made = Behind(policy)
    asyncio.run(made.start())
    sampler = made.sampler
    assert isinstance(sampler, TorchPolicy)
    before = together(policy, range(6))
    assert together(sampler, range(6)) == before
    changed(policy)
    assert together(sampler, range(6)) == before
    assert (sampler.version, policy.version) == (0, 1)
    asyncio.run(made.publish())
    assert sampler.version == 1
    after = together(policy, range(6))
    assert ids_of(together(sampler, range(6))) == ids_of(after) != ids_of(before)
    assert together(sampler, range(6)) == after


def test_weights_that_are_frozen_are_not_copied_again() -> None:
    policy = engine(qwen())
    first = next(policy.model.parameters()).requires_grad_(False)
    made = Behind(policy)
    asyncio.run(made.start())
    sampler = made.sampler
    assert isinstance(sampler, TorchPolicy)
    kept = first.detach().clone()
    changed(policy)
    asyncio.run(made.publish())
    pairs = list(zip(sampler.model.parameters(), policy.model.parameters(), strict=True))
    assert torch.equal(pairs[0][0], kept)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs[1:])


def test_nobody_samples_before_it_is_started_or_after_it_stopped() -> None:
    made = Behind(engine(qwen()))
    with pytest.raises(Bug, match="not started"):
        _ = made.sampler
    asyncio.run(made.start())
    asyncio.run(made.stop())
    with pytest.raises(Bug, match="not started"):
        _ = made.sampler
