"""Checkpoints: a Hugging Face folder plus run state, there completely or not at all.

    checkpoints/step-000040/
        config.json, model.safetensors, ...   what `write_model` writes
        optimizer.pt                          tensors of the learner
        state.json                            step, sampler, file offsets, ...
        manifest.json                         size and digest of every other file

A checkpoint is written beside its place, synced, and renamed into it; older ones go afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from foldgym.agents.engines.models import fingerprint, sync
from foldgym.errors import CheckpointError, DataError
from foldgym.records import dumps, loads
from foldgym.types import Json

FORMAT = 1
_MANIFEST, _STATE, _TENSORS = "manifest.json", "state.json", "optimizer.pt"


class NoCheckpoint(CheckpointError):
    """There is none yet, which is something else than a damaged one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was saved besides the model: `state` is plain JSON, `tensors` what torch saved."""

    path: Path
    step: int
    state: Mapping[str, Json]
    tensors: Mapping[str, Any]


def save(
    root: Path,
    step: int,
    write_model: Callable[[Path], None],
    state: Mapping[str, Json],
    tensors: Mapping[str, Any],
    keep: int = 0,
) -> Path:
    """Writes `root/step-NNNNNN` and then removes all but the newest `keep` (0 keeps all).

    Raises `DataError` if anything cannot be written (a full disk, say); every earlier checkpoint
    is then still there, and nothing half-written is.
    """
    final = root / f"step-{step:06d}"
    half = root / f".{final.name}.{os.getpid()}"
    old = root / f".{final.name}.old"
    try:
        with _disk(final):
            root.mkdir(parents=True, exist_ok=True)
            _sweep(root)
            half.mkdir()
            write_model(half)
            with (half / _TENSORS).open("wb") as file:
                torch.save(dict(tensors), file)
            _write_json(half / _STATE, {"step": step, **state})
            files = {
                str(path.relative_to(half)): fingerprint(path)
                for path in sorted(half.rglob("*"))
                if path.is_file()
            }
            _write_json(half / _MANIFEST, {"format": FORMAT, "step": step, "files": files})
            for path in (*half.rglob("*"), half):
                sync(path)
            if final.exists():
                final.rename(old)
            half.rename(final)
            sync(root)
    except BaseException:
        if old.exists() and not final.exists():
            old.rename(final)
        shutil.rmtree(half, ignore_errors=True)
        raise
    for gone in (old, *(_steps(root)[:-keep] if keep else ())):
        shutil.rmtree(gone, ignore_errors=True)
    return final


def latest(root: Path) -> Path:
    """The newest checkpoint of a run folder or of its `checkpoints` folder.

    Raises `NoCheckpoint`.
    """
    for place in (root / "checkpoints", root):
        found = _steps(place)
        if found:
            return found[-1]
    raise NoCheckpoint(f"no checkpoint in {root}; a run writes them to checkpoints/step-NNNNNN")


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint after checking every file of it; the model itself is the engine's to load.

    Raises `CheckpointError` that names the file that is missing or differs.
    """
    verify(path)
    try:
        state = loads((path / _STATE).read_bytes())
        tensors = torch.load(path / _TENSORS, map_location="cpu", weights_only=True)
    except Exception as problem:
        raise CheckpointError(f"checkpoint {path} cannot be read: {problem}") from problem
    return Checkpoint(path, state["step"], state, tensors)


def verify(path: Path) -> dict[str, Json]:
    """The manifest, once every file has the size and digest it says. Raises `CheckpointError`."""
    mend = "remove this folder to resume from the checkpoint before it"
    try:
        manifest = json.loads((path / _MANIFEST).read_text("utf-8"))
        files, form = manifest["files"], manifest["format"]
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is not a checkpoint of a run: it has no {_MANIFEST}"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"checkpoint {path}: {_MANIFEST} is damaged; {mend}") from None
    if form != FORMAT:
        raise CheckpointError(f"checkpoint {path} has format {form}, this foldgym reads {FORMAT}")
    for name, (size, digest) in files.items():
        file = path / name
        if not file.is_file():
            raise CheckpointError(f"checkpoint {path}: {name} is missing; {mend}")
        got = fingerprint(file)
        if got != [size, digest]:
            size_text = f"{got[0]} bytes instead of {size}" if got[0] != size else "changed content"
            raise CheckpointError(f"checkpoint {path}: {name} is damaged ({size_text}); {mend}")
    return manifest


@contextmanager
def _disk(what: Path) -> Generator[None]:
    """Turns every way in which a write fails into one `DataError`."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as problem:
        reason: BaseException | None = problem
        while isinstance(reason, RuntimeError):  # torch hides the system's error behind its own
            reason = reason.__context__
        if reason is None:
            raise
        text = reason.strerror if isinstance(reason, OSError) else str(reason)
        raise DataError(
            f"cannot write checkpoint {what}: {text}; earlier checkpoints are untouched. "
            "Make room and resume"
        ) from problem


def _steps(root: Path) -> list[Path]:
    """Checkpoint folders, oldest first."""
    found = {p: p.name.removeprefix("step-") for p in root.glob("step-*") if p.is_dir()}
    return sorted((p for p, step in found.items() if step.isdigit()), key=lambda p: int(found[p]))


def _sweep(root: Path) -> None:
    """Removes what a killed run left half-written."""
    for left in root.glob(".step-*"):
        shutil.rmtree(left, ignore_errors=True)


def _write_json(path: Path, value: Json) -> None:
    path.write_text(dumps(value) + "\n", encoding="utf-8")  # also numbers that JSON lacks
