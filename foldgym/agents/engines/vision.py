"""Models that see: what they are fed for ids with pictures, and a decoder that feeds it.

Sampler and learner feed a model through `feed` alone, so both see the same pictures at the same
rotary positions: text counts on by one, the placeholders of a picture by their row and column, and
what follows counts on from the larger side. The families are Qwen2-VL, Qwen2.5-VL and Qwen3-VL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foldgym.agents.engines.decoding import Row, RowSampler
from foldgym.agents.pictures import PictureFormat, runs
from foldgym.errors import CheckpointError, ConfigError, EngineError
from foldgym.types import Ids, Picture

FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
_SHEET = "preprocessor_config.json"
_ATTRIBUTE = "foldgym_pictures"


def format_of(model: Any) -> PictureFormat | None:
    """How a model takes pictures; None for one that does not see."""
    return getattr(model, _ATTRIBUTE, None)


def give_sight(model: Any, form: PictureFormat | None = None) -> PictureFormat | None:
    """Notes on a model how it takes pictures, as given or as its config says; returns the note.

    None, and nothing noted, for a model without a vision tower. Raises `CheckpointError` for one
    of a family that is not known here.
    """
    if form is None:
        form = _from_config(model.config)
    if form is not None:
        setattr(model, _ATTRIBUTE, form)
    return form


def check_ids(controls: Mapping[str, int], form: PictureFormat | None) -> None:
    """Raises `CheckpointError` if text could become an id that stands for a picture."""
    if form is None:
        return
    for name in ("start", "pad", "end"):
        if getattr(form, name) not in controls.values():
            raise CheckpointError(
                f"id {getattr(form, name)} stands for a picture ({name}), but is no control token "
                "of the tokenizer: the model and the tokenizer do not belong together"
            )


def read_format(folder: Path, config: Any) -> PictureFormat | None:
    """The format of a model folder: its config, and its preprocessor's sizes and colours."""
    form = _from_config(config)
    if form is None or not (folder / _SHEET).is_file():
        return form
    try:
        table: Mapping[str, Any] = json.loads((folder / _SHEET).read_text(encoding="utf-8"))
        size: Mapping[str, Any] = table.get("size") or {}
        found = {
            "patch": table.get("patch_size"),
            "merge": table.get("merge_size"),
            "frames": table.get("temporal_patch_size"),
            "least": table.get("min_pixels") or size.get("shortest_edge"),
            "most": table.get("max_pixels") or size.get("longest_edge"),
            "mean": tuple(table.get("image_mean") or ()),
            "std": tuple(table.get("image_std") or ()),
        }
        return PictureFormat(**{**asdict(form), **{k: v for k, v in found.items() if v}})
    except (OSError, ValueError, TypeError, AttributeError) as problem:
        raise CheckpointError(f"{folder / _SHEET} cannot be read: {problem}") from None


def write_format(folder: Path, form: PictureFormat) -> None:
    """`preprocessor_config.json`, as transformers reads it."""
    table = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": form.patch,
        "merge_size": form.merge,
        "temporal_patch_size": form.frames,
        "size": {"shortest_edge": form.least, "longest_edge": form.most},
        "min_pixels": form.least,
        "max_pixels": form.most,
        "image_mean": list(form.mean),
        "image_std": list(form.std),
    }
    (folder / _SHEET).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def _from_config(config: Any) -> PictureFormat | None:
    vision = getattr(config, "vision_config", None)
    if vision is None:
        return None
    if config.model_type not in FAMILIES:
        raise CheckpointError(
            f"a {config.model_type} takes pictures in a way that is not known here; known: "
            f"{', '.join(FAMILIES)}"
        )
    form = PictureFormat(
        start=config.vision_start_token_id,
        pad=config.image_token_id,
        end=config.vision_end_token_id,
        video=config.video_token_id,
        patch=vision.patch_size,
        merge=vision.spatial_merge_size,
        frames=vision.temporal_patch_size,
    )
    half = (0.5, 0.5, 0.5)
    return replace(form, mean=half, std=half) if config.model_type == "qwen3_vl" else form


# ---------------------------------------------------------------- feeding


@dataclass(frozen=True, slots=True)
class Fed:
    """Inputs of a forward pass, and the position that comes next in each row."""

    inputs: dict[str, Tensor]
    next_B: tuple[int, ...]


