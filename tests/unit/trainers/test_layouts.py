"""Layouts by hand: which rows go together, what is seen, which models fit, and whole runs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from odd_runs import make_policy, run_file
from transformers import AutoConfig, AutoModelForCausalLM
from wide_norms import widen

from foldgym.errors import ConfigError
from foldgym.records import JsonlReader
from foldgym.trainers.advantages import dr_grpo
from foldgym.trainers.batch import make_batch
from foldgym.trainers.forest import Strip, gather, plant
from foldgym.trainers.layout import Grown, Padded, computed, layout_of, why_not
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import k3, ppo_clip
from foldgym.trainers.mismatch import MISMATCHES
from foldgym.trainers.optim import Optim
from foldgym.trainers.reading import Reader
from foldgym.trainers.sight import Sight
from foldgym.trainers.train import train
from foldgym.trainers.values import ValueHead
from foldgym.types import Batch

PLAIN = Optim(lr=1e-2, warmup=0, clip=1e9)
NO = float("-inf")


def rows(*texts: str) -> list[Any]:
    return [np.array([ord(letter) for letter in text], dtype=np.int64) for text in texts]


def net(family: str, attention: str = "sdpa", **more: Any) -> Any:
    shape = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    ids = {"vocab_size": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(family, **shape, **heads, **ids, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


# ---------------------------------------------------------------- forests


def test_a_forest_by_hand() -> None:
    forest = plant(rows("abcd", "abx", "q", "abcd", "ab"))
    assert "".join(map(chr, forest.ids_L)) == "abcdxq"
    assert forest.depth_L.tolist() == [0, 1, 2, 3, 2, 0]
    assert forest.strips == (  # in the order of their ids: ab, abcd (twice), abx, q
        Strip((0, 2)),
        Strip((2, 4), ((0, 2),)),
        Strip((4, 5), ((0, 2),)),
        Strip((5, 6)),
    )
    assert forest.place_BT.tolist() == [
        [0, 1, 2, 3],
        [0, 1, 4, -1],
        [5, -1, -1, -1],
        [0, 1, 2, 3],
        [0, 1, -1, -1],
    ]


def test_ids_are_compared_as_numbers_not_as_bytes() -> None:
    forest = plant([np.array([1, 256]), np.array([1, 1]), np.array([65536, 1])])
    assert forest.ids_L.tolist() == [1, 1, 256, 65536, 1]


def test_groups_stay_together_and_a_common_start_is_paid_for_once_per_heap() -> None:
    members = rows("ssAAAx", "ssBBBx", "ssAAAy", "ssBBBy", "ssAAAz")
    one_each = [[0], [1], [2], [3], [4]]
    # the As have 2 + 3 + 3 places, the Bs 2 + 3 + 2, all of them 8 + 7 - 2
    assert gather(one_each, members, 13) == [[0, 2, 4, 1, 3]]
    assert gather(one_each, members, 12) == [[0, 2, 4], [1, 3]]
    assert gather(one_each, members, 7) == [[0, 2], [1, 3], [4]]
    # a unit of both kinds: 10 places, 12 with the other As, and the last B does not fit
    assert gather([[0, 1], [2], [3], [4]], members, 12) == [[0, 2, 4, 1], [3]]
    assert gather(one_each, members, 12, share=False) == [[0, 2], [4, 1], [3]]
    assert gather(one_each, members, 1) == [[0], [2], [4], [1], [3]]
    assert gather([], [], 5) == []


def test_what_each_place_sees() -> None:
    forest = plant(rows("abcd", "abx", "q"))
    see = 0.0
    expected = [
        # a   b    c    d    x    q
        [see, NO, NO, NO, NO, NO],
        [see, see, NO, NO, NO, NO],
        [see, see, see, NO, NO, NO],
        [see, see, see, see, NO, NO],
        [see, see, NO, NO, see, NO],
        [NO, NO, NO, NO, NO, see],
    ]
    sight = Sight.of(forest, torch.float32, "cpu")
    assert sight.shape == (1, 1, 6, 6)
    assert sight.dense()[0, 0].tolist() == expected
    near = [row.copy() for row in expected]
    for row, column in ((2, 0), (3, 0), (3, 1), (4, 0)):  # two places up and more
        near[row][column] = NO
    assert Sight.of(forest, torch.float32, "cpu", window=2).dense()[0, 0].tolist() == near


def test_a_sight_can_be_cast_and_gives_its_numbers_to_those_who_read_them() -> None:
    sight = Sight.of(plant(rows("ab", "ac")), torch.float32, "cpu")
    narrow = sight.to(torch.bfloat16)
    assert isinstance(narrow, Sight)
    assert narrow.dtype == torch.bfloat16
    added = torch.ones(1, 2, 3, 3) + sight
    assert type(added) is torch.Tensor
    assert added[0, 1].tolist() == [[1, NO, NO], [1, 1, NO], [1, NO, 1]]
    assert torch.equal((narrow * 2).float(), 2 * sight.dense())


# ---------------------------------------------------------------- which models fit


def test_models_that_fit() -> None:
    for family, more in (("qwen3", {}), ("llama", {}), ("gpt_neox", {})):
        assert why_not(net(family, **more)) == ""
        assert isinstance(layout_of("auto", net(family, **more)), Grown)
        assert isinstance(layout_of("padded", net(family, **more)), Padded)


def test_masks_that_must_be_written_out_are_no_choice_of_auto() -> None:
    model = net("qwen3", "eager")
    assert why_not(model) == ""
    assert isinstance(layout_of("auto", model), Padded)
    assert isinstance(layout_of("shared", model), Grown)


class Deaf(torch.nn.Module):
    """A model that listens to neither masks nor positions."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = net("llama")
        self.config, self.base_model, self.device = self.inner.config, self._base, "cpu"

    def _base(self, input_ids: Any, **_: Any) -> Any:
        return self.inner.base_model(input_ids=input_ids, use_cache=False)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (partial(net, "mistral", sliding_window=4), "masks do not decide alone"),
        (partial(net, "rwkv", "eager"), "computes something else on rows behind each other"),
        (
            partial(net, "bloom", "eager", n_head=2),
            r"refuses rows behind each other \(ValueError\)",
        ),
        (Deaf, "computes something else on rows behind each other"),
        (
            partial(net, "llama", rope_parameters={"rope_type": "dynamic", "factor": 2.0}),
            "rotary positions depend on the longest row",
        ),
    ],
)
def test_models_that_do_not_fit_say_why(model: Any, reason: Any) -> None:
    made = model()
    assert isinstance(layout_of("auto", made), Padded)
    for name in ("packed", "shared"):
        with pytest.raises(ConfigError, match=f'"{name}" does not go with .*{reason}.*"padded"'):
            layout_of(name, made)


