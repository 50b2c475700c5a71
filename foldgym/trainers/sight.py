"""What a place of a forest sees: itself and the places above it, nothing else.

`Sight` is handed to a model where it takes a 4D attention mask. It holds no L x L numbers: where
the model calls scaled dot-product attention, each strip attends to exactly what it sees, so packed
rows cost what they would cost alone, and a shared head attends to itself once. A model that does
anything else with its mask gets it written out, which costs L x L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from foldgym.trainers.forest import Forest, Strip


@dataclass(frozen=True, slots=True)
class _Look:
    """What a strip looks at: `pieces` (strip, from, to) of others and then itself.

    Of these columns row r sees those where `mask` is true; without a mask all, or, if `causal`,
    the first r + 1.
    """

    pieces: tuple[tuple[int, int, int], ...]
    mask: Tensor | None
    causal: bool


class Sight(Tensor):
    """A mask of shape [1, 1, L, L] without memory."""

    strips: tuple[Strip, ...]
    looks: tuple[_Look, ...]

    @staticmethod
    def of(forest: Forest, dtype: torch.dtype, device: Any, window: int = 0) -> Sight:
        """The sight of a forest; with a `window` a place sees the nearest `window` only."""
        size = len(forest.ids_L)
        number = {strip.own[0]: n for n, strip in enumerate(forest.strips)}
        looks = tuple(_look(strip, number, window, device) for strip in forest.strips)
        nothing = torch.empty((), dtype=dtype, device=device).expand(1, 1, size, size)
        return _made(nothing, forest.strips, looks)

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Attention goes by strips; cast or moved it stays a sight; all else sees numbers."""
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            return attend(*args, **kwargs)
        if func in _PLAIN:
            return super().__torch_function__(func, types, args, kwargs)
        if func is Tensor.to and isinstance(args[0], Sight):
            sight, *rest = args
            like = torch.empty((), dtype=sight.dtype, device=sight.device).to(*rest, **kwargs)
            looks = tuple(_moved(look, like.device) for look in sight.looks)
            return _made(like.expand(sight.shape), sight.strips, looks)
        shown = [x.dense() if isinstance(x, Sight) else x for x in args]
        named = {k: x.dense() if isinstance(x, Sight) else x for k, x in kwargs.items()}
        return func(*shown, **named)

    def dense(self) -> Tensor:
        """The mask to add: 0 where a place sees another, else minus infinity."""
        size = self.shape[-1]
        mask_LL = torch.full((size, size), float("-inf"), dtype=self.dtype, device=self.device)
        for strip, look in zip(self.strips, self.looks, strict=True):
            spans = [
                (self.strips[n].own[0] + a, self.strips[n].own[0] + b) for n, a, b in look.pieces
            ]
            seen = torch.cat([torch.arange(*span) for span in (*spans, strip.own)]).to(self.device)
            own = torch.arange(*strip.own, device=self.device)
            sees = torch.ones(len(own), len(seen), dtype=torch.bool, device=self.device)
            sees = sees.tril() if look.causal else sees if look.mask is None else look.mask
            part = torch.zeros(sees.shape, dtype=self.dtype, device=self.device)
            mask_LL[own[:, None], seen] = part.masked_fill(~sees, float("-inf"))
        return mask_LL[None, None]


def _getter(name: str) -> Any:
    """What torch calls to read an attribute of a tensor."""
    return getattr(Tensor, name).__get__


_ASKED = ("shape", "dtype", "device", "ndim", "requires_grad", "is_cuda")
_PLAIN = {
    *map(_getter, _ASKED),
    *(Tensor.is_floating_point, Tensor.size, Tensor.dim, torch.is_floating_point),
}  # what may be asked of a mask without reading it


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Sight,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Scaled dot-product attention [1, H, L, D] under a sight, strip by strip."""
    if key.shape[-2] == 1:  # then transformers makes query rows of the heads that share a key
        return functional.scaled_dot_product_attention(query, key, value, scale=scale)
    sizes = [strip.own[1] - strip.own[0] for strip in attn_mask.strips]
    query_S, key_S, value_S = (x.split(sizes, dim=-2) for x in (query, key, value))

    def strip(n: int) -> Tensor:
        look = attn_mask.looks[n]
        seen_key, seen_value = (
            torch.cat([*(part[m][..., a:b, :] for m, a, b in look.pieces), part[n]], dim=-2)
            if look.pieces
            else part[n]
            for part in (key_S, value_S)
        )
        return functional.scaled_dot_product_attention(
            query_S[n],
            seen_key,
            seen_value,
            attn_mask=look.mask,
            dropout_p=dropout_p,
            is_causal=look.causal,
            scale=scale,
            enable_gqa=enable_gqa,
        )

    def kept_short(n: int) -> Tensor:
        """Autograd keeps a copy of what is above; where that is long, the strip runs again."""
        above = sum(b - a for _, a, b in attn_mask.looks[n].pieces)
        if above <= sizes[n] or not torch.is_grad_enabled():
            return strip(n)
        again: Any = checkpoint(strip, n, use_reentrant=False, preserve_rng_state=False)
        return again

    return torch.cat([kept_short(n) for n in range(len(sizes))], dim=-2)


def _look(strip: Strip, number: dict[int, int], window: int, device: Any) -> _Look:
    first, size = strip.depth, strip.own[1] - strip.own[0]
    low = max(0, first - window + 1) if window else 0  # the highest place that any of them sees
    pieces: list[tuple[int, int, int]] = []
    depth = 0
    for start, to in strip.above:
        skip = max(0, low - depth)
        if skip < to - start:
            pieces.append((number[start], skip, to - start))
        depth += to - start
    if size == 1:
        return _Look(tuple(pieces), None, causal=False)
    if not pieces and not 0 < window < size:
        return _Look((), None, causal=True)
    row_R1 = torch.arange(first, first + size, device=device)[:, None]
    column_C = torch.arange(low, first + size, device=device)
    mask_RC = column_C <= row_R1
    if window:
        mask_RC &= column_C > row_R1 - window
    return _Look(tuple(pieces), mask_RC, causal=False)


def _moved(look: _Look, device: Any) -> _Look:
    mask = None if look.mask is None else look.mask.to(device)
    return _Look(look.pieces, mask, look.causal)


def _made(like: Tensor, strips: tuple[Strip, ...], looks: tuple[_Look, ...]) -> Sight:
    sight = like.as_subclass(Sight)
    sight.strips, sight.looks = strips, looks
    return sight
