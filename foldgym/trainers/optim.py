"""AdamW and its learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class Optim:
    """How weights move. `total` counts optimiser steps and matters to decaying schedules only.

    >>> [round(Optim(lr=1.0, warmup=2, schedule="cosine", floor=0.0, total=4).rate(s), 3)
    ...  for s in range(5)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    lr: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    warmup: int = 5
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    floor: float = 0.05
    total: int = 0
    clip: float = 1.0
    microbatch_tokens: int = 16384
    epochs: int = 1
    minibatches: int = 1
    layout: Literal["padded", "packed", "shared", "auto"] = "padded"
    logprob_chunk: int = 2048
    checkpointing: bool = False
    offload: bool = False

    def rate(self, step: int) -> float:
        """The learning rate of optimiser step `step`, counted from 0."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        gone = min(1.0, (step - self.warmup) / max(1, self.total - self.warmup))
        left = 1 - gone if self.schedule == "linear" else (1 + math.cos(math.pi * gone)) / 2
        return self.lr * (self.floor + (1 - self.floor) * left)


def adamw(params: Sequence[nn.Parameter], optim: Optim) -> torch.optim.AdamW:
    """AdamW that decays matrices only, not norms and biases."""
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": optim.weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    filled = [group for group in groups if group["params"]]
    return torch.optim.AdamW(filled, lr=optim.lr, betas=optim.betas, weight_decay=0.0)
