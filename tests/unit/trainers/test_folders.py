"""Folders that transformers wrote, with a family's tokens and template: played and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import odd_runs
import pytest
import torch
from chats import FAMILIES, reference
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from foldgym.cli.main import main
from foldgym.config import TrainRun
from foldgym.records import RecordReader
from foldgym.trainers.checkpoint import latest
from foldgym.trainers.train import train
from foldgym.trainers.wiring import load_actor, policy_folder

TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 32,
    "max_position_embeddings": 2048,
}
EXPERTS = {
    "n_routed_experts": 2,
    "num_experts_per_tok": 1,
    "n_group": 1,
    "topk_group": 1,
    "moe_intermediate_size": 16,
    "first_k_dense_replace": 0,
}
MODELS = {  # family: the architecture, what it wants to know, the renderer that is found
    "qwen2.5": ("qwen2", {}, "qwen2.5"),
    "qwen3": ("qwen3", {}, "qwen3"),
    "llama3.1": ("llama", {}, "llama3"),
    "gemma3": ("gemma3_text", {}, "gemma"),
    "phi3": ("phi3", {"pad_token_id": 0}, "phi"),
    "glm4": ("glm4_moe", EXPERTS, "glm4"),
    "deepseek-r1": ("llama", {}, "deepseek:thinking=true"),
}


def saved(name: str, folder: Path) -> Path:
    """A folder as `save_pretrained` of transformers leaves it."""
    kind, more, _ = MODELS[name]
    tokenizer = reference(FAMILIES[name])
    tokenizer.save_pretrained(folder)
    config = AutoConfig.for_model(kind, vocab_size=len(tokenizer), **(TINY | more))
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def run_file(here: Path, policy: Path, output: Path) -> TrainRun:
    own = (f"policy.path={policy}", "rollout.max_tokens=5", "rollout.max_turns=2", "optim.warmup=0")
    few = ("train.steps=1", "train.groups=1", "train.checkpoint_every=1")
    return odd_runs.run_file(here, output, *own, *few)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_folder_of_every_family_takes_a_step_and_stays_a_folder(
    name: str, here: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    policy = saved(name, tmp_path / "hub")
    train(run_file(here, policy, tmp_path / "run"))
    records = list(RecordReader(tmp_path / "run/trajectories.jsonl"))
    assert [len(record.trajectory.segments) for record in records] == [1] * 4  # none was rewritten
    final = latest(tmp_path / "run")
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (policy, final))
    changed = [
        not torch.equal(a, b) for a, b in zip(before.parameters(), after.parameters(), strict=True)
    ]
    assert any(changed)
    chat = [{"role": "user", "content": "hi <b>"}]
    ours, theirs = (AutoTokenizer.from_pretrained(path) for path in (final, policy))
    given = {"tokenize": True, "add_generation_prompt": True, "return_dict": False}
    assert ours.apply_chat_template(chat, **given) == theirs.apply_chat_template(chat, **given)
    again = load_actor(run_file(here, final, tmp_path / "next").policy)
    assert again.renderer_name == MODELS[name][2]


@pytest.mark.slow
def test_a_folder_is_evaluated_and_says_how_it_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = saved("llama3.1", tmp_path / "hub")
    done = main(
        ["eval", "--env", "foldgym/GuessNumber-v0", "--policy", str(policy), "--episodes", "2"]
    )
    assert done == 0
    shown = capsys.readouterr()
    assert "took llama3, because the vocabulary has <|start_header_id|>" in shown.err


def test_of_a_run_of_trl_the_newest_checkpoint_is_taken(tmp_path: Path) -> None:
    def touch(name: str) -> None:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")

    assert policy_folder(tmp_path) == tmp_path
    touch("checkpoint-9/config.json")
    touch("checkpoint-10/adapter_config.json")
    touch("checkpoint-11/trainer_state.json")  # killed while it was written
    touch("checkpoint-12-old/config.json")
    assert policy_folder(tmp_path) == tmp_path / "checkpoint-10"
    touch("adapter_config.json")  # the run's end
    assert policy_folder(tmp_path) == tmp_path
