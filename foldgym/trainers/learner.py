"""The learner: a batch in, changed weights and numbers out; nothing changes if anything is NaN."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from foldgym.errors import NotFinite
from foldgym.seeding import generator
from foldgym.trainers.batch import Whole, minibatches, split, take
from foldgym.trainers.losses.tokens import LOG_RATIO_LIMIT, TokenLoss, Tokens
from foldgym.trainers.optim import Optim, adamw
from foldgym.trainers.reading import Reader, Reading, check_finite
from foldgym.types import Batch

LossFn = Callable[[Tokens], TokenLoss]
KlFn = Callable[[Tensor, Tensor], Tensor]


class Trainee(Protocol):
    """A policy with weights."""

    @property
    def model(self) -> Any:
        """A causal language model of transformers."""

    def advance(self) -> None:
        """The weights changed: count `version` up and forget what the old ones computed."""


class TorchLearner:
    """Minimises `sum(weight * (loss + kl_coef * kl))` with AdamW.

    Log-probs are taken at `temperature`, the one sampled at. `kl` compares with the frozen model
    `reference`. `whole` is what the loss must see in one micro-batch (see `batch.split`). Every
    update makes `epochs * minibatches` optimiser steps, by default one: then the update is exactly
    on-policy.
    """

    def __init__(
        self,
        policy: Trainee,
        loss: LossFn,
        optim: Optim,
        *,
        temperature: float = 1.0,
        kl: KlFn | None = None,
        kl_coef: float = 0.0,
        reference: Any = None,
        whole: Whole = "row",
        seed: int = 0,
    ) -> None:
        if kl is not None and reference is None:
            raise ValueError("a KL term needs a reference model")
        self.policy, self.loss, self.optim = policy, loss, optim
        self.kl, self.kl_coef, self.seed = kl, kl_coef, seed
        self.whole: Whole = whole
        self.reader = Reader(policy.model, temperature)
        self.reference = None if reference is None else Reader(reference, temperature)
        self.params: list[nn.Parameter] = [p for p in policy.model.parameters() if p.requires_grad]
        self.optimizer = adamw(policy.model, optim)
        self.steps = self.skipped = 0

    def update(self, batch: Batch) -> dict[str, float]:
        """One update. A batch without a trained token changes nothing and is counted.

        Raises `NotFinite` for a log-prob, loss or gradient that is not finite, before the
        optimiser step it would have spoilt: weights and optimiser state stay as they were.
        """
        if not batch.weight_BT.any():
            self.skipped += 1
            return {"skipped_updates": float(self.skipped)}
        if self.kl is not None:
            batch = self.with_reference(batch)
        steps: list[dict[str, float]] = []
        for epoch in range(self.optim.epochs):
            rng = generator(self.seed, "minibatches", self.steps, epoch)
            parts = minibatches(batch, self.optim.minibatches, rng)
            steps.extend(self._step(part) for part in parts)
        self.policy.advance()
        metrics = {name: sum(s[name] for s in steps) / len(steps) for name in steps[0]}
        # later steps are off-policy by intent; only the first can show a disagreement
        metrics["logprob_gap_max"] = steps[0]["logprob_gap_max"]
        return metrics | {"lr": self.rate, "skipped_updates": float(self.skipped)}

    def with_reference(self, batch: Batch) -> Batch:
        """The batch with the reference's log-probs in `extra["reference"]`."""
        if self.reference is None:
            raise ValueError("this learner has no reference model")
        column_BT = self.reference.logprobs(batch, self.optim.microbatch_tokens)
        return replace(batch, extra={**batch.extra, "reference": column_BT})

    @property
    def rate(self) -> float:
        """The learning rate of the last optimiser step."""
        return self.optim.rate(max(0, self.steps - 1))

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides the weights."""
        optimizer = self.optimizer.state_dict()
        return {"optimizer": optimizer, "steps": self.steps, "skipped": self.skipped}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.optimizer.load_state_dict(state["optimizer"])
        self.steps, self.skipped = state["steps"], state["skipped"]

    def _step(self, batch: Batch) -> dict[str, float]:
        tally = Tally()
        self.optimizer.zero_grad(set_to_none=True)  # somebody else may have left gradients
        try:
            for rows in split(batch, self.optim.microbatch_tokens, self.whole):
                part = take(batch, rows)
                if part.weight_BT.any():
                    self._backward(part, tally)
            norm = float(nn.utils.clip_grad_norm_(self.params, self.optim.clip))
            if not math.isfinite(norm):
                raise NotFinite(
                    f"gradient norm {norm} in {self._bad_gradient()}; no weight changed"
                )
            for group in self.optimizer.param_groups:
                group["lr"] = self.optim.rate(self.steps)
            self.optimizer.step()
        finally:
            self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return tally.means() | {"grad_norm": norm}

    def _backward(self, batch: Batch, tally: Tally) -> None:
        reading = self.reader.read(batch)
        tokens = reading.tokens
        loss_N, metrics = self.loss(tokens)
        if self.kl is not None:
            kl_N = self.kl(tokens.logp_N, tokens.extra["reference"])
            loss_N, metrics = loss_N + self.kl_coef * kl_N, {**metrics, "kl": kl_N}
        check_finite("loss", loss_N, batch, np.nonzero(batch.weight_BT)[0])
        value = (tokens.weight_N * loss_N).sum()
        value.backward()
        tally.add(float(value.detach()), reading, metrics)

    def _bad_gradient(self) -> str:
        named = self.policy.model.named_parameters()
        bad = [name for name, p in named if p.grad is not None and not p.grad.isfinite().all()]
        return f"{bad[0]} and {len(bad) - 1} more" if len(bad) > 1 else "".join(bad)


class Tally:
    """Sums over the micro-batches of one optimiser step; means are over sampled tokens."""

    def __init__(self) -> None:
        self.loss, self.count, self.gap = 0.0, 0, 0.0
        self.sums: dict[str, float] = {}

    @torch.no_grad()
    def add(self, value: float, reading: Reading, metrics: dict[str, Tensor]) -> None:
        """Counts one micro-batch."""
        tokens = reading.tokens
        sampled = tokens.turn_N >= 0  # context may carry a weight too, but was never sampled
        self.loss += value
        self.count += int(sampled.sum())
        log_ratio_N = tokens.logp_N - tokens.old_N
        d_N = log_ratio_N.clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)
        logged = {
            **metrics,
            "entropy": reading.entropy_N,
            "nll": -tokens.logp_N,
            "approx_kl": torch.exp(d_N) - 1 - d_N,  # k3 of KL(sampler || learner)
        }
        for name, values_N in logged.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(values_N[sampled].double().sum())
        if sampled.any():
            self.gap = max(self.gap, float(log_ratio_N[sampled].abs().max()))

    def means(self) -> dict[str, float]:
        """The numbers of the step."""
        means = {name: total / max(1, self.count) for name, total in self.sums.items()}
        return {"loss": self.loss, **means, "logprob_gap_max": self.gap, "tokens": self.count}
