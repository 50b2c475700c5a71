"""Log-probs a chunk at a time: the numbers and gradients of all at once, and less memory."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModelForCausalLM

from foldgym.trainers import reading
from foldgym.trainers.advantages import dr_grpo
from foldgym.trainers.batch import make_batch
from foldgym.trainers.crew import Crew
from foldgym.trainers.heads import Form, form_of, read_hidden, read_logits
from foldgym.trainers.reading import Reader

IDENTITY, CAPPED = Form(), Form(scale=1.5, cap=3.0)


def problem(dtype, bias=False, n=23, width=8, vocab=37):
    """Hidden states, a head, ids and random directions in which to take gradients."""
    rng = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype)

    head = nn.Linear(width, vocab, bias=bias, dtype=dtype)
    with torch.no_grad():
        for p in head.parameters():
            p.copy_(draw(*p.shape))
    ids_N = torch.randint(vocab, (n,), generator=rng)
    wide = torch.promote_types(dtype, torch.float32)
    return draw(n, width).requires_grad_(), head, ids_N, draw(n).to(wide), draw(n).to(wide)


def gradients(chunk, dtype, form, temperature, entropy, bias=False):
    hidden_ND, head, ids_N, by_logp_N, by_entropy_N = problem(dtype, bias)
    logp_N, entropy_N = read_hidden(
        hidden_ND, head, ids_N, form,
        temperature=temperature, chunk=chunk, entropy_gradient=entropy,
    )  # fmt: skip
    value = (logp_N * by_logp_N).sum()
    (value + (entropy_N * by_entropy_N).sum() if entropy else value).backward()
    return [logp_N, entropy_N, hidden_ND.grad, *(p.grad for p in head.parameters())]


@pytest.mark.parametrize(("dtype", "near"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("form", [IDENTITY, CAPPED], ids=["plain", "capped"])
@pytest.mark.parametrize("entropy", [False, True])
@pytest.mark.parametrize(("chunk", "bias"), [(1, False), (5, True), (22, False)])
def test_chunks_give_the_values_and_gradients_of_all_at_once(
    dtype, near, form, entropy, chunk, bias
):
    whole = gradients(0, dtype, form, 0.7, entropy, bias)
    parts = gradients(chunk, dtype, form, 0.7, entropy, bias)
    for a, b in zip(whole, parts, strict=True):
        assert torch.allclose(a, b, rtol=near, atol=near)


def test_a_log_prob_and_an_entropy_by_hand():
    head = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0], [np.log(3.0)]]))
    hidden_ND = torch.ones(3, 1, requires_grad=True)
    ids_N = torch.tensor([0, 1, 1])
    logp_N, entropy_N = read_hidden(hidden_ND, head, ids_N, IDENTITY, chunk=2)
    assert logp_N.tolist() == pytest.approx(np.log([0.25, 0.75, 0.75]))
    assert entropy_N.tolist() == pytest.approx([-0.25 * np.log(0.25) - 0.75 * np.log(0.75)] * 3)
    logp_N[0].backward()
    assert hidden_ND.grad[0].item() == pytest.approx(-0.75 * np.log(3))  # 0 - 3/4 of the weight
    assert head.weight.grad.flatten().tolist() == pytest.approx([0.75, -0.75])
    assert not entropy_N.requires_grad


def test_chunks_of_a_bf16_head_add_up_in_fp32():
    """256 equal gradients of one chunk each: in bf16 the sum would stop growing at 2^8 of them."""
    head = nn.Linear(1, 2, bias=False, dtype=torch.bfloat16)
    with torch.no_grad():
        head.weight.zero_()
    n = 1024
    hidden_ND = torch.ones(n, 1, dtype=torch.bfloat16)
    logp_N, _ = read_hidden(hidden_ND, head, torch.zeros(n, dtype=torch.int64), IDENTITY, chunk=1)
    logp_N.sum().backward()
    assert logp_N.dtype == torch.float32
    assert head.weight.grad.flatten().tolist() == [n / 2, -n / 2]


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation made."""

    def __init__(self):
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for each in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(each, torch.Tensor):
                self.numbers = max(self.numbers, each.numel())
        return out


@pytest.mark.parametrize(("chunk", "largest"), [(0, 400 * 1000), (16, 16 * 1000)])
def test_no_tensor_is_larger_than_the_logits_of_a_chunk(chunk, largest):
    hidden_ND, head = torch.randn(400, 8, requires_grad=True), nn.Linear(8, 1000)
    with Largest() as seen:
        logp_N, entropy_N = read_hidden(
            hidden_ND, head, torch.zeros(400, dtype=torch.int64), CAPPED,
            chunk=chunk, entropy_gradient=True,
        )  # fmt: skip
        (logp_N.sum() + entropy_N.sum()).backward()
    assert seen.numbers == largest


