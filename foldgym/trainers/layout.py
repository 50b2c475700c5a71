"""How the rows of a batch become forward passes: which rows go together, and what the model is fed.

A layout decides, `reading.Reader` runs the model and its head. Nothing else knows of layouts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from foldgym.trainers.batch import Whole, split
from foldgym.types import Batch

if TYPE_CHECKING:
    from foldgym.types import Ints


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