# ---------------------------------------------------------------- learning


def folded(by_hand: Any) -> Batch:
    groups = [
        by_hand.group(
            [1.0, 0.0],
            by_hand.trajectory([-1, -1, 0, 0, -1, 1], [-1, -1, 2, 2], name="a"),
            by_hand.trajectory([-1, -1, 0, -1, 1, 1, 1, 1], name="b"),
        ),
        by_hand.group(
            [0.0, 3.0],
            by_hand.trajectory([-1, -1, 0], name="c"),
            by_hand.trajectory([-1, -1, -1, 0, 0], [-1, -1, 1, -1, 2], name="d"),
        ),
    ]
    return make_batch(groups, dr_grpo(groups))


@pytest.mark.parametrize("layout", ["packed", "shared"])
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"checkpointing": True},
        {"microbatch_tokens": 8, "logprob_chunk": 3},
        {"epochs": 2, "minibatches": 2},
    ],
)
def test_updates_are_those_of_padded_rows(by_hand: Any, layout: Any, more: Any) -> None:
    batch = folded(by_hand)
    policies = [by_hand.tiny() for _ in range(2)]
    found = []
    for policy, name in zip(policies, ("padded", layout), strict=True):
        reference = by_hand.tiny(1).model
        for model in (policy.model, reference):  # "eager" computes its softmax in fp32
            widen(model).set_attn_implementation("sdpa")
        learner = TorchLearner(
            policy,
            ppo_clip,
            replace(PLAIN, layout=name, **more),
            kl=k3,
            kl_coef=0.1,
            reference=reference,
            entropy=0.01,
            mismatch=MISMATCHES["tis"],
        )
        found.append([learner.update(batch) for _ in range(2)][-1])
    assert found[0] == pytest.approx(found[1], rel=1e-9, abs=1e-12)
    for a, b in zip(*(policy.model.parameters() for policy in policies), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-9)


