"""bf16 weights over fp32 masters, recomputed activations, and an optimiser that lives elsewhere."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from odd_runs import make_policy, run_file, stopped_and_resumed, weights
from torch import nn

from foldgym.errors import ConfigError
from foldgym.records import JsonlReader
from foldgym.trainers.advantages import dr_grpo
from foldgym.trainers.batch import make_batch
from foldgym.trainers.checkpoint import latest, load
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import ppo_clip
from foldgym.trainers.masters import Masters
from foldgym.trainers.optim import Optim
from foldgym.trainers.reading import Reader
from foldgym.trainers.train import build, resume, train

PLAIN = Optim(lr=1e-3, warmup=0, clip=1e9)


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    make_policy(folder, "model.layers=2")
    return folder


def batch_of(by_hand):
    groups = [
        by_hand.group(
            [1.0, 0.0],
            by_hand.trajectory([-1, -1, 0, 0, -1, 1], [-1, 2, 2], name="a"),
            by_hand.trajectory([-1, 0, -1, -1, 1, 1, 1, 1], name="b"),
        )
    ]
    return make_batch(groups, dr_grpo(groups))


def ten_steps(params, acting, masters=None):
    """AdamW's steps are of size lr while a gradient stays as it is."""
    optimizer = torch.optim.AdamW(params, lr=1e-3, weight_decay=0.0)
    for _ in range(10):
        acting.sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if masters:
            masters.publish()


def test_small_steps_add_up_in_the_masters():
    """Below 1 the numbers of bf16 are 1/256 apart: a step of 1/1000 from 1 rounds to nothing."""
    alone = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    ten_steps([alone], alone)
    assert alone.tolist() == [1.0] * 3
    acting = nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    masters = Masters([acting])
    ten_steps(masters.params, acting, masters)
    assert masters.params[0].tolist() == pytest.approx([0.99] * 3, abs=1e-6)
    assert acting.tolist() == [253 / 256] * 3  # 0.99 is nearest to 253.44 / 256
    assert acting.grad is None


def test_micro_batches_add_up_in_fp32():
    acting = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))
    masters = Masters([acting])
    for gradient in (1.0, 2**-9):
        (acting * gradient).sum().backward()
    assert masters.params[0].grad is not None
    assert masters.params[0].grad.item() == 1 + 2**-9  # in bf16 it is 1


def test_bf16_continues_bit_equal_and_only_with_its_masters(by_hand):
    batch, policy = batch_of(by_hand), by_hand.tiny(dtype=torch.bfloat16)
    learner = TorchLearner(policy, ppo_clip, PLAIN)
    for _ in range(3):
        learner.update(batch)
    state, saved = copy.deepcopy(learner.state()), by_hand.weights(policy)
    learner.update(batch)

    def again(state):
        other = by_hand.tiny(7, dtype=torch.bfloat16)
        other.model.load_state_dict(saved, strict=False)
        learner = TorchLearner(other, ppo_clip, PLAIN)
        learner.load(copy.deepcopy(state))  # AdamW goes on in the tensors it is given
        learner.update(batch)
        return learner.state()["masters"]

    def same(a, b):
        return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))

    masters = learner.state()["masters"]
    assert same(masters, again(state))
    rounded = {**state, "masters": [m.bfloat16().float() for m in state["masters"]]}
    assert not same(masters, again(rounded))
    acting = [p.detach() for p in policy.model.parameters()]
    assert same(acting, [m.bfloat16() for m in masters])


def test_bf16_learns_what_fp32_learns(by_hand):
    """The first gradients differ by the rounding of bf16, which is a percent or so."""
    norms = {
        dtype: TorchLearner(by_hand.tiny(dtype=dtype), ppo_clip, PLAIN).update(batch_of(by_hand))
        for dtype in (torch.float32, torch.bfloat16)
    }
    wide, narrow = (norms[d]["grad_norm"] for d in (torch.float32, torch.bfloat16))
    assert narrow == pytest.approx(wide, rel=0.05)
    assert narrow != wide


