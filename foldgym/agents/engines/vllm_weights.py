"""The folder from which a server reads weights: as a checkpoint, renewed file by file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

_CONFIG, _WHOLE, _INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_HEAD, _HEAD_FILE = "lm_head.weight", "model-lm-head.safetensors"
_EMBEDDING = "embed_tokens.weight"


def renew(folder: Path, write: Callable[[Path], None], *, untie: bool) -> None:
    """Writes into `folder`; each file is there completely or not at all, and old ones go.

    With `untie` a head that shares its weights with the embedding becomes a tensor of its own: vLLM
    on a CPU keeps a packed copy of such a head and renews it only if it finds one in the files.
    """
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    write(new)
    if untie:
        _untie(new)
    written = sorted(path.name for path in new.iterdir())
    for name in written:
        os.replace(new / name, folder / name)
    for path in folder.iterdir():
        if path.name not in written:
            path.unlink()
    new.rmdir()


def names_in(folder: Path) -> set[str]:
    """What a written policy calls its weights."""
    index = folder / _INDEX
    if index.is_file():
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
    with safe_open(folder / _WHOLE, "pt") as file:
        return set(file.keys())


def _untie(folder: Path) -> None:
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    if not config.get("tie_word_embeddings", True):
        return
    index = folder / _INDEX
    if index.is_file():
        table = json.loads(index.read_text(encoding="utf-8"))
        places: dict[str, str] = table["weight_map"]
    else:
        table, places = {"metadata": {}}, dict.fromkeys(load_file(folder / _WHOLE), _WHOLE)
    if _HEAD in places:
        return
    name = next(name for name in places if name.endswith(_EMBEDDING))
    save_file(
        {_HEAD: load_file(folder / places[name])[name]},
        folder / _HEAD_FILE,
        metadata={"format": "pt"},
    )
    table["weight_map"] = {**places, _HEAD: _HEAD_FILE}
    index.write_text(json.dumps(table), encoding="utf-8")
    config["tie_word_embeddings"] = False
    (folder / _CONFIG).write_text(json.dumps(config, indent=2), encoding="utf-8")