def feed(
    rows: Sequence[tuple[Sequence[int], Sequence[Picture]]], form: PictureFormat, device: Any
) -> Fed:
    """What a model is fed for rows of ids with their pictures, padded on the right.

    `input_ids`, `attention_mask` [B, T], `position_ids` [3, B, T], and where there is a picture
    `pixel_values` and `image_grid_thw` of all of them, row by row. A placeholder id that belongs
    to no picture, because a policy sampled it, is shown as a start id.
    """
    width = max(len(ids) for ids, _ in rows)
    ids_BT = np.full((len(rows), width), form.start, dtype=np.int64)
    mask_BT = np.zeros((len(rows), width), dtype=np.int64)
    position_3BT = np.zeros((3, len(rows), width), dtype=np.int64)
    grids: list[tuple[int, int, int]] = []
    patches: list[Any] = []
    following: list[int] = []
    for row, (ids, pictures) in enumerate(rows):
        shown_T = np.asarray(ids, dtype=np.int64).copy()
        shown_T[(shown_T == form.pad) | (shown_T == form.video)] = form.start
        sizes = [form.grid(picture.image) for picture in pictures]
        for picture, (tall, wide) in zip(pictures, sizes, strict=True):
            end = picture.at + tall * wide // form.merge**2
            if end > len(ids) or any(ids[at] != form.pad for at in range(picture.at, end)):
                raise EngineError(f"no picture fits the placeholders at {picture.at}")
            shown_T[picture.at : end] = form.pad
            grids.append((1, tall, wide))
            patches.append(form.patches(picture.image))
        places = [(picture.at, size) for picture, size in zip(pictures, sizes, strict=True)]
        position_3T, after = positions(len(ids), places, form.merge)
        ids_BT[row, : len(ids)], mask_BT[row, : len(ids)] = shown_T, 1
        position_3BT[:, row, : len(ids)] = position_3T
        following.append(after)
    columns = {"input_ids": ids_BT, "attention_mask": mask_BT, "position_ids": position_3BT}
    if grids:
        columns["pixel_values"] = np.concatenate(patches)
        columns["image_grid_thw"] = np.asarray(grids, dtype=np.int64)
    tensors = {name: torch.as_tensor(values, device=device) for name, values in columns.items()}
    return Fed(tensors, tuple(following))


def positions(
    length: int, pictures: Sequence[tuple[int, tuple[int, int]]], merge: int
) -> tuple[Any, int]:
    """Rotary positions [3, T] (time, row, column), and the one that comes next.

    `pictures` are (first placeholder, (rows, columns) of patches). Qwen2-VL, arXiv 2409.12191,
    section 2.1.
    """
    position_3T = np.zeros((3, length), dtype=np.int64)
    at = following = 0
    for start, (tall, wide) in pictures:
        rows, columns = tall // merge, wide // merge
        position_3T[:, at:start] = np.arange(following, following + start - at)
        following += start - at
        at = start + rows * columns
        position_3T[0, start:at] = following
        position_3T[1, start:at] = following + np.repeat(np.arange(rows), columns)
        position_3T[2, start:at] = following + np.tile(np.arange(columns), rows)
        following += max(rows, columns)
    position_3T[:, at:] = np.arange(following, following + length - at)
    return position_3T, following + length - at


def check_seen(ids: Ids, form: PictureFormat | None) -> None:
    """Raises `ConfigError` if ids that came without pictures hold one."""
    if form is not None and runs(ids, form):
        raise ConfigError(
            "this reads probabilities of ids alone, and these were said after a picture; rewards "
            "and memories that score texts need worlds without pictures"
        )


@dataclass(slots=True)
class _Thread:
    """A row on its way: its cache, and the position of its next id."""

    row: Row
    cache: Any
    at: int


class VisionDecoder(RowSampler):
    """The `Decoder` of models that see: each prompt is computed from its start, pictures and all.

    Rows are computed one by one; nothing is kept from turn to turn.
    """

    def __init__(self, model: Any, stop_ids: Sequence[int], form: PictureFormat) -> None:
        super().__init__(model, stop_ids)
        self._form = form
        self._threads: list[_Thread] = []

    @property
    def live(self) -> int:
        """Rows that are still sampling."""
        return sum(not thread.row.over for thread in self._threads)

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Take up rows and sample the next token of each."""
        ended: list[Row] = []
        with self._working():
            for row in rows:
                fed = feed([(row.context, row.pictures)], self._form, self._device)
                self.counters.prefilled += len(row.context)
                inputs = dict(fed.inputs)
                output = self._forward(inputs.pop("input_ids"), **inputs)
                self._threads.append(_Thread(row, output.past_key_values, fed.next_B[0]))
                ended += self._extend([row], output.logits[:, -1].float())
        return ended

    def step(self) -> list[Row]:
        """One more token for every live row."""
        ended: list[Row] = []
        with self._working():
            self._threads = [thread for thread in self._threads if not thread.row.over]
            for thread in self._threads:
                last = thread.row.ids[-1]
                if last in (self._form.pad, self._form.video):
                    last = self._form.start  # as `feed` shows it
                place = torch.full((3, 1, 1), thread.at, device=self._device)
                output = self._forward(
                    torch.tensor([[last]], device=self._device),
                    position_ids=place,
                    past_key_values=thread.cache,
                )
                thread.at += 1
                ended += self._extend([thread.row], output.logits[:, -1].float())
        return ended

    def forget(self) -> None:
        """The weights changed, or a forward pass failed half-way."""
        self._threads = []