def test_an_optimiser_may_move_elsewhere_and_back_between_runs(by_hand):
    """What an fp32 run kept has no masters, and that of one with offload has."""
    batch, places = batch_of(by_hand), (False, True, False)
    stays = by_hand.tiny(dtype=torch.float32)
    learner = TorchLearner(stays, ppo_clip, PLAIN)
    moves, state = by_hand.tiny(dtype=torch.float32), None
    for offload in places:
        learner.update(batch)
        saved = by_hand.weights(moves)
        moves = by_hand.tiny(7, dtype=torch.float32)
        moves.model.load_state_dict(saved, strict=False)
        other = TorchLearner(moves, ppo_clip, replace(PLAIN, offload=offload))
        if state is not None:
            other.load(state)
        other.update(batch)
        state = copy.deepcopy(other.state())
        for a, b in zip(stays.model.parameters(), moves.model.parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_run_in_bf16_goes_on_in_fp32_from_its_masters_and_not_the_other_way(here, tmp_path):
    narrow = train(run_file(here, tmp_path / "narrow", "policy.dtype=bfloat16"))
    masters = load(latest(narrow)).tensors["learner"]["masters"]
    found = load(latest(narrow))
    run = run_file(here, tmp_path / "narrow")
    wide = build(run, narrow, found).actor.policy.model
    for p, master in zip(wide.parameters(), masters, strict=True):
        assert p.dtype == torch.float32
        assert torch.equal(p, master)
    folder = train(run_file(here, tmp_path / "wide"))
    with pytest.raises(ConfigError, match=r"policy\.dtype: the checkpoint's run trained in fp32"):
        resume(folder, overrides=["policy.dtype=bfloat16"])


@pytest.mark.parametrize("more", [{}, {"clip": 0.1, "epochs": 2}])
def test_an_optimiser_elsewhere_takes_the_same_steps(by_hand, more):
    batch, optim = batch_of(by_hand), replace(PLAIN, **more)
    here, there = by_hand.tiny(dtype=torch.float32), by_hand.tiny(dtype=torch.float32)
    first = TorchLearner(here, ppo_clip, optim)
    second = TorchLearner(there, ppo_clip, replace(optim, offload=True))
    for _ in range(3):
        assert first.update(batch) == second.update(batch)
    for a, b, master in zip(
        here.model.parameters(), there.model.parameters(), second.params, strict=True
    ):
        assert torch.equal(a, b)
        assert master.data_ptr() != b.data_ptr()  # a buffer of its own


@pytest.mark.parametrize("layout", ["padded", "packed", "shared"])
def test_activations_computed_again_change_nothing(by_hand, layout):
    batch, optim = batch_of(by_hand), replace(PLAIN, layout=layout)
    kept, again = by_hand.tiny(), by_hand.tiny()
    calls = 0

    def count(*_):
        nonlocal calls
        calls += 1

    again.model.model.layers[0].mlp.gate_proj.register_forward_hook(count)
    first = TorchLearner(kept, ppo_clip, optim)
    second = TorchLearner(again, ppo_clip, replace(optim, checkpointing=True))
    calls = 0
    assert first.update(batch) == second.update(batch)
    assert calls == 2  # forward, and once more on the way back
    second.reader.logprobs(batch, 10**6)
    assert calls == 3  # without a gradient once
    assert not any(module.training for module in again.model.modules())
    for a, b in zip(kept.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    copied = Reader(copy.deepcopy(again.model))  # as losses with a previous policy do
    with torch.no_grad():
        for p in again.model.parameters():
            p.zero_()
    before = Reader(kept.model).logprobs(batch, 10**6)
    assert np.array_equal(copied.logprobs(batch, 10**6), before)


def test_a_bf16_run_resumes_bit_equal(here, tmp_path):
    more = ("policy.dtype=bfloat16", "optim.checkpointing=true", "optim.logprob_chunk=8")
    whole = train(run_file(here, tmp_path / "whole", *more))
    broken = stopped_and_resumed(here, tmp_path / "broken", 3, *more)
    assert weights(whole) == weights(broken)
    assert (whole / "metrics.jsonl").read_bytes() == (broken / "metrics.jsonl").read_bytes()
    masters = [load(latest(f)).tensors["learner"]["masters"] for f in (whole, broken)]
    assert all(torch.equal(a, b) for a, b in zip(*masters, strict=True))
    rows = list(JsonlReader(whole / "metrics.jsonl"))
    assert max(row["logprob_gap_max"] for row in rows) < 0.1  # two bf16 forward passes


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.offload=true", "optim.offload: has no effect: the policy is in the CPU's memory"),
        ("policy.dtype=float16", "policy.dtype: float16 is for policies that only sample"),
    ],
)
def test_what_cannot_be_meant_is_refused(here, tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        run_file(here, tmp_path / "run", override)