def test_the_same_batch_gives_the_same_bits(by_hand: Any) -> None:
    once, again = (by_hand.tiny(dtype=torch.float32) for _ in range(2))
    for policy in (once, again):
        policy.model.set_attn_implementation("sdpa")
        TorchLearner(policy, ppo_clip, replace(PLAIN, layout="shared")).update(folded(by_hand))
    for a, b in zip(once.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_value_head_reads_the_same_states(by_hand: Any) -> None:
    model, batch = by_hand.tiny().model, folded(by_hand)
    heads = [ValueHead(Reader(model, layout=layout_of(n, model))) for n in ("padded", "shared")]
    for head in heads:
        torch.nn.init.ones_(head.layer.weight)
    plain, ours = (head.values(batch) for head in heads)
    assert np.abs(plain).max() > 0
    assert np.allclose(plain, ours, atol=1e-6)


# ---------------------------------------------------------------- how much is computed


def trained(texts: Any, last: int) -> Batch:
    """Rows of ids whose last `last` ids are trained."""
    length_B = np.array(list(map(len, texts)))
    shape = len(texts), int(length_B.max())
    ids_BT, weight_BT = np.zeros(shape, np.int64), np.zeros(shape)
    for b, row in enumerate(texts):
        ids_BT[b, : len(row)] = row
        weight_BT[b, len(row) - last : len(row)] = 1.0
    turn_BT, zero_BT = np.where(weight_BT > 0, 0, -1), np.zeros(shape)
    number_B = np.zeros(len(texts), dtype=np.int64)
    columns = turn_BT, zero_BT, turn_BT, zero_BT, weight_BT
    return Batch(ids_BT, *columns, length_B, number_B, number_B)


def ratios(by_hand: Any, texts: Any, last: Any, budget: int) -> tuple[float, float]:
    """Computed over unique ids in micro-batches, and padded over unique ones."""
    batch, model = trained(texts, last), by_hand.tiny().model
    unique = len({tuple(row[: t + 1]) for row in texts for t in range(len(row))})
    shared, padded = layout_of("shared", model), Padded()
    parts = [trained([texts[row] for row in rows], last) for rows in shared.parts(batch, budget)]
    assert all(computed(shared, part) <= budget for part in parts)
    return sum(computed(shared, part) for part in parts) / unique, computed(padded, batch) / unique


def test_groups_with_a_long_prompt_compute_it_once(by_hand: Any) -> None:
    rng = np.random.default_rng(0)
    prompts = [[5, 6, 7, *rng.integers(0, 64, 297)] for _ in range(6)]
    texts = [[*p, *rng.integers(0, 64, rng.integers(10, 30))] for p in prompts for _ in range(8)]
    order = rng.permutation(len(texts))  # members need not stand together
    ratio, plain = ratios(by_hand, [texts[at] for at in order], 10, 1200)
    assert ratio <= 1.05
    assert plain > 5


def test_a_trajectory_with_five_folds_computes_its_head_once(by_hand: Any) -> None:
    rng = np.random.default_rng(1)
    texts = []
    for _ in range(4):
        head, kept = rng.integers(0, 64, 200).tolist(), []
        for _ in range(6):  # the notes of each fold follow those before it
            texts.append([*head, *kept, *rng.integers(0, 64, 60).tolist()])
            kept = [*kept, *rng.integers(0, 64, 10).tolist()]
    ratio, plain = ratios(by_hand, texts, 40, 1400)
    assert ratio <= 1.05
    assert plain > 2.5


def test_a_run_learns_the_same_on_every_layout(tmp_path: Any) -> None:
    make_policy(tmp_path, "model.layers=2")
    kept = {}
    for name in ("padded", "shared", "auto"):
        folder = train(run_file(tmp_path, tmp_path / name, f"optim.layout={name}"))
        kept[name] = list(JsonlReader(folder / "metrics.jsonl"))
    first = [kept[name][0] for name in ("padded", "shared", "auto")]
    for key in ("loss", "entropy", "grad_norm", "nll"):
        assert first[1][key] == pytest.approx(first[0][key], rel=1e-4, abs=1e-6)
    assert first[1] == first[2]
    assert kept["shared"][-1]["logprob_gap_max"] < 1e-5
    with pytest.raises(ConfigError, match=r"optim\.layout"):
        run_file(tmp_path, tmp_path / "bad", "optim.layout=tree")