class Together(TorchDispatchMode):
    """Counts the arrays of at least `numbers` numbers that are there at the same time."""

    def __init__(self, numbers):
        super().__init__()
        self.numbers, self.most, self.here = numbers, 0, {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for each in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(each, torch.Tensor) and each.numel() >= self.numbers:
                storage = each.untyped_storage()
                key = storage._cdata
                if key not in self.here:
                    self.here[key] = weakref.ref(storage, lambda _, key=key: self.here.pop(key))
                self.most = max(self.most, len(self.here))
        return out


def test_two_arrays_of_logits_are_enough():
    """One that an operation reads and one that it writes; an entropy's gradient needs a third."""
    hidden_ND, head = torch.randn(64, 8, requires_grad=True), nn.Linear(8, 1000)
    ids_N = torch.zeros(64, dtype=torch.int64)
    for entropy, most in ((False, 2), (True, 3)):
        with Together(16 * 1000) as seen:
            logp_N, entropy_N = read_hidden(
                hidden_ND, head, ids_N, IDENTITY,
                temperature=0.7, chunk=16, entropy_gradient=entropy,
            )  # fmt: skip
            assert seen.most == 2
            (logp_N + entropy_N).sum().backward()
        assert seen.most == most
        assert not seen.here


def test_all_logits_at_once_leave_one_array_for_the_way_back():
    hidden_ND, head = torch.randn(64, 8, requires_grad=True), nn.Linear(8, 1000)
    with Together(64 * 1000) as seen:
        logp_N, _ = read_hidden(hidden_ND, head, torch.zeros(64, dtype=torch.int64), IDENTITY)
    assert seen.most == 2
    assert len(seen.here) == 1
    assert logp_N.requires_grad


# ---------------------------------------------------------------- the heads of real families

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
}
FAMILIES = [
    ("qwen3", {}, Form()),
    ("gemma2", {"final_logit_softcapping": 0.5}, Form(cap=0.5)),
    ("gemma3_text", {"final_logit_softcapping": 0.5}, Form(cap=0.5)),
    ("granite", {"logits_scaling": 4.0}, Form(scale=0.25)),
    ("cohere", {"logit_scale": 0.0625}, Form(scale=0.0625)),
]


def family(name, options):
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **SHAPE, **options)
    config._attn_implementation = "eager"
    return AutoModelForCausalLM.from_config(config, dtype=torch.float64)


@pytest.mark.parametrize(("name", "options", "form"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_forms_of_families_are_found_and_exact(by_hand, name, options, form):
    model = family(name, options)
    assert form_of(model) == form
    groups = [by_hand.group([1.0, 0.0], by_hand.trajectory([-1, -1, 0, 0, -1, 1]),
                            by_hand.trajectory([-1, 0, -1, 1, 1, 1]))]  # fmt: skip
    batch = make_batch(groups, dr_grpo(groups))
    rows, columns = np.nonzero(batch.weight_BT)
    ids_N = torch.as_tensor(batch.ids_BT[rows, columns])
    theirs = model(input_ids=torch.as_tensor(batch.ids_BT)).logits[rows, columns - 1]
    logp_N, entropy_N = read_logits(theirs, ids_N, 0.8, False)
    found = Reader(model, 0.8, chunk=2).read(batch)
    assert torch.allclose(found.tokens.logp_N, logp_N, atol=1e-10)
    assert torch.allclose(found.entropy_N, entropy_N, atol=1e-10)


def cubed():
    """A model whose head is none that we know."""
    model = family("qwen3", {})
    head = model.lm_head
    head.forward = lambda hidden_BTD: nn.functional.linear(hidden_BTD, head.weight) ** 3
    return model


def test_a_head_of_unknown_form_is_left_to_the_model(by_hand):
    model = cubed()
    assert form_of(model) is None
    groups = [by_hand.group([1.0], by_hand.trajectory([-1, -1, 0, 0, -1, 1]))]
    batch = make_batch(groups)
    logits_TV = model(input_ids=torch.as_tensor(batch.ids_BT)).logits[0]
    columns = np.nonzero(batch.weight_BT[0])[0]
    ids_N = torch.as_tensor(batch.ids_BT[0, columns])
    logp_N, _ = read_logits(logits_TV[columns - 1], ids_N, 1.0, False)
    assert torch.allclose(Reader(model, chunk=1).read(batch).tokens.logp_N, logp_N, atol=1e-12)


def test_chunks_without_effect_are_said_once(by_hand, capsys):
    model, known = cubed(), family("qwen3", {})
    batch = make_batch([by_hand.group([1.0], by_hand.trajectory([-1, -1, 0, 0, -1, 1, 1]))])
    reading._say_once.cache_clear()
    for silent in (Reader(model), Reader(model, chunk=7), Reader(known, chunk=2)):
        silent.read(batch)  # no chunks, no more ids than a chunk, and chunks that work
    assert capsys.readouterr().err == ""
    for _ in range(2):
        Reader(model, chunk=6).read(batch)  # a policy, and its reference
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("logprob_chunk = 6 has no effect: the output head of this "
                           "Qwen3ForCausalLM, of class Linear,")  # fmt: skip
    assert "lower microbatch_tokens" in line
    follower = Reader(model, chunk=5)
    follower.crew = Crew(1, 2)
    with pytest.raises(ValueError, match="process group"):  # it reads, and then asks the others
        follower.logprobs(batch, 100)
    assert capsys.readouterr().err == ""
