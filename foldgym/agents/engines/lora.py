"""Low-rank adapters (LoRA, peft) inside a model: attached, switched off, merged on a copy, saved.

The model stays of its own class and samples, reads and differentiates as before; only
`model.state_dict()` and saving know of two kinds of weights. An adapter folder is what peft writes:
adapter_config.json (its `revision` is the digest of the base's weights) and
adapter_model.safetensors.
"""

from __future__ import annotations

import copy
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from foldgym.errors import CheckpointError, ConfigError

ADAPTER = "adapter"  # the folder beside merged weights
_NAME, _CONFIG, _WEIGHTS = "default", "adapter_config.json", "adapter_model.safetensors"
_ALL = "all-linear"  # peft's name for every linear layer but the head


def config_of(
    rank: int,
    *,
    alpha: float = 32.0,
    targets: Sequence[str] = (),
    rslora: bool = False,
    base: Path | None = None,
) -> LoraConfig:
    """What `attach` wants; with the folder `base`, adapter folders say what they belong to."""
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # pyright: ignore[reportArgumentType]: peft multiplies by it, no more
        target_modules=list(targets) or _ALL,
        use_rslora=rslora,
        base_model_name_or_path=str(base) if base else None,
        revision=revision_of(base) if base else None,
        task_type="CAUSAL_LM",
    )


def attach(model: Any, config: LoraConfig, seed: int = 0) -> None:
    """Freezes `model` and puts adapters of random A and zero B into it, at first without effect.

    Targets are names (or ends of names) of linear layers, by default all but the head. Adapters
    are fp32 whatever the base is, and equal for equal `seed`; no global generator moves. Raises
    `ConfigError` for targets that are not there, or that hold the output head, also by sharing its
    weights.
    """
    head = model.get_output_embeddings()
    linear = {n.split(".")[-1] for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    known = ", ".join(sorted(linear - {n for n, m in model.named_modules() if m is head}))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            base = config.base_model_name_or_path
            model.add_adapter(config, _NAME)  # which writes its own idea of the base over ours
            model.peft_config[_NAME].base_model_name_or_path = base
    except ValueError as problem:
        raise ConfigError(
            f"lora.targets: {_line(problem)}; linear layers of this model: {known}"
        ) from None
    if model.get_output_embeddings() is not head:
        raise ConfigError(f"lora.targets: the output head is none; choose among {known}")
    for name, layer in layers(model).items():
        if layer.get_base_layer().weight is getattr(
            head, "weight", None
        ):  # which merging would adapt as well
            raise ConfigError(
                f"lora.targets: {name} shares its weights with the output head, which no adapter "
                f"reaches; choose among {known}"
            )
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.to(torch.promote_types(p.dtype, torch.float32))


def layers(model: nn.Module) -> dict[str, Any]:
    """The adapted layers by name; none if there are no adapters."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LoraLayer)}


@contextmanager
def adapters_off(model: nn.Module) -> Generator[None]:
    """Inside, the model is what it was before adapters; nobody may train or sample meanwhile."""
    adapted = layers(model).values()
    for layer in adapted:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in adapted:
            layer.enable_adapters(True)


@torch.no_grad()
def full_state(model: Any) -> dict[str, Tensor]:
    """Weights by the names they have without adapters, these merged into them.

    Layers without an adapter share their memory with the model.
    """
    state: dict[str, Tensor] = {
        name.replace(".base_layer.", "."): value
        for name, value in model.state_dict().items()
        if ".lora_" not in name
    }
    for name, layer in layers(model).items():
        weight = state[f"{name}.weight"]
        merged = weight.to(torch.promote_types(weight.dtype, torch.float32))
        state[f"{name}.weight"] = (merged + layer.get_delta_weight(_NAME)).to(weight.dtype)
    return state


@torch.no_grad()
def merged(model: Any) -> Any:
    """A model without adapters that computes the same; the adapted one is left as it is.

    What no adapter touches is shared, so do not train either while the other is in use.
    """
    with torch.device("meta"):
        plain = type(model)(copy.deepcopy(model.config))
    plain.load_state_dict(full_state(model), assign=True)
    for name, table in model.named_buffers():  # those that no state dict holds
        place, _, last = name.rpartition(".")
        plain.get_submodule(place)._buffers[last] = table
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain.requires_grad_(False).eval()


def write_adapter(folder: Path, model: Any) -> None:
    """Writes the adapters of a model as peft would, to be read by `read_adapter` or peft."""
    folder.mkdir(parents=True, exist_ok=True)
    model.peft_config[_NAME].save_pretrained(folder)
    state: dict[str, Tensor] = get_peft_model_state_dict(model, adapter_name=_NAME)
    named = {f"base_model.model.{name}": value.contiguous() for name, value in state.items()}
    save_file(named, folder / _WEIGHTS, metadata={"format": "pt"})


def read_adapter(folder: Path, model: Any) -> None:
    """Fills attached adapters with those of a folder, bit for bit. Raises `CheckpointError`."""
    try:
        named = load_file(folder / _WEIGHTS)
        state = {name.removeprefix("base_model.model."): value for name, value in named.items()}
        result: Any = set_peft_model_state_dict(model, state, adapter_name=_NAME)
        unknown = result.unexpected_keys if result is not None else ()
    except Exception as problem:  # safetensors and torch raise many kinds
        raise CheckpointError(f"the adapter in {folder} cannot be read: {_line(problem)}") from None
    ours = set(get_peft_model_state_dict(model, adapter_name=_NAME))
    if unknown or ours != set(state):
        odd = sorted(ours.symmetric_difference(state))[:1]
        raise CheckpointError(
            f"the adapter in {folder} is for other layers than this run adapts: {odd[0]}"
            if odd
            else f"the adapter in {folder} does not fit: {unknown}"
        )


def sheet_of(folder: Path) -> LoraConfig | None:
    """The configuration of an adapter folder, foldgym's or peft's; None if the folder is none.

    Raises `CheckpointError` if it cannot be read, or says more than low-rank factors.
    """
    if not (folder / _CONFIG).is_file():
        return None
    try:
        config: Any = LoraConfig.from_pretrained(str(folder))
    except Exception as problem:
        raise CheckpointError(f"{folder / _CONFIG} cannot be read: {_line(problem)}") from None
    more = [name for name in ("use_dora", "modules_to_save") if getattr(config, name, None)]
    more += ["bias"] if config.bias != "none" else []
    if more:
        raise CheckpointError(
            f"the adapter in {folder} has {more[0]}, which is more than low-rank factors; merge it "
            "with peft first"
        )
    return config


def revision_of(folder: Path) -> str:
    """A digest of the weights in a model folder; of an adapter folder, of its base's too."""
    digest = blake2b(digest_size=16)
    sheet = None if (folder / "config.json").is_file() else sheet_of(folder)
    if sheet is not None and sheet.base_model_name_or_path:
        digest.update(revision_of(Path(sheet.base_model_name_or_path)).encode())
    for path in sorted((*folder.glob("*.safetensors"), *folder.glob("*.bin"))):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _line(problem: BaseException) -> str:
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]
