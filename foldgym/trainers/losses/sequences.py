"""Sums and means over the tokens of a trajectory (or group), given back at each of its tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from foldgym.trainers.losses.tokens import Tokens


def live(tokens: Tokens) -> Tensor:
    """1 [N] where a token weighs anything, else 0: statistics look at nothing else."""
    return (tokens.weight_N != 0).to(tokens.logp_N.dtype)


def total(values_N: Tensor, key_N: Tensor) -> Tensor:
    """For each token the sum [N] over all tokens with its key."""
    keys_M, at_N = torch.unique(key_N, return_inverse=True)
    return values_N.new_zeros(len(keys_M)).index_add(0, at_N, values_N)[at_N]


def mean(values_N: Tensor, key_N: Tensor, live_N: Tensor) -> Tensor:
    """For each token the mean [N] over the live tokens with its key; 0 where there is none."""
    return total(values_N * live_N, key_N) / total(live_N, key_N).clamp(min=1)


def firsts(key_N: Tensor) -> tuple[Tensor, Tensor]:
    """Index [M] of one token per key, and for each token the place [N] of its key among them.

    What is equal along a trajectory is read at `index`, and given back through `place`.
    """
    keys_M, place_N = torch.unique(key_N, return_inverse=True)
    order_N = torch.arange(len(key_N), device=key_N.device)
    index_M = torch.full_like(keys_M, len(key_N)).scatter_reduce(
        0, place_N, order_N, reduce="amin", include_self=True
    )
    return index_M, place_N
