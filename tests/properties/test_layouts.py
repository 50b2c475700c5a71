"""Rows packed, or with shared heads computed once, are the plain rows: values and gradients.

The plain path is each row alone through the model, with nothing of ours in between.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM
from wide_norms import widen

from foldgym.config import load_module
from foldgym.trainers.batch import take, unit_rows
from foldgym.trainers.columns import surveyed
from foldgym.trainers.forest import gather, plant
from foldgym.trainers.layout import Padded, computed, layout_of, needed
from foldgym.trainers.losses import LOSSES, needs_of
from foldgym.trainers.reading import Reader
from foldgym.types import Batch

shared = load_module(str(Path(__file__).parent / "test_training.py"))
groups_of = load_module(str(Path(__file__).parent / "test_losses.py"))
few = settings(
    max_examples=8,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
many = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

VOCAB = 24
WINDOW = {"sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "qwen3": ("qwen3", "sdpa", {}),
    "qwen3 with a window": ("qwen3", "sdpa", {"use_sliding_window": True, **WINDOW}),
    "llama": ("llama", "sdpa", {}),
    "gemma3": ("gemma3_text", "sdpa", {"query_pre_attn_scalar": 16, **WINDOW}),
    "gemma2, masks written out": ("gemma2", "eager", {"query_pre_attn_scalar": 16, **WINDOW}),
}
EXACT = [name for name in MODELS if "written out" not in name]  # eager softmax is in fp32


@cache
def model(name: str, dtype: torch.dtype) -> Any:
    torch.set_num_threads(1)
    family, attention, more = MODELS[name]
    config = AutoConfig.for_model(
        family,
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **more,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        made = AutoModelForCausalLM.from_config(config, attn_implementation=attention)
        for parameter in made.parameters():  # far from the small weights of a new model
            torch.nn.init.normal_(parameter, std=0.15)
    return (widen(made) if dtype == torch.float64 else made).eval()


# ---------------------------------------------------------------- random forests of rows


@st.composite
def rows_of_ids(draw: Any) -> list[list[int]]:
    """Rows that begin like earlier ones, for none, some or all of their ids; also duplicates."""
    rows: list[list[int]] = []
    for _ in range(draw(st.integers(1, 7))):
        head: list[int] = []
        if rows and draw(st.booleans()):
            before = draw(st.sampled_from(rows))
            head = before[: draw(st.integers(0, len(before)))]
        tail = draw(st.lists(st.integers(0, 3), min_size=0 if head else 1, max_size=6))
        rows.append(head + tail)
    return rows


@st.composite
def batches(draw: Any) -> Batch:
    """Any of the ids that something precedes may be trained, at any weight, in any of the rows."""
    rows = draw(rows_of_ids())
    shape = len(rows), max(2, max(map(len, rows)))
    ids_BT, length_B = np.zeros(shape, np.int64), np.array([len(row) for row in rows])
    weight_BT, advantage_BT = np.zeros(shape), np.zeros(shape)
    for b, row in enumerate(rows):
        ids_BT[b, : len(row)] = row
        for t in range(1, len(row)):
            weight_BT[b, t] = draw(st.sampled_from([0.0, 0.5, 1.0, 2.0]))
            advantage_BT[b, t] = draw(st.sampled_from([-1.0, 0.5, 2.0]))
    trained_BT = weight_BT > 0
    trajectory_B = np.array([draw(st.integers(0, 2)) for _ in rows])
    turn_BT = np.where(trained_BT, 0, -1)
    zero_BT = np.where(trained_BT, 0, -1)
    logprob_BT = np.where(trained_BT, -1.0, 0.0)
    return Batch(
        ids_BT,
        turn_BT,
        logprob_BT,
        zero_BT,
        advantage_BT,
        weight_BT,
        length_B,
        trajectory_B,
        trajectory_B // 2,
    )


def alone(net: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and entropies of the trained ids, each row by itself."""
    logps: list[torch.Tensor] = []
    entropies: list[torch.Tensor] = []
    for b in range(batch.rows):
        (columns,) = np.nonzero(batch.weight_BT[b])
        ids = torch.tensor(batch.ids_BT[b, : batch.length_B[b]])
        logits_TV = net(input_ids=ids[None], use_cache=False).logits[0]
        all_NV = torch.log_softmax(logits_TV[torch.tensor(columns, dtype=torch.int64) - 1], -1)
        logps.append(all_NV.gather(1, ids[columns].unsqueeze(1)).squeeze(1))
        entropies.append(-(all_NV.exp() * all_NV).sum(-1))
    return torch.cat(logps), torch.cat(entropies)


