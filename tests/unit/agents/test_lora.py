"""Adapters: without effect at first, switched off exactly, merged on a copy, read by peft."""

from __future__ import annotations

import pytest
import torch
from peft import PeftModel

from foldgym.agents.engines import lora
from foldgym.agents.engines.models import init_model, load_policy, save_policy
from foldgym.agents.engines.tokenizer import CONTROLS, train_tokenizer
from foldgym.errors import CheckpointError, ConfigError

IDS = torch.arange(7)[None]


def tiny(dtype=torch.float32, seed=0, **shape):
    small = {"vocab_size": 300, "hidden": 32, "layers": 2, "heads": 2, "head_dim": 16, "mlp": 48}
    return init_model(**small, **shape, seed=seed).to(dtype)


def adapted(dtype=torch.float32, seed=0, **options):
    """A model whose adapters have an effect."""
    model = tiny(dtype)
    lora.attach(model, lora.config_of(4, **options), seed)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for p in model.parameters():
            if p.requires_grad:
                p.normal_(std=0.1)
    return model


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_new_adapters_change_nothing_and_train_alone(dtype):
    model, base = tiny(dtype), tiny(dtype)
    state = torch.get_rng_state()
    lora.attach(model, lora.config_of(4), 3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(logits(model), logits(base))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    # two factors for each of 7 layers of two blocks; never the tied head and embedding
    assert len(trained) == 2 * 7 * 2
    assert all("lora_" in name and p.dtype == torch.float32 for name, p in trained.items())
    # q, k, v, o (32 to 32), gate and up (32 to 48) and down (48 to 32), each with rank 4
    assert sum(p.numel() for p in trained.values()) == 2 * 4 * (4 * 64 + 3 * 80)
    again, other = tiny(dtype), tiny(dtype)
    lora.attach(again, lora.config_of(4), 3)
    lora.attach(other, lora.config_of(4), 4)
    name = next(iter(trained))
    assert torch.equal(dict(again.named_parameters())[name], trained[name])
    assert not torch.equal(dict(other.named_parameters())[name], trained[name])


def test_switched_off_it_is_the_base_to_the_bit():
    model = adapted()
    with_adapters = logits(model)
    with lora.adapters_off(model):
        assert torch.equal(logits(model), logits(tiny()))
    assert torch.equal(logits(model), with_adapters)
    assert not torch.equal(with_adapters, logits(tiny()))
    assert sum(p.requires_grad for p in model.parameters()) == 28


@pytest.mark.parametrize(("options", "factor"), [({}, 8.0), ({"rslora": True}, 16.0)])
def test_the_scale_of_the_product_by_hand(options, factor):
    """alpha 32 over rank 4, or over the square root of 4."""
    model = adapted(**options)
    layer = model.model.layers[1].mlp.down_proj
    delta = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    plain = lora.merged(model)
    expected = layer.base_layer.weight + factor * delta
    assert torch.allclose(plain.model.layers[1].mlp.down_proj.weight, expected, atol=1e-6)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_merging_makes_a_copy_that_computes_the_same(dtype, near):
    model = adapted(dtype)
    before = {name: x.clone() for name, x in model.state_dict().items()}
    plain = lora.merged(model)
    assert (logits(plain).float() - logits(model).float()).abs().max() < near
    assert not any(name for name, _ in plain.named_modules() if "lora" in name)
    after = model.state_dict()
    assert all(torch.equal(x, after[name]) for name, x in before.items())
    assert plain.model.embed_tokens.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["some words to learn from"], 280, CONTROLS)


def test_a_policy_folder_holds_merged_weights_and_adapters_for_peft(tokenizer, tmp_path):
    base = save_policy(tmp_path / "base", tiny(), tokenizer, "compact")
    model = adapted(base=base)
    folder = save_policy(tmp_path / "policy", model, tokenizer, "compact")
    saved = load_policy(folder)
    assert (logits(saved.model) - logits(model)).abs().max() < 1e-5
    assert saved.renderer == "compact"
    # peft reads our adapters over the base, and we read them as a policy folder
    theirs = PeftModel.from_pretrained(load_policy(base).model, str(folder / "adapter"))
    assert torch.allclose(logits(theirs), logits(model), atol=1e-6)
    assert (logits(load_policy(folder / "adapter").model) - logits(model)).abs().max() < 1e-5
    # and we read what peft wrote
    theirs.save_pretrained(str(tmp_path / "peft"))
    assert (logits(load_policy(tmp_path / "peft").model) - logits(model)).abs().max() < 1e-5


def test_adapters_come_back_bit_for_bit(tmp_path):
    model, other = adapted(), adapted(seed=1)
    lora.write_adapter(tmp_path, model)
    lora.read_adapter(tmp_path, other)
    for (name, a), (_, b) in zip(
        model.state_dict().items(), other.state_dict().items(), strict=True
    ):
        assert torch.equal(a, b), name


def test_what_does_not_fit_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"lora\.targets: .*'nowhere'.*of this model: down_proj"):
        lora.attach(tiny(), lora.config_of(4, targets=["nowhere"]))
    with pytest.raises(ConfigError, match="the output head is none"):
        lora.attach(tiny(tie=False), lora.config_of(4, targets=["lm_head"]))
    lora.write_adapter(tmp_path, adapted(targets=["q_proj"]))
    with pytest.raises(CheckpointError, match="is for other layers than this run adapts"):
        lora.read_adapter(tmp_path, adapted())
    with pytest.raises(CheckpointError, match="cannot be read"):
        lora.read_adapter(tmp_path / "nowhere", adapted())
    with pytest.raises(CheckpointError, match="belongs to None, which is no model folder"):
        load_policy(tmp_path)


def test_an_embedding_that_is_the_head_too_is_no_target():
    """Merged, its adapter would move the logits as well, which it does not as long as it is one."""
    model = tiny()
    with pytest.raises(ConfigError, match=r"model\.embed_tokens shares its weights .* head"):
        lora.attach(model, lora.config_of(4, targets=["embed_tokens", "q_proj"]))
    apart = tiny(tie=False)
    lora.attach(apart, lora.config_of(4, targets=["embed_tokens"]))
    with torch.no_grad():
        for p in apart.parameters():
            if p.requires_grad:
                p.normal_()
    assert not torch.equal(logits(apart), logits(tiny(tie=False)))
    assert torch.allclose(logits(lora.merged(apart)), logits(apart), atol=1e-4)


def test_the_revision_of_an_adapter_folder_is_its_bases_too(tmp_path):
    tokenizer = train_tokenizer(["one two three"] * 8, 290, CONTROLS)
    base = save_policy(tmp_path / "base", tiny(), tokenizer, "compact")
    model = load_policy(base).model
    lora.attach(model, lora.config_of(4, base=base))
    lora.write_adapter(tmp_path / "adapter", model)
    before = lora.revision_of(tmp_path / "adapter")
    assert lora.revision_of(tmp_path / "adapter") == before != lora.revision_of(base)
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    assert lora.revision_of(tmp_path / "adapter") != before
