"""Keys and values of many conversations, kept from turn to turn in one block of memory per layer.

Each conversation owns a slot; the token at position p lies in column p, so nothing is ever moved
when a conversation grows, and forgetting its tail is free. Rows of one forward pass that lie side
by side are views, not copies: at 128 rows that halves the time of a decode step against
concatenating caches. The model sees an object with transformers' `Cache.update`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_COLUMNS = 64  # columns are added in blocks of this many


class SlotCache:
    """Blocks of shape [slots, columns, kv_heads, head_dim], keys and values per layer.

    The last column is a bin: padding is written there and never read.
    """

    def __init__(self) -> None:
        self.slots, self.columns = 0, 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._rows: slice | Tensor = slice(0, 0)
        self._target = torch.empty(0, dtype=torch.int64)
        self._seen = 0

    @property
    def bin(self) -> int:
        """The column for padding."""
        return self.columns - 1

    def reserve(self, slots: int, columns: int) -> None:
        """Make room for `slots` conversations of `columns` tokens; what is held stays."""
        if slots <= self.slots and columns < self.columns:
            return
        if slots > self.slots:
            self.slots = max(slots, self.slots * 3 // 2)
        if columns >= self.columns:
            self.columns = -(-max(columns + 1, self.columns * 3 // 2) // _COLUMNS) * _COLUMNS
        for blocks in (self._keys, self._values):
            for layer, old in enumerate(blocks):
                # zeros, because a masked column still enters a product: garbage may be NaN
                new = old.new_zeros((self.slots, self.columns, *old.shape[2:]))
                new[: old.shape[0], : old.shape[1]] = old
                blocks[layer] = new

    def aim(self, rows: slice | Tensor, target: Tensor, seen: int) -> None:
        """Set up the next forward pass.

        `rows` are the slots of the batch; `target` [B * W] says where each new token goes, as
        `slot * columns + column`; the batch then looks at the first `seen` columns.
        """
        self._rows, self._target, self._seen = rows, target, seen

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[Tensor, Tensor]:
        """Called by the model in each layer: [B, heads, W, dim] in, [B, heads, seen, dim] out."""
        while len(self._keys) <= layer_idx:
            for blocks, new in ((self._keys, keys), (self._values, values)):
                shape = (self.slots, self.columns, new.shape[1], new.shape[3])
                blocks.append(torch.zeros(shape, dtype=new.dtype, device=new.device))
        seen: list[Tensor] = []
        for block, new in ((self._keys[layer_idx], keys), (self._values[layer_idx], values)):
            flat = block.view(-1, *block.shape[2:])
            flat.index_copy_(0, self._target, new.transpose(1, 2).reshape(-1, *block.shape[2:]))
            seen.append(block[self._rows, : self._seen].transpose(1, 2))
        return seen[0], seen[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Asked by models that were given no position ids; the engine always gives them."""
        return self._seen

    def swap(self, left: Sequence[int], right: Sequence[int], columns: int) -> None:
        """Exchange the first `columns` columns of each pair of slots."""
        if not self._keys or not left or not columns:
            return
        device = self._keys[0].device
        a, b = torch.tensor(left, device=device), torch.tensor(right, device=device)
        for block in (*self._keys, *self._values):
            kept = block[a, :columns]
            block[a, :columns] = block[b, :columns]
            block[b, :columns] = kept

    def wipe(self, slot: int) -> None:
        """Forget whatever is in a slot, NaN included."""
        for block in (*self._keys, *self._values):
            block[slot].zero_()
