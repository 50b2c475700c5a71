"""Columns that a model reads off for an advantage land on the right ids."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from foldgym.trainers.advantages import ADVANTAGES, estimate
from foldgym.trainers.batch import make_batch
from foldgym.trainers.inputs import column, providers
from foldgym.trainers.reading import Reader


@pytest.fixture
def groups(by_hand):
    aside = by_hand.segment([-1, 1, 1], trainable=False)
    context = by_hand.segment([-1, -1])
    folded = by_hand.trajectory([-1, 0, 0, -1], context, aside, [-1, 1, -1, 2], name="a")
    return [
        by_hand.group([1.0, 0.0], folded, by_hand.trajectory([-1, 0, -1, 1], name="b")),
        by_hand.group([0.5], by_hand.trajectory([-1, 0], name="c")),
    ]


def test_a_column_goes_back_to_its_segments(groups):
    got = column(
        groups, lambda batch: np.arange(batch.ids_BT.size, dtype=float).reshape(batch.ids_BT.shape)
    )
    assert [[part.tolist() for part in credit] for row in got for credit in row] == [
        [[0, 1, 2, 3], [0, 0], [0, 0, 0], [4, 5, 6, 7]],
        [[8, 9, 10, 11]],
        [[12, 13]],
    ]


def test_entropies_are_those_of_the_model(by_hand, groups):
    reader = Reader(by_hand.tiny().model)
    entropy = providers(reader, 0, 4096)["entropy"](groups)
    batch = make_batch(groups)
    logits = reader.model(input_ids=torch.as_tensor(batch.ids_BT[3:4])).logits[0, 0].double()
    all_V = logits.log_softmax(-1)
    expected = float(-(all_V.exp() * all_V).sum().detach())
    assert entropy[1][0][0][1] == pytest.approx(expected)
    assert entropy[1][0][0][0] == 0.0


def test_a_run_serves_every_registered_advantage_that_it_can(by_hand, groups):
    policy, frozen = by_hand.tiny(0), by_hand.tiny(1)
    given = providers(
        Reader(policy.model),
        3,
        4096,
        Reader(frozen.model),
        lambda batch: np.zeros(batch.ids_BT.shape),
    )
    assert set(given) == {"step", "entropy", "reference", "value"}
    for name in ("empg", "reinforce_pp_kl", "gae", "egae"):
        credits = estimate(ADVANTAGES[name], groups, given)
        assert make_batch(groups, credits).advantage_BT.any()
    assert set(providers(Reader(policy.model), 3, 4096)) == {"step", "entropy"}
