"""What the learner adds to a batch before its first optimiser step: the columns a loss asks for.

They are computed once per update and over the whole batch, so neither minibatches nor micro-batches
change them, and none of them has a gradient.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foldgym.trainers.losses.needs import COLUMNS, Needs, survey
from foldgym.trainers.mismatch import Gap, mismatch_column
from foldgym.trainers.reading import Reader, flat
from foldgym.types import Batch

if TYPE_CHECKING:
    from foldgym.types import Floats

Mismatch = Callable[[Gap], "Floats"]
Select = Callable[[Batch, "Floats", int], "Floats"]
SCALE = "scale"  # multiplies the policy loss: mismatch weight times selection


class Columns:
    """Fills in columns, and keeps the frozen policies that some of them come from.

    `recompute` makes `old_N` the policy's own log-probs at the start of the update and moves the
    sampler's to `behaviour`; `mismatch` and the column "behaviour" imply it.
    """

    def __init__(
        self,
        reader: Reader,
        needs: Needs,
        reference: Reader | None,
        *,
        kl: bool = False,
        recompute: bool = False,
        mismatch: Mismatch | None = None,
        select: Select | None = None,
    ) -> None:
        unknown = set(needs.columns) - COLUMNS.keys()
        if unknown:
            raise ValueError(f"a loss needs the columns {sorted(unknown)}; known: {[*COLUMNS]}")
        if reference is None and (kl or "reference" in needs.columns):
            raise ValueError("a KL term needs a reference model")
        self.reader, self.needs, self.reference = reader, needs, reference
        self.mismatch, self.select = mismatch, select
        self.wants_reference = kl or "reference" in needs.columns
        self.recompute = recompute or mismatch is not None or "behaviour" in needs.columns
        self.previous = self._frozen() if "previous" in needs.columns else None
        self.rebased = False

    def fill(self, batch: Batch, step: int, version: int, max_tokens: int) -> Batch:
        """The batch with every column that is wanted."""
        extra: dict[str, Floats] = dict(batch.extra)
        if self.wants_reference and self.reference is not None:
            extra["reference"] = self.reference.logprobs(batch, max_tokens)
        if self.previous is not None:
            extra["previous"] = self.previous.logprobs(batch, max_tokens)
        if "staleness" in self.needs.columns:
            extra["staleness"] = (version - batch.version_BT).astype(float)
        old_BT = batch.logprob_BT
        if self.recompute or self.select is not None:
            own_BT, entropy_BT = self.reader.scores(batch, max_tokens)
            scale_BT = np.ones(old_BT.shape)
            if self.mismatch is not None:
                scale_BT *= mismatch_column(batch, own_BT, self.mismatch)
            if self.select is not None:
                scale_BT *= self.select(batch, entropy_BT, step)
            if self.mismatch is not None or self.select is not None:
                extra[SCALE] = scale_BT
            if self.recompute:
                extra["behaviour"], old_BT = old_BT, own_BT
        return replace(batch, logprob_BT=old_BT, extra=extra)

    def moved(self, step: int, weights: Mapping[str, Any]) -> None:
        """Update `step` is done; `weights` are those before it."""
        if self.previous is not None:
            self.previous.model.load_state_dict(weights)
        if self.needs.rebase and step == self.needs.rebase:
            assert self.reference is not None
            self.reference.model.load_state_dict(self.reader.model.state_dict())
            self.rebased = True

    @property
    def remembers(self) -> bool:
        """Whether `moved` wants the weights before an update."""
        return self.previous is not None

    def state(self) -> dict[str, Any]:
        """The frozen weights that no checkpoint of the policy holds."""
        out: dict[str, Any] = {}
        if self.previous is not None:
            out["previous"] = self.previous.model.state_dict()
        if self.rebased and self.reference is not None:
            out["reference"] = self.reference.model.state_dict()
        return out

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        if self.previous is not None and "previous" in state:
            self.previous.model.load_state_dict(state["previous"])
        if self.reference is not None and "reference" in state:
            self.reference.model.load_state_dict(state["reference"])
            self.rebased = True

    def _frozen(self) -> Reader:
        model = copy.deepcopy(self.reader.model).requires_grad_(False)
        reader = self.reader
        return Reader(model, reader.temperature, reader.layout, reader.chunk)


@torch.no_grad()
def surveyed(
    loss: Callable[..., Any], needs: Needs, reader: Reader, batch: Batch, step: int, limit: int
) -> Batch:
    """The batch of one optimiser step with what the loss found by looking at all of it."""
    if needs.survey is None:
        return batch
    logp_BT = reader.logprobs(batch, limit)
    at = np.nonzero(batch.weight_BT)
    tokens = flat(batch, torch.as_tensor(logp_BT[at]), step)
    extra: dict[str, Floats] = dict(batch.extra)
    for name, values_N in survey(loss, tokens).items():
        column_BT = np.zeros(batch.weight_BT.shape)
        column_BT[at] = values_N.double().cpu().numpy()
        extra[name] = column_BT
    return replace(batch, extra=extra)
