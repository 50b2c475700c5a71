"""Activation checkpointing: a layer keeps its inputs alone, and runs again for its gradient."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from foldgym.errors import ConfigError


def layers_of(model: Any) -> list[Any]:
    """The blocks that a model is a stack of, as far as transformers says."""
    return [each for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]


def checkpoint_layers(model: Any) -> None:
    """From now on no layer of `model` keeps activations; once is enough.

    Transformers' own switch works in training mode only, which would turn dropout on. Raises
    `ConfigError` for a model whose layers cannot run again.
    """
    layers = layers_of(model)
    if not layers:
        raise ConfigError(
            f"optim.checkpointing: {type(model).__name__} has no layers that transformers could "
            "compute again; remove it"
        )
    for layer in layers:
        if not isinstance(layer.forward, partial):
            layer.forward = partial(_again, layer.forward)


def _again(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # nothing in a layer is random: dropout is off
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)
