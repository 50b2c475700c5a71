"""Makes models, and keeps a policy on disk: a Hugging Face folder plus `foldgym.json`.

policy/
    config.json, model.safetensors, ...       as transformers writes them
    tokenizer.json, tokenizer_config.json
    foldgym.json                              the renderer, and size and digest of every file
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.utils import logging

from foldgym.agents.engines import vision
from foldgym.agents.engines.templates import folder_settings, renderer_in
from foldgym.agents.engines.tokenizer import Tokenizer, load_tokenizer
from foldgym.errors import CheckpointError, DataError, UnknownName
from foldgym.types import Json

FAMILIES = ("llama", "qwen3")
FORMAT = 1
_SHEET = "foldgym.json"


@dataclass(frozen=True, slots=True)
class SavedPolicy:
    """What `load_policy` found. `renderer` is empty for a folder that foldgym did not write."""

    model: Any
    tokenizer: Tokenizer
    renderer: str = ""
    metadata: Mapping[str, Json] = field(default_factory=dict[str, Json])


def init_model(
    family: str = "qwen3",
    *,
    vocab_size: int,
    hidden: int = 128,
    layers: int = 2,
    heads: int = 4,
    kv_heads: int | None = None,
    head_dim: int | None = None,
    mlp: int | None = None,
    rope_theta: float = 100.0,
    window: int = 0,
    tie: bool = True,
    max_positions: int = 1024,
    seed: int = 0,
    pad_id: int | None = None,
    stop_id: int | None = None,
) -> Any:
    """A model of random fp32 weights, the same for the same `seed`; no global generator moves.

    Left out: `kv_heads` is `heads`, `head_dim` is `hidden / heads`, `mlp` is 3 times `hidden`.
    With vocab_size=420 the defaults have 480,512 parameters. A low `rope_theta` suits contexts
    of some hundred tokens. With `window` the first layer sees only that many tokens: it then finds
    the token before at once, and copying names (an induction head) is learnt several times sooner
    (docs/log.md). `pad_id` and `stop_id` only go into the config, for other programs.
    """
    if family not in FAMILIES:
        raise UnknownName("model family", family, FAMILIES)
    local = ["sliding_attention", *["full_attention"] * (layers - 1)]
    sees = {"use_sliding_window": True, "sliding_window": window, "layer_types": local}
    config = AutoConfig.for_model(
        family,
        vocab_size=vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads or heads,
        head_dim=head_dim or hidden // heads,
        intermediate_size=mlp or 3 * hidden,
        rope_theta=rope_theta,
        tie_word_embeddings=tie,
        max_position_embeddings=max_positions,
        pad_token_id=pad_id,
        bos_token_id=None,
        eos_token_id=stop_id,
        **(sees if window else {}),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def write_policy(
    folder: Path,
    model: Any,
    tokenizer: Tokenizer,
    renderer: str,
    metadata: Mapping[str, Json] | None = None,
) -> None:
    """Write a policy's files into `folder`, which should be new; `save_policy` is atomic.

    Of a model with adapters the merged weights are written, and the adapters beside them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if getattr(model, "peft_config", None):
        from foldgym.agents.engines import lora  # imports peft, which takes its time

        lora.write_adapter(folder / lora.ADAPTER, model)
        model = lora.merged(model)
    with _quiet():
        model.save_pretrained(folder)
    tokenizer.save(folder, folder_settings(renderer, tokenizer))
    form = vision.format_of(model)
    if form is not None:
        vision.write_format(folder, form)
    files = {path.name: fingerprint(path) for path in sorted(folder.iterdir()) if path.is_file()}
    sheet = {
        "format": FORMAT,
        "renderer": renderer,
        "metadata": dict(metadata or {}),
        "files": files,
    }
    (folder / _SHEET).write_text(json.dumps(sheet, indent=2) + "\n", encoding="utf-8")


def save_policy(
    path: str | Path,
    model: Any,
    tokenizer: Tokenizer,
    renderer: str,
    metadata: Mapping[str, Json] | None = None,
) -> Path:
    """Write a policy folder, there completely or not at all; what stood there is replaced.

    Raises `DataError` if it cannot be written (a full disk); the old folder is then untouched.
    """
    final = Path(path).absolute()
    half, old = (final.with_name(f".{final.name}.{kind}") for kind in ("half", "old"))
    try:
        _restore(final)
        shutil.rmtree(half, ignore_errors=True)
        write_policy(half, model, tokenizer, renderer, metadata)
        for place in (*half.rglob("*"), half):
            sync(place)
        if final.exists():
            final.rename(old)
        half.rename(final)
        sync(final.parent)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(half, ignore_errors=True)
        raise DataError(
            f"could not write the policy {final}: {_line(error)}; make room or choose another place"
        ) from error
    shutil.rmtree(old, ignore_errors=True)
    return final


