"""How the rows of a batch become forward passes: which rows go together, and what the model is fed.

A layout decides, `reading.Reader` runs the model and its head. Nothing else knows of layouts:
losses see the same tokens in the same order under all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import torch

from foldgym.agents.engines.solo import maskable
from foldgym.agents.engines.vision import format_of
from foldgym.errors import ConfigError
from foldgym.trainers.batch import Whole, split, unit_rows
from foldgym.trainers.forest import Forest, gather, plant
from foldgym.trainers.sight import Sight
from foldgym.types import Batch

if TYPE_CHECKING:
    from foldgym.types import Ints

LayoutName = Literal["padded", "packed", "shared", "auto"]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One forward pass, and where to look for what predicts the trained ids of a batch.

    `inputs` go to the model. Its hidden state at `[row_U[u], at_U[u]]` predicts `ids_U[u]`, the
    trained id number n of the batch is `back_N[n]` of them; without `back_N` they are in order.
    """

    inputs: dict[str, Any]
    row_U: Ints
    at_U: Ints
    ids_U: Ints
    back_N: Ints | None = None


class Layout(Protocol):
    """Rows to forward passes."""

    def parts(self, batch: Batch, max_tokens: int, whole: Whole = "row") -> list[list[int]]:
        """Row numbers of micro-batches in which the model computes at most `max_tokens` ids.

        `whole` names what must stay together; see `batch.split`.
        """
        ...

    def lay(self, batch: Batch, device: Any) -> Sheet:
        """The forward pass for all rows of a (micro-)batch."""
        ...


class Padded:
    """A row of the batch is a row of the model, padded on the right to the longest."""

    def parts(self, batch: Batch, max_tokens: int, whole: Whole = "row") -> list[list[int]]:
        """See `Layout`."""
        return split(batch, max_tokens, whole)

    def lay(self, batch: Batch, device: Any) -> Sheet:
        """See `Layout`."""
        rows, columns = np.nonzero(batch.weight_BT)
        ids_BT = torch.as_tensor(batch.ids_BT, device=device)
        length_B = torch.as_tensor(batch.length_B, device=device)
        position_T = torch.arange(ids_BT.shape[1], device=device)
        inputs = {
            "input_ids": ids_BT,
            "attention_mask": (position_T < length_B[:, None]).to(torch.int64),
            "position_ids": position_T.expand_as(ids_BT),
            "use_cache": False,
        }
        return Sheet(inputs, rows, columns - 1, batch.ids_BT[rows, columns])


class Grown:
    """Rows behind each other in one row of the model, without padding.

    With `share`, ids that follow the same ids from the start of a row are computed once; without,
    each row is by itself. Ids behind the last trained one are left out, because nothing reads
    them. Sliding windows are measured along a row, whatever lies in between.
    """

    def __init__(self, model: Any, share: bool) -> None:
        config = model.config.get_text_config()
        windowed = "sliding_attention" in (getattr(config, "layer_types", None) or ())
        self._window: int | None = config.sliding_window if windowed else None
        self._dtype = next(model.parameters()).dtype
        self._share = share

    def parts(self, batch: Batch, max_tokens: int, whole: Whole = "row") -> list[list[int]]:
        """See `Layout`. Rows that share a head are kept together; the largest part comes first."""
        return gather(unit_rows(batch, whole), needed(batch), max_tokens, self._share)

    def lay(self, batch: Batch, device: Any) -> Sheet:
        """See `Layout`."""
        rows, columns = np.nonzero(batch.weight_BT)
        forest = plant(needed(batch), self._share)
        at_N, ids_N = forest.place_BT[rows, columns - 1], batch.ids_BT[rows, columns]
        read_U2, back_N = np.unique(np.stack([at_N, ids_N], axis=1), axis=0, return_inverse=True)
        at_U, ids_U = read_U2[:, 0], read_U2[:, 1]
        inputs = self.inputs(forest, device)
        return Sheet(inputs, np.zeros_like(at_U), at_U, ids_U, back_N.reshape(-1))

    def inputs(self, forest: Forest, device: Any) -> dict[str, Any]:
        """What the model is fed to compute a forest as one row."""
        mask: Any = Sight.of(forest, self._dtype, device)
        if self._window is not None:
            near = Sight.of(forest, self._dtype, device, self._window)
            mask = {"full_attention": mask, "sliding_attention": near}
        return {
            "input_ids": torch.as_tensor(forest.ids_L, device=device)[None],
            "attention_mask": mask,
            "position_ids": torch.as_tensor(forest.depth_L, device=device)[None],
            "use_cache": False,
        }


def layout_of(name: LayoutName, model: Any) -> Layout:
    """The layout of a run. Raises `ConfigError` if this model cannot compute it.

    "auto" shares where that is exact and costs nothing extra: the model must pass a trial and
    leave its attention to `scaled_dot_product_attention`. Elsewhere it pads.
    """
    if name == "padded":
        return Padded()
    reason = why_not(model)
    if name == "auto":
        by_strips = model.config.get_text_config()._attn_implementation == "sdpa"
        return Grown(model, share=True) if by_strips and not reason else Padded()
    if reason:
        raise ConfigError(
            f'layout: "{name}" does not go with this {type(model).__name__}: {reason}; use "padded"'
        )
    return Grown(model, share=name == "shared")


def needed(batch: Batch) -> list[Ints]:
    """Of each row the ids in front of its last trained one."""
    last_B = np.where(batch.weight_BT != 0, np.arange(batch.ids_BT.shape[1]), 0).max(1, initial=0)
    return [ids_T[:last] for ids_T, last in zip(batch.ids_BT, last_B, strict=True)]


def computed(layout: Layout, batch: Batch) -> int:
    """How many places a model computes for a (micro-)batch, padding included."""
    return int(layout.lay(batch, "cpu").inputs["input_ids"].numel())


# ---------------------------------------------------------------- which models can


_ROWS = ("abcdefgh", "abcdefgh", "abcd", "abcdxyefgh", "abxbxbxb", "hgfedcba", "x")


@torch.no_grad()
def why_not(model: Any) -> str:
    """Why this model cannot read a forest as one row; empty if it can, which is tried."""
    if format_of(model) is not None:
        return "it sees pictures, whose positions have three axes"
    config = model.config.get_text_config()
    if not maskable(config):
        return "masks do not decide alone what each of its layers sees"
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = {str(kind.get("rope_type")) for kind in (rope, *_dicts(rope))}
    if kinds & {"dynamic", "longrope"}:
        return "its rotary positions depend on the longest row that it reads"
    rows = [np.array([ord(letter) % config.vocab_size for letter in row]) for row in _ROWS]
    forest, device = plant(rows), model.device
    try:
        inputs = Grown(model, share=True).inputs(forest, device)
        shared_LD = model.base_model(**inputs).last_hidden_state[0].double()
        for row, places_T in zip(rows, forest.place_BT, strict=True):
            plain = model.base_model(
                input_ids=torch.as_tensor(row, device=device)[None], use_cache=False
            )
            plain_TD = plain.last_hidden_state[0].double()
            apart = shared_LD[places_T[: len(row)]] - plain_TD
            if apart.norm() > _tolerance(model) * plain_TD.norm():
                return "it computes something else on rows behind each other"
    except Exception as error:  # whatever this model refuses, it does not fit
        return f"it refuses rows behind each other ({type(error).__name__})"
    return ""


def _tolerance(model: Any) -> float:
    exact = next(model.parameters()).dtype in (torch.float32, torch.float64)
    return 1e-3 if exact else 0.1


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [value for value in values.values() if isinstance(value, dict)]
