"""Sections of a run file for models that are large, or for who watches a run."""

from __future__ import annotations

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
