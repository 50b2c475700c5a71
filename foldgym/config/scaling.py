"""Sections of a run file for models that are large, or for who watches a run."""

from __future__ import annotations

from typing import Literal

from foldgym.config.models import Count, Name, Rate, Section


class LoraSection(Section):
    """Adapters of rank `rank` (0: none, all weights train) on `targets`; the base is frozen.

    The product of both factors counts `alpha / rank`, or with `rslora` `alpha / sqrt(rank)`.
    Without `targets` every linear layer but the output head is adapted. There is no dropout: the
    learner's log-probs must be the sampler's.
    """

    rank: Count = 0
    alpha: Rate = 32.0
    targets: tuple[Name, ...] = ()
    rslora: bool = False


class LogSection(Section):
    """Who else is told of a run's numbers, beside its JSONL files.

    `peak_flops` are the device's (FLOPs per second), of which `mfu` is the share.
    """

    tensorboard: bool = False
    wandb: Literal["off", "offline"] = "off"
    peak_flops: Rate | None = None
