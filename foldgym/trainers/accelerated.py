"""Hugging Face accelerate: what `accelerate launch` was told is honoured or refused; its FSDP2."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, cast

import torch
from torch import nn

from foldgym.console import note
from foldgym.errors import ConfigError, MissingExtra

_NO = ("", "false", "0", "no", "off")
_SHARDS = "processes shard the model with FSDP2; launch with --use_fsdp --fsdp_version 2"
_LAYERS = "TRANSFORMER_BASED_WRAP"
# variable, the values that ask for nothing else than what happens, and what to do about others
_LAUNCH = (
    ("ACCELERATE_USE_DEEPSPEED", _NO, _SHARDS),
    ("ACCELERATE_USE_MEGATRON_LM", _NO, _SHARDS),
    ("ACCELERATE_USE_PARALLELISM_CONFIG", _NO, "all processes shard one model; leave it out"),
    ("ACCELERATE_DYNAMO_BACKEND", _NO, "models are not compiled; leave it out"),
    (
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
        ("", "1"),
        "optim.microbatch_tokens and optim.minibatches say what a step is; leave it out",
    ),
)
_FSDP = (
    ("FSDP_VERSION", ("2",), "only FSDP2 is there; set fsdp_version to 2"),
    ("FSDP_SHARDING_STRATEGY", ("", "full_shard", "1"), "set fsdp_reshard_after_forward instead"),
    ("FSDP_OFFLOAD_PARAMS", _NO, "shards stay on their device; set it to false"),
    ("FSDP_FORWARD_PREFETCH", _NO, "FSDP2 does not know it; set it to false"),
    ("FSDP_IGNORED_MODULES", _NO, "all weights are sharded; leave it out"),
    ("FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD", _NO, "set optim.checkpointing in the run file"),
    (
        "FSDP_AUTO_WRAP_POLICY",
        ("", "no_wrap", _LAYERS.lower()),
        f"a head in a shard of its own could not be read in chunks; set {_LAYERS} or NO_WRAP",
    ),
)


def check_launch(dtype: str, device: str, checkpointing: bool) -> None:
    """Whether what `accelerate launch` was told is what the run file says; its options win.

    Raises `ConfigError` for what would have no effect. To be called before a model is loaded:
    of several processes each reads the policy's folder for itself.
    """
    launched = "ACCELERATE_MIXED_PRECISION" in os.environ
    if launched and _told("MASTER_PORT") and not _told("WORLD_SIZE"):
        raise ConfigError(
            "accelerate launch was asked for several processes and started one: on CPUs it needs "
            "--use_fsdp --fsdp_version 2 for that, or use foldgym train --processes"
        )
    _refuse(_LAUNCH)
    precision = _told("ACCELERATE_MIXED_PRECISION")
    if precision not in _NO and (precision, dtype) != ("bf16", "bfloat16"):
        raise ConfigError(
            f'accelerate launch: mixed_precision {precision}, and policy.dtype is "{dtype}": the '
            f'run file decides; set policy.dtype (bf16 is "bfloat16"), or mixed_precision to no'
        )
    if _told("ACCELERATE_USE_CPU") not in _NO and device != "cpu":
        raise ConfigError(f'accelerate launch: --cpu, and policy.device is "{device}"')
    if not _shards():
        return
    _refuse(_FSDP)
    if _told("FSDP_ACTIVATION_CHECKPOINTING") not in _NO and not checkpointing:
        raise ConfigError(
            "accelerate launch: fsdp_activation_checkpointing: set optim.checkpointing = true"
        )
    left = ["fsdp_state_dict_type"] * (_told("FSDP_STATE_DICT_TYPE") not in ("", "full_state_dict"))
    if _told("FSDP_CPU_RAM_EFFICIENT_LOADING") not in _NO:
        left.append("fsdp_cpu_ram_efficient_loading")
        # transformers would leave the weights of other ranks empty
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    if left and os.environ.get("RANK", "0") == "0":
        note(
            f"accelerate launch: {' and '.join(left)} have no effect: every process reads the "
            "whole policy, and checkpoints hold whole tensors"
        )


def accelerator(cuda: bool, patience: timedelta) -> Any:
    """Joins the processes of this run (NCCL or gloo); one may wait `patience` for another.

    Raises `ConfigError` if they cannot meet, `MissingExtra` without accelerate.
    """
    try:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs
    except ModuleNotFoundError:
        raise MissingExtra("a run in several processes", "train") from None
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    group = InitProcessGroupKwargs(backend=backend, timeout=patience)
    try:
        # autocast is none of ours: computing in bf16 is FSDP's, over shards in fp32
        return Accelerator(cpu=not cuda, mixed_precision="no", kwargs_handlers=[group])
    except (RuntimeError, ValueError) as problem:
        where = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        first = str(problem).strip().partition("\n")[0]
        raise ConfigError(
            f"rank {os.environ.get('RANK', '?')} cannot meet the other processes at {where}: "
            f"{first}; start them with --processes, torchrun or accelerate launch"
        ) from problem


def shard(accelerator: Any, model: nn.Module, layers: Sequence[nn.Module]) -> None:
    """Spreads the parameters of a model over all ranks, by default to be gathered layer by layer.

    `accelerate launch` may say otherwise (`fsdp_reshard_after_forward`, `fsdp_auto_wrap_policy`).
    What is narrower than fp32 computes as it did over shards in fp32: those are its masters.
    Gradients are added, not averaged. Raises `ConfigError` for layers that are not there.
    """
    from accelerate import FullyShardedDataParallelPlugin, ParallelismConfig
    from accelerate.utils import fsdp2_prepare_model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy

    wrapped = _wrapped(layers)
    first = next(model.parameters())
    precision = MixedPrecisionPolicy()
    if torch.finfo(first.dtype).bits < 32:
        precision = MixedPrecisionPolicy(param_dtype=first.dtype, reduce_dtype=torch.float32)
        for p in model.parameters():
            p.data = p.data.to(torch.float32)
    all_at_once = _shards() and _told("FSDP_AUTO_WRAP_POLICY") == "no_wrap"
    state = accelerator.state
    # Accelerator.prepare would do this on GPUs only (AcceleratorState looks for FSDP under types
    # such as MULTI_GPU, not MULTI_CPU) and with an optimiser; what it calls for FSDP2 runs on both
    size = accelerator.num_processes
    state.parallelism_config = ParallelismConfig(dp_shard_size=size)
    names = tuple(state.parallelism_config.fsdp_dim_names)
    state.device_mesh = init_device_mesh(first.device.type, (size,), mesh_dim_names=names)
    state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        mixed_precision_policy=precision,
        auto_wrap_policy="no_wrap" if all_at_once else "transformer_based_wrap",
        transformer_cls_names_to_wrap=wrapped,
        cpu_ram_efficient_loading=False,
        cpu_offload=False,
    )
    fsdp2_prepare_model(accelerator, model)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other


def spread_again(model: nn.Module | None) -> None:
    """Drops what a forward pass gathered and kept for the next one."""
    for module in [] if model is None else model.modules():
        if hasattr(module, "reshard"):
            cast("Any", module).reshard()


def _wrapped(layers: Sequence[nn.Module]) -> list[str]:
    """Names of the classes that are gathered one by one."""
    names = sorted({type(layer).__name__ for layer in layers})
    asked = os.environ.get("FSDP_TRANSFORMER_CLS_TO_WRAP", "") if _shards() else ""
    asked = [name.strip() for name in asked.split(",") if name.strip()]
    if not set(asked) <= set(names):
        raise ConfigError(
            f"accelerate launch: fsdp_transformer_layer_cls_to_wrap {','.join(asked)}: "
            f"the layers of this model are {', '.join(names)}"
        )
    return asked or names


def _refuse(table: Sequence[tuple[str, Sequence[str], str]]) -> None:
    for name, fine, mend in table:
        if _told(name) not in fine:
            raise ConfigError(f"accelerate launch: {name}={os.environ.get(name, '')}: {mend}")


def _shards() -> bool:
    return _told("ACCELERATE_USE_FSDP") not in _NO


def _told(name: str) -> str:
    return os.environ.get(name, "").lower()
