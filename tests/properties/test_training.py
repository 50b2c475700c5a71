"""Invariants of the update, over random groups of random folded trajectories.

The registries are enumerated: a new advantage, loss, aggregation or sampler is covered by existing.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForCausalLM

from foldgym.seeding import generator
from foldgym.trainers.advantages import ADVANTAGES
from foldgym.trainers.batch import make_batch, minibatches, split, take
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import AGGREGATIONS, LOSSES, Needs, Tokens, needs_of
from foldgym.trainers.losses.aggregation import CONSTANT
from foldgym.trainers.optim import Optim
from foldgym.trainers.reading import Reader
from foldgym.types import (
    Batch,
    Group,
    Message,
    Request,
    Reward,
    Segment,
    Stop,
    Task,
    Trajectory,
    Turn,
)

VOCAB = 32
PLAIN = [name for name, loss in LOSSES.items() if needs_of(loss) == Needs()]  # others: test_losses
few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
many = settings(max_examples=50)


# ---------------------------------------------------------------- random batches


@st.composite
def trajectories(draw: Any, name: str = "t") -> Trajectory:
    """Up to three segments that begin with context; some sample nothing, some are not trainable."""
    segments: list[Segment] = []
    turn = 0
    for _ in range(draw(st.integers(1, 3))):
        turn_ids = [-1] * draw(st.integers(1, 3))
        for _ in range(draw(st.integers(0, 2))):
            turn_ids += [turn] * draw(st.integers(1, 4)) + [-1] * draw(st.integers(0, 2))
            turn += 1
        ids = draw(
            st.lists(st.integers(0, VOCAB - 1), min_size=len(turn_ids), max_size=len(turn_ids))
        )
        logps = [draw(st.floats(-6, -0.01)) if k >= 0 else 0.0 for k in turn_ids]
        trainable = draw(st.sampled_from([True, True, True, False]))
        segments.append(
            Segment(tuple(ids), tuple(turn_ids), tuple(logps), (0,) * len(ids), trainable=trainable)
        )
    turns = tuple(Turn(k, Message("assistant", "x")) for k in range(turn))
    return Trajectory(name, "world", Task("q", ()), 0, turns, tuple(segments), Stop.DONE)


@st.composite
def batches_of_groups(draw: Any) -> list[Group]:
    """One to three groups of one to four, with ties and equal groups among the rewards."""
    groups: list[Group] = []
    for g in range(draw(st.integers(1, 3))):
        size = draw(st.integers(1, 4))
        members = tuple(draw(trajectories(f"g{g}t{i}")) for i in range(size))
        rewards = [draw(st.sampled_from([0.0, 0.5, 1.0, -2.0])) for _ in range(size)]
        groups.append(
            Group(Request("world", g, size), members, tuple(Reward(r, r) for r in rewards))
        )
    return groups


def cut(trajectory: Trajectory, chooser: Any) -> Trajectory:
    """The same samples in the same contexts, in more rows: a segment is cut anywhere it can be.

    The second row repeats what stood before as context, which is what a recorder does when a
    memory closes a segment without changing the view.
    """
    out: list[Segment] = []
    for s in trajectory.segments:
        at = chooser(len(s.token_ids))
        if not 0 < at < len(s.token_ids):
            out.append(s)
            continue
        out.append(
            replace(
                s,
                token_ids=s.token_ids[:at],
                turn_ids=s.turn_ids[:at],
                logprobs=s.logprobs[:at],
                versions=s.versions[:at],
            )
        )
        out.append(
            replace(
                s,
                turn_ids=(-1,) * at + s.turn_ids[at:],
                logprobs=(0.0,) * at + s.logprobs[at:],
                versions=(-1,) * at + s.versions[at:],
            )
        )
    return replace(trajectory, segments=tuple(out))


@cache
def model(seed: int = 0) -> Any:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        attn_implementation="eager",
    )
    return Qwen3ForCausalLM(config).to(torch.float64)


def norm_of(mode: str) -> float | None:
    return 20.0 if mode in CONSTANT else None


def loss_and_gradient(
    batch: Batch, loss: str = "ppo_clip", parts: list[Batch] | None = None
) -> tuple[float, np.ndarray]:
    """`sum(weight * loss)` over the parts, and its gradient with respect to all weights."""
    model().zero_grad(set_to_none=True)
    reader, total = Reader(model()), 0.0
    for part in parts or [batch]:
        if part.weight_BT.any():
            tokens = reader.read(part).tokens
            value = (tokens.weight_N * LOSSES[loss](tokens).loss_N).sum()
            value.backward()
            total += value.item()
    return total, gradient()


def gradient() -> np.ndarray:
    return np.concatenate(
        [
            (p.grad if p.grad is not None else torch.zeros_like(p)).flatten().numpy()
            for p in model().parameters()
        ]
    )


def close(a: Any, b: Any) -> bool:
    return np.allclose(a, b, rtol=1e-6, atol=1e-6)


advantages = pytest.mark.parametrize("advantage", ["grpo", "rloo"])  # all: test_advantages
losses = pytest.mark.parametrize("loss", PLAIN)
modes = pytest.mark.parametrize("mode", AGGREGATIONS)

# ---------------------------------------------------------------- how a trajectory was cut


@modes
@advantages
@few
@given(groups=batches_of_groups(), loss=st.sampled_from(PLAIN), data=st.data())
def test_cutting_segments_anywhere_changes_nothing(
    mode: str, advantage: str, groups: list[Group], loss: str, data: Any
) -> None:
    recut = [
        replace(
            group,
            trajectories=tuple(
                cut(t, lambda size: data.draw(st.integers(0, size))) for t in group.trajectories
            ),
        )
        for group in groups
    ]
    whole = make_batch(groups, ADVANTAGES[advantage](groups), mode, norm=norm_of(mode))
    parts = make_batch(recut, ADVANTAGES[advantage](recut), mode, norm=norm_of(mode))
    for name in ("weight_BT", "advantage_BT", "logprob_BT"):
        a, b = (getattr(batch, name)[batch.turn_BT >= 0] for batch in (whole, parts))
        assert close(np.sort(a), np.sort(b)), name
    value, grad = loss_and_gradient(whole, loss)
    value_of_parts, grad_of_parts = loss_and_gradient(parts, loss)
    assert close(value, value_of_parts)
    assert close(grad, grad_of_parts)


@modes
@many
@given(groups=batches_of_groups())
def test_weights_add_up_to_what_the_mode_says(mode: str, groups: list[Group]) -> None:
    batch = make_batch(groups, None, mode, norm=norm_of(mode))
    sizes = [t.trained for group in groups for t in group.trajectories]
    filled = [size for size in sizes if size]
    assume(filled)
    assert batch.weight_BT.sum() == pytest.approx(
        {
            "token-mean": 1.0,
            "seq-mean-token-mean": 1.0,
            "seq-mean-token-sum": sum(filled) / len(filled),
            "seq-mean-token-sum-norm": sum(filled) / 20,
            "dr-grpo": sum(filled) / 20 / len(sizes),
        }[mode]
    )
    assert (batch.weight_BT > 0).sum() == sum(filled)
    assert ((batch.weight_BT > 0) == (batch.turn_BT >= 0)).all()


@many
@given(groups=batches_of_groups())
def test_a_trajectory_weighs_the_same_however_often_it_folded(groups: list[Group]) -> None:
    batch = make_batch(groups, None, "seq-mean-token-mean")
    shares = np.zeros(len(batch.names))
    np.add.at(shares, batch.row_trajectory_B, batch.weight_BT.sum(1))
    assert len(set(np.round(shares[shares > 0], 12))) <= 1


# ---------------------------------------------------------------- how a batch is laid out


@losses
@few
@given(groups=batches_of_groups(), budget=st.integers(1, 60), data=st.data())
def test_micro_batches_give_the_gradient_of_the_whole(
    loss: str, groups: list[Group], budget: int, data: Any
) -> None:
    whole = data.draw(st.sampled_from(["row", "trajectory", "group", "batch"]))
    batch = make_batch(groups, ADVANTAGES["dr_grpo"](groups))
    rows = split(batch, budget, whole)
    assert sorted(row for part in rows for row in part) == list(range(batch.rows))
    value, grad = loss_and_gradient(batch, loss)
    parts = [take(batch, part) for part in rows]
    value_of_parts, grad_of_parts = loss_and_gradient(batch, loss, parts or [batch])
    assert close(value, value_of_parts)
    assert close(grad, grad_of_parts)


@losses
@few
@given(groups=batches_of_groups(), more=st.integers(1, 5))
def test_padding_changes_nothing(loss: str, groups: list[Group], more: int) -> None:
    batch = make_batch(groups, ADVANTAGES["dr_grpo"](groups))
    columns = {
        "ids_BT": VOCAB - 1,
        "turn_BT": -1,
        "logprob_BT": 0.0,
        "version_BT": -1,
        "advantage_BT": 0.0,
        "weight_BT": 0.0,
    }
    wide = replace(
        batch,
        **{
            name: np.pad(getattr(batch, name), ((0, 0), (0, more)), constant_values=fill)
            for name, fill in columns.items()
        },
    )
    (value, grad), (padded, padded_grad) = (loss_and_gradient(b, loss) for b in (batch, wide))
    assert close(value, padded)
    assert close(grad, padded_grad)


@few
@given(groups=batches_of_groups(), data=st.data())
def test_the_order_of_rows_does_not_matter(groups: list[Group], data: Any) -> None:
    batch = make_batch(groups, ADVANTAGES["dr_grpo"](groups))
    order = data.draw(st.permutations(range(batch.rows)))
    (value, grad), (shuffled, shuffled_grad) = (
        loss_and_gradient(b) for b in (batch, take(batch, order))
    )
    assert close(value, shuffled)
    assert close(grad, shuffled_grad)


@few
@given(groups=batches_of_groups(), count=st.integers(1, 4), seed=st.integers(0, 99))
def test_minibatches_average_to_the_batch(groups: list[Group], count: int, seed: int) -> None:
    batch = make_batch(groups, ADVANTAGES["dr_grpo"](groups))
    parts = minibatches(batch, count, generator(seed))
    _, grad = loss_and_gradient(batch, parts=parts)
    assert close(grad / len(parts), loss_and_gradient(batch)[1])


# ---------------------------------------------------------------- credit


@advantages
@many
@given(groups=batches_of_groups(), data=st.data())
def test_permuting_a_group_permutes_its_credit(
    advantage: str, groups: list[Group], data: Any
) -> None:
    credits = ADVANTAGES[advantage](groups)
    order = data.draw(st.permutations(range(len(groups[0].trajectories))))
    first = replace(
        groups[0],
        trajectories=tuple(groups[0].trajectories[i] for i in order),
        rewards=tuple(groups[0].rewards[i] for i in order),
    )
    permuted = ADVANTAGES[advantage]([first, *groups[1:]])
    for i, credit in zip(order, permuted[0], strict=True):
        for a, b in zip(credits[0][i], credit, strict=True):
            assert close(a, b)


@advantages
@many
@given(groups=batches_of_groups())
def test_credit_is_finite_and_lies_on_trained_ids_only(advantage: str, groups: list[Group]) -> None:
    for group, credits in zip(groups, ADVANTAGES[advantage](groups), strict=True):
        for t, credit in zip(group.trajectories, credits, strict=True):
            for s, part in zip(t.segments, credit, strict=True):
                assert part.shape == (len(s.token_ids),)
                assert np.isfinite(part).all()
                off = np.array([turn < 0 or not s.trainable for turn in s.turn_ids])
                assert (part[off] == 0).all()


@few
@given(groups=batches_of_groups(), mode=st.sampled_from(AGGREGATIONS))
def test_skipping_idle_rows_changes_no_gradient(groups: list[Group], mode: str) -> None:
    credits = ADVANTAGES["grpo"](groups)
    keep, skip = (
        make_batch(groups, credits, mode, norm=norm_of(mode), zero=zero)
        for zero in ("keep", "skip")
    )
    assert close(loss_and_gradient(keep)[1], loss_and_gradient(skip)[1])


# ---------------------------------------------------------------- losses


@losses
@few
@given(groups=batches_of_groups())
def test_no_gradient_but_through_the_log_probs(loss: str, groups: list[Group]) -> None:
    batch = make_batch(groups, ADVANTAGES["dr_grpo"](groups))
    assume(batch.rows)
    tokens = Reader(model()).read(batch).tokens
    columns = [
        getattr(tokens, name)
        for name in Tokens.__slots__
        if name not in ("logp_N", "extra", "step")
    ]
    assert not any(column.requires_grad for column in columns)
    loss_N, metrics = LOSSES[loss](replace(tokens, logp_N=tokens.logp_N.detach()))
    assert not loss_N.requires_grad
    assert not any(value.requires_grad for value in metrics.values())


@modes
@few
@given(groups=batches_of_groups())
def test_on_policy_every_loss_has_the_same_gradient(mode: str, groups: list[Group]) -> None:
    batch = make_batch(groups, ADVANTAGES["dr_grpo"](groups), mode, norm=norm_of(mode))
    batch = replace(batch, logprob_BT=Reader(model()).logprobs(batch, 10**6))
    grads = [loss_and_gradient(batch, loss)[1] for loss in PLAIN]
    for grad in grads[1:]:
        assert close(grad, grads[0])


@losses
@few
@given(data=st.data())
def test_finite_differences_match_the_gradient(loss: str, data: Any) -> None:
    size = data.draw(st.integers(1, 5))
    numbers = st.floats(-2, 2).map(lambda x: round(x, 2))
    logp, old, advantage = (
        torch.tensor(
            data.draw(st.lists(numbers, min_size=size, max_size=size)), dtype=torch.float64
        )
        for _ in range(3)
    )
    zero = torch.zeros(size, dtype=torch.int64)
    ratio = torch.exp(logp - old)
    assume(all((ratio - bound).abs().min() > 1e-3 for bound in (0.8, 1.2)))  # kinks

    def value(x: torch.Tensor) -> torch.Tensor:
        at = Tokens(x, old, advantage, torch.ones(size), zero, zero, zero, zero)
        return LOSSES[loss](at).loss_N

    at = logp.clone().requires_grad_()
    value(at).sum().backward()
    assert at.grad is not None
    step = 1e-6
    numeric = (value(logp + step) - value(logp - step)) / (2 * step)
    assert np.allclose(at.grad.numpy(), numeric.detach().numpy(), atol=1e-5, rtol=1e-5)


class Trainee:
    """The model under test, restored after each update."""

    model = property(lambda self: model())
    version = 0

    def advance(self) -> None:
        """Versions do not matter here."""


@few
@given(groups=batches_of_groups(), budget=st.integers(1, 80))
def test_the_learner_reports_the_loss_of_the_batch_whatever_the_micro_batches(
    groups: list[Group], budget: int
) -> None:
    batch = make_batch(groups, ADVANTAGES["dr_grpo"](groups))
    assume(batch.rows)
    expected = loss_and_gradient(batch)
    optim = Optim(lr=0.0, warmup=0, microbatch_tokens=budget)
    metrics = TorchLearner(Trainee(), LOSSES["ppo_clip"], optim).update(batch)
    assert metrics["loss"] == pytest.approx(expected[0], abs=1e-9)
    assert metrics["grad_norm"] == pytest.approx(np.linalg.norm(expected[1]), abs=1e-9)
