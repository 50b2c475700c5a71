"""The adapters of a run: put into its base, and found again by a resumed run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foldgym.config import LoraSection
from foldgym.errors import CheckpointError, MissingExtra


def adapt(model: Any, section: LoraSection, seed: int, base: Path, found: Path | None) -> None:
    """Puts adapters into the model of the folder `base`: new ones, or those of a checkpoint.

    Raises `ConfigError` for targets that are not there, `CheckpointError` for what does not fit.
    """
    lora = _lora()
    options = {**section.model_dump(exclude={"rank"}), "base": base}
    lora.attach(model, lora.config_of(section.rank, **options), seed)
    if found is not None:
        lora.read_adapter(found / lora.ADAPTER, model)


def base_of(found: Path) -> Path:
    """The folder of the base of a checkpoint's adapters. Raises `CheckpointError`."""
    lora = _lora()
    sheet = lora.sheet_of(found / lora.ADAPTER)
    if sheet is None:
        raise CheckpointError(f"checkpoint {found} was trained without adapters; set lora.rank = 0")
    base = Path(sheet.base_model_name_or_path)
    if not base.is_dir() or lora.revision_of(base) != sheet.revision:
        state = "is not the model it was" if base.is_dir() else "is gone"
        raise CheckpointError(
            f"checkpoint {found} holds adapters of {base}, which {state}; put it back, or start a "
            "new run from the checkpoint, whose own weights are merged"
        )
    return base


def unadapted(found: Path) -> Path:
    """The same folder. Raises `CheckpointError` if its run trained adapters."""
    if (found / "adapter").is_dir():
        raise CheckpointError(f"checkpoint {found} holds adapters; leave lora.rank as it was")
    return found


def _lora() -> Any:
    try:
        from foldgym.agents.engines import lora  # imports peft, which takes its time
    except ModuleNotFoundError:
        raise MissingExtra("[lora]", "train") from None
    return lora
