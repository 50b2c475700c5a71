"""The trace of an update's memory: equal with and without numbers, and as counted by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.update_memory import Case, Ledger, new_model, second_update, traced

SMALL = Case(ids=48, dtype="float32", chunk=16, layers=1, vocab=1000, foreach=False)


@pytest.mark.parametrize("case", [SMALL, replace(SMALL, dtype="bfloat16", rank=2)])
def test_tensors_without_numbers_take_what_real_ones_take(case: Case) -> None:
    with Ledger(case.vocab, case.ids) as ledger:
        second_update(new_model(case), case, ledger)
    found = traced(case)
    for phase in ("forward", "backward", "step"):
        assert found[phase]["sum"] * 2**30 == pytest.approx(sum(ledger.peaks[phase].values()))


def test_a_forward_pass_by_hand() -> None:
    """q 896 x 896, k and v 896 x 128, their biases, o, three matrices of the MLP, norms, table.

    The head's chunk outweighs the layer's activations, about 60 KB for each of 48 ids.
    """
    case = replace(SMALL, vocab=30_000, chunk=40)
    layer = 2 * 896**2 + 2 * 896 * 128 + 896 + 2 * 128 + 3 * 896 * 4864 + 2 * 896
    numbers = layer + 896 + 30_000 * 896
    forward = {kind: gib * 2**30 for kind, gib in traced(case)["forward"].items()}
    tables = 2 * 32 * 4  # of rotary positions, kept twice
    assert forward["weights"] == pytest.approx(4 * numbers + tables)
    assert forward["moments"] == pytest.approx(8 * numbers + 14 * 4)  # and AdamW's own counts
    assert forward["logits"] == pytest.approx(2 * 40 * 30_000 * 4)


def test_what_scaling_says_is_kept_and_what_is_not() -> None:
    plain, bf16 = traced(replace(SMALL, ids=480)), traced(replace(SMALL, dtype="bfloat16"))
    kept = traced(replace(SMALL, ids=480, checkpointing=False))
    name = "kept by the forward pass"
    assert kept["backward"][name] > 5 * plain["backward"][name]
    assert "masters" not in plain["step"]
    assert bf16["step"]["masters"] == pytest.approx(bf16["step"]["gradients"])


def test_scores_that_are_written_down_are_refused() -> None:
    with Ledger(1000, 8), pytest.raises(RuntimeError, match="8 x 8 scores"):
        torch.ones(2, 8, 8)