def gradient(net: Any, value: torch.Tensor) -> np.ndarray:
    net.zero_grad(set_to_none=True)
    value.backward()
    found = [(torch.zeros_like(p) if p.grad is None else p.grad) for p in net.parameters()]
    return torch.cat([p.flatten() for p in found]).double().numpy()


def compare(name: str, dtype: torch.dtype, layout: Any, batch: Batch, close: float, slope: float):
    net = model(name, dtype)
    reading = Reader(net, layout=layout_of(layout, net)).read(batch, entropy_gradient=True)
    logp_N, entropy_N = alone(net, batch)
    assert (reading.tokens.logp_N - logp_N).abs().max() <= close
    assert (reading.entropy_N - entropy_N).abs().max() <= close
    weight_N = torch.arange(1.0, len(logp_N) + 1, dtype=dtype)  # none cancels another
    plain = gradient(net, (weight_N * (logp_N - entropy_N)).sum())
    ours = gradient(net, (weight_N * (reading.tokens.logp_N - reading.entropy_N)).sum())
    assert np.linalg.norm(plain) > 0
    assert np.linalg.norm(ours - plain) <= slope * np.linalg.norm(plain)


layouts = pytest.mark.parametrize("layout", ["packed", "shared"])


@layouts
@pytest.mark.parametrize("name", MODELS)
@settings(few, max_examples=12)
@given(batch=batches())
def test_each_row_alone_gives_the_same_in_fp32(name: str, layout: Any, batch: Batch) -> None:
    assume(batch.weight_BT.any())
    compare(name, torch.float32, layout, batch, 1e-5, 1e-5)


@layouts
@pytest.mark.parametrize("name", EXACT)
@settings(few, max_examples=12)
@given(batch=batches())
def test_each_row_alone_gives_the_same_in_fp64(name: str, layout: Any, batch: Batch) -> None:
    assume(batch.weight_BT.any())
    compare(name, torch.float64, layout, batch, 1e-10, 1e-9)


# ---------------------------------------------------------------- losses and micro-batches


@pytest.mark.parametrize("name", LOSSES)
@settings(few, max_examples=4)
@given(groups=shared.batches_of_groups(), budget=st.integers(1, 60))
def test_every_loss_has_the_same_value_and_gradient_on_every_layout(
    name: str, groups: Any, budget: int
) -> None:
    loss = LOSSES[name]
    wanted = needs_of(loss)
    batch = groups_of.batch_of(name, groups, wanted.aggregations[0])
    assume(batch.rows)
    noise = np.where(batch.turn_BT >= 0, 0.1 * np.cos(batch.ids_BT), 0.0)
    extra = dict.fromkeys(groups_of.COLUMNS, batch.logprob_BT + noise) | {"staleness": 0.0 * noise}
    net = wide_model()

    def of(layout: Any, most: int) -> tuple[float, np.ndarray]:
        reader = Reader(net, layout=layout_of(layout, net))
        whole = surveyed(loss, wanted, reader, replace(batch, extra=extra), 3, most)
        total: Any = torch.zeros((), dtype=torch.float64)
        for rows in reader.parts(whole, most, wanted.whole):
            part = take(whole, rows)
            if part.weight_BT.any():
                tokens = reader.read(part, 3).tokens
                total = total + (tokens.weight_N * loss(tokens).loss_N).sum()
        return float(total.detach()), gradient(net, total)

    value, slope = of("padded", 10**6)
    for layout in ("packed", "shared"):
        for most in (10**6, budget):
            got, got_slope = of(layout, most)
            assert got == pytest.approx(value, rel=1e-9, abs=1e-12)
            assert np.linalg.norm(got_slope - slope) <= 1e-9 * np.linalg.norm(slope) + 1e-12


