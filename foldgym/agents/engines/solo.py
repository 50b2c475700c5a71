"""The decoder for any causal model: one row at a time, each seat with transformers' own cache.

`make_decoder` picks it when a model does not pass the trial of the batched decoder, for instance
because some layers see a sliding window or keep a recurrent state.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from foldgym.agents.counting import shared_prefix
from foldgym.agents.engines.decoding import (
    Decoder,
    Row,
    RowSampler,
    Seat,
    reading,
)
from foldgym.agents.engines.slots import SlotDecoder
from foldgym.types import Ids


class SoloDecoder(RowSampler):
    """See `Decoder`. A prompt that only grew keeps its cache; any other is computed anew."""

    def __init__(self, model: Any, stop_ids: Sequence[int]) -> None:
        super().__init__(model, stop_ids)
        self._rows: list[Row] = []
        self._seats: dict[tuple[int, int], Seat] = {}

    @property
    def live(self) -> int:
        """Rows that are still sampling."""
        return sum(not row.over for row in self._rows)

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Take up rows; closed seats give back their caches."""
        with self._working():
            for seat in [seat for seat in self._seats.values() if seat.closed]:
                del self._seats[seat.key]
            ended: list[Row] = []
            for row in rows:
                seat = self._seats.setdefault(row.seat.key, row.seat)
                context = row.context
                kept = shared_prefix(seat.held, context)
                if kept < len(seat.held):
                    seat.held, seat.cache, kept = [], None, 0
                self.counters.reused += kept
                self.counters.prefilled += len(context) - kept
                ended += self._advance(row, context[kept:])
            self._rows += rows
            return ended

    def step(self) -> list[Row]:
        """One more token for every live row."""
        with self._working():
            self._rows = [row for row in self._rows if not row.over]
            return [over for row in self._rows for over in self._advance(row, (row.ids[-1],))]

    def forget(self) -> None:
        """The weights changed, or a forward pass failed half-way."""
        self._rows = []
        for seat in self._seats.values():
            seat.held, seat.cache = [], None

    def _advance(self, row: Row, piece: Ids) -> list[Row]:
        seat = row.seat
        output = self._forward(
            torch.tensor([piece], device=self._device), past_key_values=seat.cache
        )
        seat.cache = output.past_key_values
        seat.held += piece
        ended = self._extend([row], output.logits[:, -1].float())
        if row.error:
            seat.held, seat.cache = [], None
        return ended


def make_decoder(model: Any, stop_ids: Sequence[int], pad_id: int) -> Decoder:
    """The batched decoder if it computes what a plain forward pass does, else the solo one."""
    if maskable(model.config.get_text_config()) and _agrees(model, pad_id):
        return SlotDecoder(model, stop_ids, pad_id)
    return SoloDecoder(model, stop_ids)


def maskable(config: Any) -> bool:
    """Whether the config says of each layer what it sees, and masks can say the same."""
    kinds = set(getattr(config, "layer_types", None) or ())
    windowed = bool(getattr(config, "sliding_window", None)) and not kinds
    return kinds <= {"full_attention", "sliding_attention"} and not windowed


def _agrees(model: Any, pad_id: int) -> bool:
    """Two rows of different lengths, two turns each, against forward passes without a cache."""
    vocab = model.config.get_text_config().vocab_size
    written = [[(1, 2, 3), (4,)], [(5, 6), (7, 8, 9)]]
    turns = [[tuple(token % vocab for token in piece) for piece in turn] for turn in written]
    weight = next(model.parameters())
    try:
        with reading(model):
            batched_BV = SlotDecoder(model, (), pad_id).rehearse(turns)
            whole = [
                torch.tensor([a + b], device=weight.device) for a, b in zip(*turns, strict=True)
            ]
            plain_BV = torch.cat([model(input_ids=ids).logits[:, -1] for ids in whole]).float()
    except Exception:  # whatever this model refuses, it does not fit
        return False
    tolerance = 0.02 if weight.dtype == torch.float32 else 0.2
    return bool((batched_BV - plain_BV).abs().max() <= tolerance * plain_BV.std())
