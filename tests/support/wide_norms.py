"""Models that compute in fp64 throughout: transformers' RMS norms go through fp32 otherwise."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch


def widen(model: Any) -> Any:
    """The model in fp64, norms included."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = partial(_norm, module)
    return model.double()


def _norm(module: Any, x: torch.Tensor) -> torch.Tensor:
    gemma = type(module).__name__.startswith("Gemma")
    eps = module.eps if gemma else module.variance_epsilon
    weight = 1 + module.weight if gemma else module.weight
    return weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
