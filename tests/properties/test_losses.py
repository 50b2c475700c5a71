"""Invariants of every registered loss, KL estimator and mismatch weight (spec section 6).

The registries are enumerated: a new loss is covered by existing.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from foldgym.config import load_module
from foldgym.trainers.advantages import dr_grpo
from foldgym.trainers.batch import make_batch, split, take
from foldgym.trainers.columns import surveyed
from foldgym.trainers.losses import KLS, LOSSES, Tokens, needs_of
from foldgym.trainers.losses.needs import survey
from foldgym.trainers.mismatch import MISMATCHES, Gap
from foldgym.trainers.reading import Reader
from foldgym.types import Batch

shared = load_module(str(Path(__file__).parent / "test_training.py"))
few = settings(max_examples=15, suppress_health_check=list(HealthCheck))
many = settings(max_examples=40, suppress_health_check=list(HealthCheck))
losses = pytest.mark.parametrize("name", LOSSES)
COLUMNS = ("behaviour", "reference", "previous")


# ---------------------------------------------------------------- random tokens


@st.composite
def token_sets(draw: Any, name: str, *, on_policy: bool = False) -> Tokens:
    """Up to three groups of up to three trajectories of up to four tokens, weighted equally each.

    The advantage is of the kind that the loss takes.
    """
    credit = needs_of(LOSSES[name]).credit
    rows: list[dict[str, float]] = []
    number = 0
    for group in range(draw(st.integers(1, 3))):
        for _ in range(draw(st.integers(1, 3))):
            whole = draw(st.sampled_from([-2.0, -0.3, 0.0, 0.5, 1.5]))
            if credit == "label":
                whole = float(whole > 0)
            size = draw(st.integers(1, 4))
            for turn in range(size):
                logp, gap = draw(st.floats(-4, -0.01)), draw(st.floats(-1.5, 1.5))
                free = draw(st.sampled_from([-1.0, 0.0, 2.0]))
                rows.append(
                    {
                        "logp_N": logp,
                        "old_N": logp if on_policy else logp + gap,
                        "advantage_N": free if credit == "token" else whole,
                        "weight_N": 1 / size,
                        "turn_N": turn,
                        "version_N": draw(st.integers(0, 3)),
                        "trajectory_N": number,
                        "group_N": group,
                        "staleness": draw(st.integers(0, 3)),
                        **{c: logp if on_policy else draw(st.floats(-4, -0.01)) for c in COLUMNS},
                    }
                )
            number += 1
    for row in rows:
        row["weight_N"] /= number
    whole_numbers = {"turn_N", "version_N", "trajectory_N", "group_N"}

    def column(key: str) -> torch.Tensor:
        dtype = torch.int64 if key in whole_numbers else torch.float64
        return torch.tensor([row[key] for row in rows], dtype=dtype)

    names = [f.name for f in fields(Tokens) if f.name not in ("extra", "step")]
    extra = {c: column(c) for c in (*COLUMNS, "staleness")}
    return Tokens(**{key: column(key) for key in names}, extra=extra, step=draw(st.just(60)))


def take_tokens(tokens: Tokens, index: torch.Tensor) -> Tokens:
    names = [f.name for f in fields(Tokens) if f.name not in ("extra", "step")]
    return Tokens(
        **{key: getattr(tokens, key)[index] for key in names},
        extra={key: values[index] for key, values in tokens.extra.items()},
        step=tokens.step,
    )


def with_survey(name: str, tokens: Tokens) -> Tokens:
    return replace(tokens, extra={**tokens.extra, **survey(LOSSES[name], tokens)})


def value_and_gradient(name: str, tokens: Tokens) -> tuple[float, torch.Tensor]:
    """`sum(weight * loss)` and its gradient with respect to every log-prob."""
    leaf = tokens.logp_N.detach().clone().requires_grad_()
    loss_N = LOSSES[name](replace(tokens, logp_N=leaf)).loss_N
    value = (tokens.weight_N * loss_N).sum()
    value.backward()
    return value.item(), torch.zeros_like(leaf) if leaf.grad is None else leaf.grad


def value_of(name: str, tokens: Tokens, logp_N: torch.Tensor) -> float:
    loss_N = LOSSES[name](replace(tokens, logp_N=logp_N)).loss_N
    return float((tokens.weight_N * loss_N).sum())


def close(a: Any, b: Any) -> bool:
    return np.allclose(np.asarray(a), np.asarray(b), rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- masks, order, parts


@losses
@few
@given(data=st.data())
def test_what_has_no_weight_does_not_exist(name: str, data: Any) -> None:
    tokens = data.draw(token_sets(name))
    size = len(tokens.logp_N)
    live = torch.tensor(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    dead = replace(
        tokens,
        weight_N=tokens.weight_N * live,
        logp_N=torch.where(live, tokens.logp_N, 7.0),
        old_N=torch.where(live, tokens.old_N, -9.0),
    )
    value, grad = value_and_gradient(name, dead)
    kept = torch.nonzero(live).squeeze(1)
    expected, expected_grad = value_and_gradient(name, take_tokens(tokens, kept))
    assert close(value, expected)
    assert close(grad[kept], expected_grad)
    assert (grad[~live] == 0).all()


@losses
@few
@given(data=st.data())
def test_the_order_of_tokens_does_not_matter(name: str, data: Any) -> None:
    tokens = data.draw(token_sets(name))
    order = torch.tensor(data.draw(st.permutations(range(len(tokens.logp_N)))))
    value, grad = value_and_gradient(name, tokens)
    shuffled, shuffled_grad = value_and_gradient(name, take_tokens(tokens, order))
    assert close(value, shuffled)
    assert close(grad[order], shuffled_grad)


@losses
@few
@given(data=st.data())
def test_parts_add_up_to_the_whole(name: str, data: Any) -> None:
    tokens = data.draw(token_sets(name))
    whole = needs_of(LOSSES[name]).whole
    key = {"row": torch.arange(len(tokens.logp_N)), "group": tokens.group_N}.get(
        whole, tokens.trajectory_N
    )
    value, grad = value_and_gradient(name, tokens)
    seen = with_survey(name, tokens)
    total, parts_grad = 0.0, torch.zeros_like(grad)
    for unit in torch.unique(key):
        index = torch.nonzero(key == unit).squeeze(1)
        part, part_grad = value_and_gradient(name, take_tokens(seen, index))
        total += part
        parts_grad[index] = part_grad
    assert close(value, total)
    assert close(grad, parts_grad)


@losses
def test_degenerate_input_stays_finite(name: str) -> None:
    def column(*values: float) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    def at(logp: torch.Tensor, old: torch.Tensor, advantage: float) -> Tokens:
        n = len(logp)
        number = torch.arange(n)
        extra = {c: torch.zeros(n, dtype=torch.float64) for c in (*COLUMNS, "staleness")}
        ones = torch.ones(n, dtype=torch.float64)
        return Tokens(logp, old, advantage * ones, ones, number, number, number, number, extra)

    cases = [at(column(), column(), 1.0)]
    for advantage in (0.0, 1.0, -1.0):
        cases += [
            at(column(-1.0), column(-1.0), advantage),
            at(column(0.0, -2000.0), column(-2000.0, 0.0), advantage),
            replace(at(column(-1.0), column(-2.0), advantage), weight_N=column(0.0)),
        ]
    for tokens in cases:
        value, grad = value_and_gradient(name, tokens)
        assert np.isfinite(value)
        assert grad.isfinite().all()


# ---------------------------------------------------------------- gradients


@losses
@few
@given(data=st.data())
def test_only_the_log_probs_carry_a_gradient(name: str, data: Any) -> None:
    tokens = data.draw(token_sets(name))
    loss_N, metrics = LOSSES[name](tokens)
    assert not loss_N.requires_grad
    assert not any(values.requires_grad for values in metrics.values())
    assert all(values.shape == tokens.logp_N.shape for values in metrics.values())


TRUE = [n for n in LOSSES if not needs_of(LOSSES[n]).surrogate]


@pytest.mark.parametrize("name", TRUE)
@many
@given(data=st.data())
def test_finite_differences_match_the_gradient(name: str, data: Any) -> None:
    tokens = with_survey(name, data.draw(token_sets(name)))
    _, grad = value_and_gradient(name, tokens)
    here, h = value_of(name, tokens, tokens.logp_N), 1e-6
    for i in range(len(tokens.logp_N)):
        step = torch.zeros_like(tokens.logp_N)
        step[i] = h
        up = (value_of(name, tokens, tokens.logp_N + step) - here) / h
        down = (here - value_of(name, tokens, tokens.logp_N - step)) / h
        if abs(up - down) > 1e-4:  # a kink of the clip
            continue
        assert float(grad[i]) == pytest.approx((up + down) / 2, abs=1e-5)


ON_POLICY = [n for n in LOSSES if n not in ("clip_cov", "pacs")]  # the one drops, the other scores


@pytest.mark.parametrize("name", ON_POLICY)
@few
@given(data=st.data())
def test_on_policy_the_gradient_is_minus_the_advantage(name: str, data: Any) -> None:
    tokens = data.draw(token_sets(name, on_policy=True))
    _, grad = value_and_gradient(name, tokens)
    assert close(grad, -tokens.advantage_N * tokens.weight_N)


@few
@given(data=st.data())
def test_gppo_has_the_value_of_ppo_and_bounded_gradients(data: Any) -> None:
    tokens = data.draw(token_sets("gppo"))
    gppo, ppo = LOSSES["gppo"](tokens), LOSSES["ppo_clip"](tokens, eps_low=0.2, eps_high=0.28)
    assert close(gppo.loss_N, ppo.loss_N)
    _, grad = value_and_gradient("gppo", tokens)
    ratio = gppo.metrics["ratio"]
    bound = tokens.weight_N * tokens.advantage_N.abs() * ratio.clamp(min=1.28)
    assert (grad.abs() <= bound + 1e-12).all()


@few
@given(data=st.data())
def test_cispo_silences_no_token(data: Any) -> None:
    tokens = data.draw(token_sets("cispo"))
    _, grad = value_and_gradient("cispo", tokens)
    assert ((grad != 0) == (tokens.advantage_N != 0)).all()


@few
@given(data=st.data())
def test_behaviour_equal_to_proximal_is_ppo(data: Any) -> None:
    tokens = data.draw(token_sets("decoupled"))
    same = replace(tokens, extra={**tokens.extra, "behaviour": tokens.old_N})
    expected = LOSSES["ppo_clip"](same).loss_N
    for name in ("decoupled", "mix_ppg"):
        assert close(LOSSES[name](same).loss_N, expected)


@few
@given(data=st.data(), variant=st.sampled_from(["code", "paper"]))
def test_bapo_bounds_stay_in_their_limits_and_rest_without_negatives(
    data: Any, variant: Any
) -> None:
    tokens = data.draw(token_sets("bapo"))
    limits = {"code": (0.8, 0.95, 1.2, 2.0), "paper": (0.6, 0.9, 1.2, 3.0)}[variant]
    metrics = LOSSES["bapo"](tokens, variant=variant).metrics
    low, high = metrics["clip_low"][0].item(), metrics["clip_high"][0].item()
    assert limits[0] <= low <= limits[1]
    assert limits[2] <= high <= limits[3]
    positive = replace(tokens, advantage_N=tokens.advantage_N.abs())
    metrics = LOSSES["bapo"](positive, variant=variant).metrics
    assert (metrics["clip_low"][0].item(), metrics["clip_high"][0].item()) == (limits[0], limits[2])


# ---------------------------------------------------------------- rows and segments


def loss_and_gradient(
    name: str, batch: Batch, parts: list[list[int]] | None = None
) -> tuple[float, np.ndarray]:
    """Through a model, with the columns a loss needs, a survey of the whole, and micro-batches."""
    loss, model = LOSSES[name], shared.model()
    wanted, reader = needs_of(loss), Reader(model)
    model.zero_grad(set_to_none=True)
    noise = np.where(batch.turn_BT >= 0, 0.1 * np.cos(batch.ids_BT), 0.0)
    extra = dict.fromkeys(COLUMNS, batch.logprob_BT + noise) | {"staleness": 0.0 * noise}
    batch = surveyed(loss, wanted, reader, replace(batch, extra=extra), 3, 10**6)
    total = 0.0
    for rows in parts or [list(range(batch.rows))]:
        part = take(batch, rows)
        if part.weight_BT.any():
            tokens = reader.read(part, 3).tokens
            value = (tokens.weight_N * loss(tokens).loss_N).sum()
            value.backward()
            total += value.item()
    return total, shared.gradient()


def batch_of(name: str, groups: Any, mode: str) -> Batch:
    credits = dr_grpo(groups)
    if needs_of(LOSSES[name]).credit == "label":
        credits = tuple(
            tuple(tuple((part > 0).astype(float) for part in credit) for credit in group)
            for group in credits
        )
    return make_batch(groups, credits, mode, norm=shared.norm_of(mode))


PAIRS = [(name, mode) for name in LOSSES for mode in needs_of(LOSSES[name]).aggregations]


@pytest.mark.parametrize(("name", "mode"), PAIRS)
@settings(few, max_examples=5)
@given(groups=shared.batches_of_groups(), data=st.data())
def test_cutting_segments_anywhere_changes_neither_loss_nor_gradient(
    name: str, mode: str, groups: Any, data: Any
) -> None:
    recut = [
        replace(
            group,
            trajectories=tuple(
                shared.cut(t, lambda size: data.draw(st.integers(0, size)))
                for t in group.trajectories
            ),
        )
        for group in groups
    ]
    value, grad = loss_and_gradient(name, batch_of(name, groups, mode))
    cut_value, cut_grad = loss_and_gradient(name, batch_of(name, recut, mode))
    assert shared.close(value, cut_value)
    assert shared.close(grad, cut_grad)


@losses
@settings(few, max_examples=6)
@given(groups=shared.batches_of_groups(), budget=st.integers(1, 60), more=st.integers(1, 5))
def test_micro_batches_and_padding_change_nothing(
    name: str, groups: Any, budget: int, more: int
) -> None:
    wanted = needs_of(LOSSES[name])
    batch = batch_of(name, groups, wanted.aggregations[0])
    assume(batch.rows)
    value, grad = loss_and_gradient(name, batch)
    columns = {"turn_BT": -1, "version_BT": -1}
    columns |= dict.fromkeys(("ids_BT", "logprob_BT", "advantage_BT", "weight_BT"), 0)
    wide = replace(
        batch,
        **{
            c: np.pad(getattr(batch, c), ((0, 0), (0, more)), constant_values=fill)
            for c, fill in columns.items()
        },
    )
    for other, parts in ((batch, split(batch, budget, wanted.whole)), (wide, None)):
        got, got_grad = loss_and_gradient(name, other, parts)
        assert shared.close(value, got)
        assert shared.close(grad, got_grad)


# ---------------------------------------------------------------- KL and mismatch weights


@pytest.mark.parametrize("name", KLS)
@many
@given(logp=st.floats(-9, 0), reference=st.floats(-9, 0))
def test_kl_estimators(name: str, logp: float, reference: float) -> None:
    at = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
    ref = torch.tensor(reference, dtype=torch.float64)
    value = KLS[name](at, ref)
    value.backward()
    d = logp - reference
    assert at.grad is not None
    values = {"k1": d, "k2": d * d / 2, "k3": np.exp(-d) + d - 1, "k3+": np.exp(-d) + d - 1}
    slopes = {"k1": 1.0, "k2": d, "k3": 1 - np.exp(-d), "k3+": d}
    assert value.item() == pytest.approx(values.get(name, value.item()), abs=1e-9)
    assert at.grad.item() == pytest.approx(slopes.get(name, at.grad.item()), abs=1e-9)
    assert np.isfinite([value.item(), at.grad.item()]).all()
    if name != "k1":
        assert value.item() >= 0
    assert KLS[name](at.detach(), at.detach()).item() == 0


def options(name: str) -> dict[str, float]:
    return {"high": 0.5} if name == "reject" else {}


@st.composite
def gaps(draw: Any) -> Gap:
    size = draw(st.integers(0, 8))
    numbers = st.lists(st.integers(0, 2), min_size=size, max_size=size)
    logs = st.lists(st.floats(-3, 3) | st.just(500.0), min_size=size, max_size=size)
    return Gap(np.array(draw(logs)), *(np.array(draw(numbers), dtype=int) for _ in range(2)))


@pytest.mark.parametrize("name", MISMATCHES)
@many
@given(gap=gaps(), data=st.data())
def test_mismatch_weights(name: str, gap: Gap, data: Any) -> None:
    weigh = partial(MISMATCHES[name], **options(name))
    weights = weigh(gap)
    assert weights.shape == gap.log_N.shape
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()
    assert (weigh(replace(gap, log_N=0 * gap.log_N)) == 1).all()
    order = np.array(data.draw(st.permutations(range(len(gap.log_N)))), dtype=int)
    mixed = Gap(gap.log_N[order], gap.trajectory_N[order], gap.turn_N[order])
    assert close(weigh(mixed), weights[order])
    for number in range(3):  # a trajectory's weights are its own affair
        at = gap.trajectory_N == number
        alone = Gap(gap.log_N[at], gap.trajectory_N[at], gap.turn_N[at])
        assert close(weigh(alone), weights[at])


def test_untruncated_token_weights_have_mean_one_under_the_sampler() -> None:
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.25, 0.25])
    zero = np.zeros(3, dtype=int)
    weights = MISMATCHES["tis"](Gap(np.log(p) - np.log(q), zero, zero), high=1e9)
    assert (q * weights).sum() == pytest.approx(1)
