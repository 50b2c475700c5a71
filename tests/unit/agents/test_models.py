from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from foldgym.agents.engines.models import init_model, load_policy, save_policy, write_policy
from foldgym.agents.engines.tokenizer import train_tokenizer
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.errors import CheckpointError, DataError, UnknownName
from foldgym.types import Completion, Prompt, Sampling

TOKENIZER = train_tokenizer(["tusmol lives in pastan ."], 280)


def tiny(seed: int = 0, vocab_size: int = TOKENIZER.vocab_size) -> Any:
    return init_model(
        vocab_size=vocab_size, hidden=16, layers=1, heads=2, mlp=24, max_positions=64, seed=seed
    )


def same(left: Any, right: Any) -> bool:
    pairs = zip(left.state_dict().items(), right.state_dict().items(), strict=True)
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_policy(tmp_path / "policy", tiny(), TOKENIZER, "compact", {"step": 3})


def test_a_seed_makes_the_same_model_and_moves_no_global_generator() -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    first, again, other = tiny(0), tiny(0), tiny(1)
    assert torch.equal(torch.rand(1), expected)
    assert same(first, again)
    assert not same(first, other)


def test_the_default_shape_is_the_one_of_the_feasibility_study() -> None:
    model = init_model(vocab_size=420)
    assert sum(weight.numel() for weight in model.parameters()) == 480_512
    assert model.config.rope_parameters["rope_theta"] == 100.0
    assert model.dtype == torch.float32
    llama = init_model("llama", vocab_size=50, hidden=16, layers=1, heads=4, kv_heads=2, tie=False)
    assert llama.config.model_type == "llama"
    assert llama.lm_head.weight is not llama.model.embed_tokens.weight
    with pytest.raises(UnknownName, match="did you mean 'qwen3'"):
        init_model("qwen2", vocab_size=50)


def test_a_saved_policy_comes_back_and_samples_the_same(saved: Path) -> None:
    found = load_policy(saved)
    assert (found.renderer, found.metadata) == ("compact", {"step": 3})
    assert same(found.model, tiny())
    assert found.tokenizer.encode("tusmol") == TOKENIZER.encode("tusmol")

    async def talk(model: Any) -> Completion:
        session = TorchPolicy(model, (5,), pad_id=0).open(3)
        return await session.sample(Prompt(TOKENIZER.encode("tusmol")), Sampling(1.0, 20))

    assert asyncio.run(talk(found.model)) == asyncio.run(talk(tiny()))


def test_saving_again_replaces_and_leaves_nothing_else(saved: Path) -> None:
    save_policy(saved, tiny(1), TOKENIZER, "chatml")
    found = load_policy(saved)
    assert found.renderer == "chatml"
    assert same(found.model, tiny(1))
    assert [path.name for path in saved.parent.iterdir()] == ["policy"]


def test_a_full_disk_leaves_the_old_policy(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left on device; make room") as caught:
        save_policy(saved, tiny(1), TOKENIZER, "compact")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert same(load_policy(saved).model, tiny())
    assert [path.name for path in saved.parent.iterdir()] == ["policy"]


def test_a_save_killed_between_its_renames_is_mended(saved: Path) -> None:
    saved.rename(saved.with_name(".policy.old"))
    assert same(load_policy(saved).model, tiny())
    assert saved.is_dir()


def test_a_folder_of_hugging_face_alone_has_no_renderer(tmp_path: Path) -> None:
    write_policy(tmp_path, tiny(), TOKENIZER, "compact")
    (tmp_path / "foldgym.json").unlink()
    assert load_policy(tmp_path).renderer == "compact"  # our template says whose it is
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    found = load_policy(tmp_path)
    assert (found.renderer, found.metadata) == ("", {})
    assert same(found.model, tiny())


def cut(name: str, keep: float) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        replace(folder / name, content[: int(len(content) * keep)])

    return damage


def replace(path: Path, content: bytes) -> None:
    """Never in place: a model that was loaded may still be mapped to the old file."""
    path.unlink()
    path.write_bytes(content)


def flip(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-5] ^= 1
    replace(folder / "model.safetensors", bytes(content))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut("model.safetensors", 0.5), r"model\.safetensors is damaged \(\d+ bytes, not \d+\)"),
        (cut("config.json", 0.5), r"config\.json is damaged"),
        (cut("tokenizer.json", 0.9), r"tokenizer\.json is damaged"),
        (cut("foldgym.json", 0.5), r"foldgym\.json is damaged"),
        (flip, r"model\.safetensors is damaged \(other content\)"),
        (lambda folder: (folder / "model.safetensors").unlink(), r"model\.safetensors is missing"),
        (lambda folder: (folder / "config.json").unlink(), r"holds no config\.json"),
        (lambda folder: folder.rename(folder.with_name("b")), "is no folder"),
        (lambda folder: (folder / "foldgym.json").write_text("[]"), r"foldgym\.json is damaged"),
        (
            lambda folder: (folder / "foldgym.json").write_text('{"format": 2, "files": {}}'),
            "has format 2, this foldgym reads format 1",
        ),
    ],
)
def test_a_damaged_policy_is_one_clear_line(
    saved: Path, damage: Callable[[Path], None], says: str
) -> None:
    damage(saved)
    with pytest.raises(CheckpointError, match=says) as caught:
        load_policy(saved)
    assert "\n" not in str(caught.value)


def other_vocabulary(folder: Path) -> None:
    write_policy(folder, tiny(vocab_size=100), TOKENIZER, "compact")


def lose_a_weight(folder: Path) -> None:
    weights = {k: w.clone() for k, w in load_file(folder / "model.safetensors").items()}
    del weights["model.norm.weight"]
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut("model.safetensors", 0.5), "cannot be read: Error while deserializing"),
        (cut("model.safetensors", 0.0), "cannot be read"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be read: Error no file"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be read"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "nope"}'),
            "cannot be read.*nope",
        ),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"no tokenizer\.json"),
        (lose_a_weight, r"lacks 1 weights, model\.norm\.weight among them"),
        (another_shape, "cannot be read"),
        (other_vocabulary, "the model only 100; they do not belong together"),
    ],
)
def test_a_foreign_folder_is_checked_without_our_sheet(
    saved: Path, damage: Callable[[Path], None], says: str
) -> None:
    damage(saved)
    (saved / "foldgym.json").unlink()
    with pytest.raises(CheckpointError, match=says) as caught:
        load_policy(saved)
    assert "\n" not in str(caught.value)


def test_a_narrow_model_keeps_its_table_of_positions(saved):
    """Angles of late positions would be wrong by whole turns in bf16."""
    model = load_policy(saved, dtype=torch.bfloat16).model
    assert next(model.parameters()).dtype == torch.bfloat16
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
