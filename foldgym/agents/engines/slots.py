"""The batched decoder: rows of any lengths in one forward pass over a `SlotCache`.

It needs a model whose layers all look at the whole context and that takes position ids and a
mask of four dimensions, as nearly every transformers model does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from foldgym.agents.counting import shared_prefix
from foldgym.agents.engines.decoding import Row, RowSampler, Seat
from foldgym.agents.engines.kv_cache import SlotCache
from foldgym.types import Ids

_SPLIT_GAIN = 64  # tokens of padding that one more forward pass must save to be worth its overhead
_ENDED_SHARE = 0.25  # of the batch, before living rows are moved together


def stages(chunks: Sequence[int]) -> list[int]:
    """Widths of the forward passes that compute chunks of these lengths, first to last.

    The last pass takes the last ids of every row. Only longer rows take part in the passes before
    it, so a row that must be computed anew does not make every other row compute padding.

    >>> stages([20] * 31 + [200])
    [180, 20]
    >>> stages([20, 19, 18])
    [20]
    """
    widths: list[int] = []
    rest = sorted(chunks, reverse=True)
    while rest:
        # cut at rest[n]: only the n longest rows compute more than that
        gains = [(rest[0] - cut) * (len(rest) - n) for n, cut in enumerate(rest)]
        best = max(range(len(rest)), key=gains.__getitem__)
        if gains[best] <= _SPLIT_GAIN:
            widths.append(rest[0])
            break
        widths.append(rest[best])
        rest = [length - rest[best] for length in rest[:best]]
    return widths[::-1]


class SlotDecoder(RowSampler):
    """See `Decoder`. The row at place i sits in slot i, so a batch is a view of the cache.

    An ended row stays, ignored, until a quarter of the batch has ended; then living rows take the
    places of ended ones. Everything depends on the order of calls alone, never on time.
    """

    def __init__(self, model: Any, stop_ids: Sequence[int], pad_id: int) -> None:
        super().__init__(model, stop_ids)
        self._pad = pad_id
        config = model.config.get_text_config()
        windowed = "sliding_attention" in (getattr(config, "layer_types", None) or ())
        self._window: int | None = config.sliding_window if windowed else None
        self._cache = SlotCache()
        self._seats: list[Seat | None] = []  # by slot
        self._rows: list[Row] = []

    @property
    def live(self) -> int:
        """Rows that are still sampling."""
        return sum(not row.over for row in self._rows)

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Take up rows; closed seats give back their slots."""
        with self._working():
            self._close_ranks()
            self._seats = [None if seat and seat.closed else seat for seat in self._seats]
            rows = self._place(rows)
            self._rows += rows
            longest = max(len(row.prompt) + row.limit for row in self._rows)
            self._cache.reserve(len(self._seats), longest)
            return self._after(self._extend(rows, self._prefill(rows)))

    def step(self) -> list[Row]:
        """One more token for every live row."""
        with self._working():
            self._close_ranks(_ENDED_SHARE)
            rows = list(self._rows)
            if not rows:
                return []
            fed = [row.ids[-1] if row.ids else self._pad for row in rows]
            logits_BV = self._pass(
                range(len(rows)), [(token,) for token in fed], [len(row.seat.held) for row in rows]
            )
            for row, token in zip(rows, fed, strict=True):
                if not row.over:
                    row.seat.held.append(token)
            return self._after(self._extend(rows, logits_BV))

    def forget(self) -> None:
        """The weights changed, or a forward pass failed half-way."""
        for seat in self._seats:
            if seat:
                seat.held, seat.slot = [], -1
        self._rows, self._seats = [], []

    def rehearse(self, turns: Sequence[Sequence[Ids]]) -> Tensor:
        """Logits [B, V] after several turns of fresh rows; `turns[k][b]` are ids of row b."""
        starts = [0] * len(turns[0])
        self._cache.reserve(len(starts), sum(max(map(len, pieces)) for pieces in turns))
        logits_BV = torch.empty(0)
        for pieces in turns:
            logits_BV = self._pass(range(len(starts)), pieces, starts)
            starts = [start + len(piece) for start, piece in zip(starts, pieces, strict=True)]
        return logits_BV

    # ------------------------------------------------------------ who sits where

    def _place(self, rows: Sequence[Row]) -> list[Row]:
        """Seat `rows` behind the live ones, moving as few as possible; returns them by slot."""
        first = len(self._rows)
        wanted = range(first, first + len(rows))
        self._seats += [None] * (wanted.stop - len(self._seats))
        placed = {row.seat.slot: row for row in rows if row.seat.slot in wanted}
        vacant = iter([slot for slot in wanted if slot not in placed])
        for row in rows:
            if placed.get(row.seat.slot) is not row:
                slot = next(vacant)
                self._sit(row.seat, slot)
                placed[slot] = row
        return [placed[slot] for slot in wanted]

    def _sit(self, seat: Seat, slot: int) -> None:
        if seat.slot < 0:
            if None not in self._seats:
                self._seats.append(None)
            seat.slot = slot if self._seats[slot] is None else self._seats.index(None)
            self._seats[seat.slot] = seat
        if seat.slot != slot:
            self._swap([seat.slot], [slot])

    def _swap(self, left: Sequence[int], right: Sequence[int]) -> None:
        pairs = list(zip(left, right, strict=True))
        self._cache.reserve(len(self._seats), 0)
        held = [seat.held for slot in (*left, *right) if (seat := self._seats[slot])]
        self._cache.swap(left, right, max(map(len, held), default=0))
        for a, b in pairs:
            self._seats[a], self._seats[b] = self._seats[b], self._seats[a]
            for slot in (a, b):
                if seat := self._seats[slot]:
                    seat.slot = slot

    def _close_ranks(self, share: float = 0.0) -> None:
        """Drop ended rows if they are more than `share` of the batch."""
        rows = self._rows
        going = [slot for slot, row in enumerate(rows) if not row.over]
        if len(rows) - len(going) <= share * len(rows):
            return
        count = len(going)
        movers = [slot for slot in going if slot >= count]
        gaps = sorted(set(range(count)).difference(going))
        self._swap(gaps, movers)
        for gap, mover in zip(gaps, movers, strict=True):
            rows[gap] = rows[mover]
        self._rows = rows[:count]

    def _after(self, ended: list[Row]) -> list[Row]:
        failed = [row for row in ended if row.error]
        if failed:
            self._close_ranks()
        for row in failed:
            self._cache.wipe(row.seat.slot)
            row.seat.held.clear()
        return ended

    # ------------------------------------------------------------ forward passes

    def _prefill(self, rows: Sequence[Row]) -> Tensor:
        """Compute what the seats do not hold of their contexts; logits [B, V] after each."""
        chunks: list[Ids] = []
        for row in rows:
            context = row.context
            kept = shared_prefix(row.seat.held, context)
            del row.seat.held[kept:]
            chunks.append(context[kept:])
            self.counters.reused += kept
            self.counters.prefilled += len(context) - kept
        widths = stages([len(chunk) for chunk in chunks])
        left = sum(widths)
        logits_BV = torch.empty(0)
        for width in widths:
            left -= width
            part = [
                (row.seat, chunk[max(0, len(chunk) - left - width) : len(chunk) - left])
                for row, chunk in zip(rows, chunks, strict=True)
                if len(chunk) > left
            ]
            logits_BV = self._pass(
                [seat.slot for seat, _ in part],
                [piece for _, piece in part],
                [len(seat.held) for seat, _ in part],
            )
            for seat, piece in part:
                seat.held += piece
        return logits_BV

    def _mask(self, hidden_BWS: Tensor) -> Tensor:
        mask_BWS = torch.zeros(hidden_BWS.shape, dtype=self._dtype, device=self._device)
        return mask_BWS.masked_fill_(hidden_BWS, float("-inf")).unsqueeze(1)

    def _pass(self, slots: Sequence[int], pieces: Sequence[Ids], starts: Sequence[int]) -> Tensor:
        """Compute `pieces` at the positions from `starts` on; logits [B, V] after the last id.

        `slots` ascend. Shorter pieces are padded on the left, so that every row ends in the last
        column; padding looks at position 0 and is written to the cache's bin.
        """
        width = max(map(len, pieces))
        ids: list[Ids] = []
        spots: list[tuple[int, ...]] = []
        for piece, start in zip(pieces, starts, strict=True):
            short = width - len(piece)
            ids.append((self._pad,) * short + piece)
            spots.append((-1,) * short + tuple(range(start, start + len(piece))))
            self.counters.padded += short
        device, columns = self._device, self._cache.columns
        spot_BW = torch.tensor(spots, device=device)
        slot_B = torch.tensor(slots, device=device)
        target_BW = torch.where(spot_BW < 0, self._cache.bin, spot_BW) + slot_B[:, None] * columns
        spot_BW.clamp_(min=0)
        seen = max(start + len(piece) for piece, start in zip(pieces, starts, strict=True))
        column_S = torch.arange(seen, device=device)
        hidden_BWS = column_S > spot_BW[:, :, None]
        mask: Any = self._mask(hidden_BWS)
        if self._window is not None:  # the column of a token is its position
            far_BWS = column_S <= spot_BW[:, :, None] - self._window
            near = self._mask(hidden_BWS | far_BWS)
            mask = {"full_attention": mask, "sliding_attention": near}
        together = slots[-1] - slots[0] + 1 == len(slots)
        self._cache.aim(
            slice(slots[0], slots[-1] + 1) if together else slot_B, target_BW.flatten(), seen
        )
        output = self._forward(
            torch.tensor(ids, device=device),
            position_ids=spot_BW,
            attention_mask=mask,
            past_key_values=self._cache,
        )
        return output.logits[:, -1].float()