def load_policy(
    path: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> SavedPolicy:
    """Read a policy folder, foldgym's or any Hugging Face folder with a fast tokenizer.

    Weights get `dtype`, by default what the config says; tables such as those of rotary positions
    keep theirs, as casting the whole model would not. Nothing is ever downloaded. Raises
    `CheckpointError`, one line that names what is wrong. An adapter folder (peft) is merged into
    the base that it names.
    """
    folder = Path(path).absolute()
    _restore(folder)
    if not (folder / "config.json").is_file():
        if (folder / "adapter_config.json").is_file():
            return _load_adapted(folder, device, dtype)
        why = "holds no config.json" if folder.is_dir() else "is no folder"
        raise CheckpointError(
            f"{path} {why}; give a policy folder, such as runs/NAME/checkpoints/step-000100"
        )
    sheet = _read_sheet(folder)
    tokenizer = load_tokenizer(folder)
    try:
        loader = _loader(folder)
        with _quiet():
            model, found = loader.from_pretrained(
                folder, dtype=dtype or "auto", local_files_only=True, output_loading_info=True
            )
    except Exception as error:  # transformers raises many kinds for a damaged folder
        raise CheckpointError(f"the model in {path} cannot be read: {_line(error)}") from error
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise CheckpointError(
            f"the model in {path} lacks {len(missing)} weights, {missing[0]} among them; "
            "it is torn or of another kind"
        )
    if tokenizer.vocab_size > model.config.get_text_config().vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} ids, the model only "
            f"{model.config.get_text_config().vocab_size}; they do not belong together"
        )
    form = vision.read_format(folder, model.config)
    vision.check_ids(tokenizer.controls(), vision.give_sight(model, form))
    model = model.to(device) if device else model
    renderer = sheet.get("renderer", "") or renderer_in(tokenizer.template)
    return SavedPolicy(model, tokenizer, renderer, sheet.get("metadata", {}))


def _load_adapted(
    folder: Path, device: torch.device | str | None, dtype: torch.dtype | None
) -> SavedPolicy:
    from foldgym.agents.engines import lora

    config: Any = lora.sheet_of(folder)
    base = Path(config.base_model_name_or_path or "")
    if not config.base_model_name_or_path or not (base / "config.json").is_file():
        raise CheckpointError(
            f"the adapter in {folder} belongs to {config.base_model_name_or_path!r}, which is no "
            "model folder here; set base_model_name_or_path in its adapter_config.json"
        )
    saved = load_policy(base, device, dtype)
    lora.attach(saved.model, config)
    lora.read_adapter(folder, saved.model)
    return replace(saved, model=lora.merged(saved.model))


def _loader(folder: Path) -> Any:
    """What loads a folder's kind of model."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    sees = getattr(config, "vision_config", None) is not None
    return AutoModelForImageTextToText if sees else AutoModelForCausalLM


def _read_sheet(folder: Path) -> dict[str, Json]:
    """`foldgym.json`, once every file is as it says; empty if there is none."""
    try:
        text = (folder / _SHEET).read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        sheet = json.loads(text)
        files, form = sheet["files"], sheet["format"]
    except (ValueError, KeyError, TypeError):
        raise CheckpointError(f"{folder / _SHEET} is damaged; use another checkpoint") from None
    if form != FORMAT:
        raise CheckpointError(f"{folder} has format {form}, this foldgym reads format {FORMAT}")
    for name, expected in files.items():
        place = folder / name
        if not place.is_file():
            raise CheckpointError(f"{folder}: {name} is missing; use another checkpoint")
        got = fingerprint(place)
        if got != expected:
            what = (
                f"{got[0]} bytes, not {expected[0]}" if got[0] != expected[0] else "other content"
            )
            raise CheckpointError(f"{folder}: {name} is damaged ({what}); use another checkpoint")
    return sheet


def _restore(final: Path) -> None:
    """Put back what a killed `save_policy` had moved aside."""
    old = final.with_name(f".{final.name}.old")
    if old.is_dir() and not final.exists():
        old.rename(final)


@contextmanager
def _quiet() -> Generator[None]:
    """No progress bars from transformers."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _line(error: BaseException) -> str:
    """The first line of what an error says."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.strip() or type(error).__name__).splitlines()[0]


def fingerprint(path: Path) -> list[int | str]:
    """Size in bytes and digest of a file."""
    digest = blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return [path.stat().st_size, digest.hexdigest()]


def sync(path: Path) -> None:
    """Has the system write a file or folder to the disk now."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
