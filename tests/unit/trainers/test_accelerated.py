"""What `accelerate launch` was told is done or refused, never passed over."""

from __future__ import annotations

import os

import pytest
from torch import nn

from foldgym.cli.main import main
from foldgym.errors import ConfigError
from foldgym.trainers.accelerated import check_launch, shard

# what `accelerate launch --use_fsdp --fsdp_version 2 --num_processes 2` (1.15) sets
LAUNCHED = {
    "ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_SHARDING_STRATEGY": "FULL_SHARD",
    "FSDP_RESHARD_AFTER_FORWARD": "true", "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_MIN_NUM_PARAMS": "100000000", "FSDP_FORWARD_PREFETCH": "false",
    "FSDP_USE_ORIG_PARAMS": "true", "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "FSDP_SYNC_MODULE_STATES": "true", "FSDP_ACTIVATION_CHECKPOINTING": "false",
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": "false", "RANK": "0", "WORLD_SIZE": "2",
    "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500",
}  # fmt: skip


@pytest.fixture
def launch(monkeypatch):
    """The same and more in the environment."""

    def told(**more: str) -> None:
        for name, value in {**LAUNCHED, **more}.items():
            monkeypatch.setenv(name, value)

    return told


def test_without_a_launcher_nothing_is_said(capsys):
    check_launch("float32", "cpu", False)
    assert capsys.readouterr().err == ""


def test_every_process_reads_the_whole_policy(launch, capsys):
    launch(FSDP_STATE_DICT_TYPE="SHARDED_STATE_DICT")
    check_launch("float32", "cpu", False)
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"
    said = capsys.readouterr().err
    assert "fsdp_state_dict_type and fsdp_cpu_ram_efficient_loading have no effect" in said


def test_other_ranks_say_nothing(launch, capsys):
    launch(RANK="1")
    check_launch("float32", "cpu", False)
    assert os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] == "false"
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "shard the model with FSDP2"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "shard the model with FSDP2"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "leave it out"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "not compiled"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}, "optim.minibatches"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, 'policy.dtype is "float32"'),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "mixed_precision fp16"),
        ({"FSDP_VERSION": "1"}, "FSDP_VERSION=1: only FSDP2"),
        ({"FSDP_SHARDING_STRATEGY": "SHARD_GRAD_OP"}, "fsdp_reshard_after_forward"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "stay on their device"),
        ({"FSDP_FORWARD_PREFETCH": "true"}, "FSDP2 does not know it"),
        ({"FSDP_IGNORED_MODULES": "lm_head"}, "all weights are sharded"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, "optim.checkpointing = true"),
        ({"FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": "true"}, "optim.checkpointing"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "TRANSFORMER_BASED_WRAP or NO_WRAP"),
        ({"WORLD_SIZE": ""}, "asked for several processes and started one"),
    ],
)
def test_what_would_have_no_effect_is_refused(launch, told, said):
    launch(**told)
    with pytest.raises(ConfigError, match=said):
        check_launch("float32", "cpu", False)


def test_what_the_run_file_says_too_is_fine(launch):
    launch(ACCELERATE_MIXED_PRECISION="bf16", FSDP_ACTIVATION_CHECKPOINTING="true")
    check_launch("bfloat16", "cpu", True)


def test_a_cpu_is_not_a_gpu(launch):
    launch(ACCELERATE_USE_CPU="True")
    check_launch("float32", "cpu", False)
    with pytest.raises(ConfigError, match="--cpu, and policy"):
        check_launch("float32", "cuda", False)


def test_without_fsdp_its_options_mean_nothing(launch):
    launch(ACCELERATE_USE_FSDP="false", FSDP_OFFLOAD_PARAMS="true")
    check_launch("float32", "cpu", False)


def test_layers_that_are_not_there_are_refused(launch):
    launch(FSDP_TRANSFORMER_CLS_TO_WRAP="LlamaDecoderLayer")
    model = nn.Sequential(nn.Linear(2, 2), nn.GELU())
    with pytest.raises(ConfigError, match="LlamaDecoderLayer: the layers of this model are Linear"):
        shard(None, model, [model[0]])


def test_cloning_in_several_processes_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    file = tmp_path / "sft.toml"
    file.write_text(f'output = "{tmp_path}/out"\n[[envs]]\nname = "foldgym/GuessNumber-v0"\n')
    assert main(["sft", str(file)]) == 2
    assert "clones in one process, and a launcher started 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