@cache
def wide_model() -> Any:
    """A model with the vocabulary of the random groups."""
    config = AutoConfig.for_model(
        "qwen3",
        vocab_size=shared.VOCAB,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return widen(AutoModelForCausalLM.from_config(config, attn_implementation="sdpa"))


@layouts
@many
@given(batch=batches(), budget=st.integers(1, 40), data=st.data())
def test_micro_batches_hold_every_row_once_and_units_whole(
    layout: Any, batch: Batch, budget: int, data: Any
) -> None:
    whole = data.draw(st.sampled_from(["row", "trajectory", "group", "batch"]))
    made = layout_of(layout, model("qwen3", torch.float32))
    parts = made.parts(batch, budget, whole)
    assert sorted(row for part in parts for row in part) == list(range(batch.rows))
    units = [set(unit) for unit in unit_rows(batch, whole)]
    for part in parts:
        inside = [unit for unit in units if unit & set(part)]
        assert set().union(*inside) == set(part)
        assert computed(made, take(batch, part)) <= budget or len(inside) == 1


# ---------------------------------------------------------------- what is computed


def heads(rows: list[Any]) -> set[tuple[int, ...]]:
    return {tuple(row[: t + 1]) for row in rows for t in range(len(row))}


@many
@given(rows=rows_of_ids(), share=st.booleans())
def test_every_head_is_computed_once(rows: list[list[int]], share: bool) -> None:
    arrays = [np.array(row, dtype=np.int64) for row in rows]
    forest = plant(arrays, share)
    assert len(forest.ids_L) == (len(heads(rows)) if share else sum(map(len, rows)))
    for row, places in zip(rows, forest.place_BT, strict=True):
        assert forest.ids_L[places[: len(row)]].tolist() == row
        assert forest.depth_L[places[: len(row)]].tolist() == list(range(len(row)))
        assert (places[len(row) :] == -1).all()
    ends = [strip.own[1] for strip in forest.strips]
    assert [strip.own[0] for strip in forest.strips] == [0, *ends[:-1]]
    for strip in forest.strips:  # the way down to a strip is that of its own ids
        way = [forest.ids_L[slice(*span)] for span in (*strip.above, strip.own)]
        assert tuple(np.concatenate(way)) in heads(rows)


@many
@given(rows=rows_of_ids(), most=st.integers(1, 40))
def test_heaps_keep_to_their_size_and_one_heap_repeats_nothing(
    rows: list[list[int]], most: int
) -> None:
    arrays = [np.array(row, dtype=np.int64) for row in rows]
    heaps = gather([[b] for b in range(len(rows))], arrays, most)
    sizes = [len(heads([rows[b] for b in heap])) for heap in heaps]
    for heap, size in zip(heaps, sizes, strict=True):
        assert size <= most or len(heap) == 1
    assert sizes == sorted(sizes, reverse=True)
    if len(heads(rows)) <= most:
        assert len(heaps) == 1


@many
@given(batch=batches())
def test_nothing_behind_the_last_trained_id_is_computed(batch: Batch) -> None:
    net = model("qwen3", torch.float32)
    want = [row[: int(last[-1])] for row, w in zip(batch.ids_BT, batch.weight_BT, strict=True)
            if len(last := np.flatnonzero(w))]  # fmt: skip
    assert sum(map(len, needed(batch))) == sum(map(len, want))
    assert computed(layout_of("packed", net), batch) == sum(map(len, want))
    assert computed(layout_of("shared", net), batch) == len(heads([row.tolist() for row in want]))
    assert computed(Padded(), batch) == batch.ids_BT.size
