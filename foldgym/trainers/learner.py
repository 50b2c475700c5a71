"""The learner: a batch in, changed weights and numbers out; nothing changes if anything is NaN."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from foldgym.errors import ConfigError, NotFinite
from foldgym.seeding import generator
from foldgym.trainers.accelerated import spread_again
from foldgym.trainers.activations import checkpoint_layers, layers_of
from foldgym.trainers.batch import Whole, minibatches, take
from foldgym.trainers.columns import SCALE, Columns, Mismatch, Select, surveyed
from foldgym.trainers.crew import Crew, sharded_like
from foldgym.trainers.layout import layout_of
from foldgym.trainers.losses.needs import needs_of
from foldgym.trainers.losses.tokens import LOG_RATIO_LIMIT, TokenLoss, Tokens
from foldgym.trainers.masters import Masters, narrow
from foldgym.trainers.optim import Optim, adamw
from foldgym.trainers.reading import Reader, Reading, check_finite
from foldgym.trainers.throughput import Meter, Work, total
from foldgym.types import Batch

LossFn = Callable[[Tokens], TokenLoss]
KlFn = Callable[[Tensor, Tensor], Tensor]


class Trainee(Protocol):
    """A policy with weights."""

    @property
    def model(self) -> Any:
        """A causal language model of transformers."""

    @property
    def version(self) -> int:
        """How many updates the weights have seen."""
        ...

    def advance(self) -> None:
        """The weights changed: count `version` up and forget what the old ones computed."""


class TorchLearner:
    """Minimises `sum(weight * (scale * loss + kl_coef * kl - entropy * H))` with AdamW.

    Log-probs are taken at `temperature`, the one sampled at. `kl` compares with the frozen model
    `reference`, which may be the policy's own: that is then read without its adapters. `entropy`
    is the coefficient of the bonus H. What else a loss needs it declares (`losses.needs`); `whole`
    overrides what it must see in one micro-batch. `recompute` takes ratios against the policy at
    the start of the update instead of the sampler; `mismatch` weighs by the difference of both,
    `select` drops tokens: their product is `scale` (see `columns`). Every update makes
    `epochs * minibatches` optimiser steps, by default one: then the update is exactly on-policy.

    In a `crew` of several processes every rank has a learner of its own; rank 0 calls, and the
    others `serve`. `reader` and `reference` then are for use between updates, on rank 0 alone.
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
        entropy: float = 0.0,
        recompute: bool = False,
        mismatch: Mismatch | None = None,
        select: Select | None = None,
        whole: Whole | None = None,
        seed: int = 0,
        crew: Crew | None = None,
    ) -> None:
        self.crew = crew or Crew()
        self.policy, self.loss, self.optim = policy, loss, optim
        self.kl, self.kl_coef, self.entropy, self.seed = kl, kl_coef, entropy, seed
        self.needs = needs_of(loss)
        self.whole: Whole = whole or self.needs.whole

        def reader(model: Any) -> Reader:
            layout = layout_of(optim.layout, model)
            return Reader(model, temperature, layout, optim.logprob_chunk)

        self.reader = self._own = reader(policy.model)
        self.reference = self._theirs = None if reference is None else reader(reference)
        if self._theirs is not None and reference is policy.model:
            self._theirs.within = partial(_adapters_off, reference)
        if not self.crew.alone:
            self._spread(reader)
        self.columns = Columns(
            self._own,
            self.needs,
            self._theirs,
            kl=kl is not None,
            recompute=recompute,
            mismatch=mismatch,
            select=select,
        )
        if optim.checkpointing:
            checkpoint_layers(policy.model)
        named = [(name, p) for name, p in policy.model.named_parameters() if p.requires_grad]
        self.names: list[str] = [name for name, _ in named]
        self.params: list[nn.Parameter] = [p for _, p in named]  # that the optimiser moves
        self.masters: Masters | None = None
        if optim.offload or narrow(self.params):
            self.masters = Masters(self.params, "cpu" if optim.offload else None)
            self.params = self.masters.params
        self.optimizer = adamw(self.params, optim)
        self.steps = self.skipped = self.updates = 0
        self._elsewhere: list[Work] = []  # what other ranks have computed

    def update(self, batch: Batch) -> dict[str, float]:
        """One update. A batch without a trained token changes nothing and is counted.

        Raises `NotFinite` for a log-prob, loss or gradient that is not finite, before the
        optimiser step it would have spoilt: weights and optimiser state stay as they were.
        """
        self.crew.order("update", batch)
        if not batch.weight_BT.any():
            self.skipped += 1
            return {"skipped_updates": float(self.skipped)}
        limit = self.optim.microbatch_tokens
        version = self.crew.gather(self.policy.version)[0]
        batch = self.columns.fill(batch, self.updates, version, limit)
        before = self._weights() if self.columns.remembers else {}
        steps: list[dict[str, float]] = []
        for epoch in range(self.optim.epochs):
            rng = generator(self.seed, "minibatches", self.steps, epoch)
            parts = minibatches(batch, self.optim.minibatches, rng)
            steps.extend(self._step(part) for part in parts)
        self.policy.advance()
        self.updates += 1
        self.columns.moved(self.updates, before)
        if not self.crew.alone:
            self._elsewhere = self.crew.gather(self._mine())[1:]
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

    def work(self) -> Work:
        """What has been read so far, on all ranks."""
        return total([self._mine(), *self._elsewhere])

    def meter(self, peak: float | None = None) -> Meter:
        """Looks at what this learner computes; `peak` replaces the device's FLOPs per second."""
        return Meter(self.policy.model, self.work, peak, self.crew.size)

    @property
    def rate(self) -> float:
        """The learning rate of the last optimiser step."""
        return self.optim.rate(max(0, self.steps - 1))

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides the weights."""
        self.crew.order("state")
        optimizer = self.crew.whole(self.optimizer.state_dict())
        counts = {"steps": self.steps, "skipped": self.skipped, "updates": self.updates}
        masters = self._masters()
        frozen = self.columns.state()
        return {"optimizer": optimizer, "masters": masters, "frozen": frozen, **counts}

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`; decay and betas are those of this learner.

        Raises `ValueError` for a state of other parameters.
        """
        self.crew.order("load", state)
        groups = self.optimizer.state_dict()["param_groups"]
        sizes = [
            [len(g["params"]) for g in each]
            for each in (groups, state["optimizer"]["param_groups"])
        ]
        if sizes[0] != sizes[1]:
            raise ValueError(f"{sizes[1]} parameters were trained, and now {sizes[0]}")
        moved = [p for group in self.optimizer.param_groups for p in group["params"]]
        slots = {
            number: {name: sharded_like(moved[number], x) for name, x in slot.items()}
            for number, slot in state["optimizer"]["state"].items()
        }
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        if self.masters is not None and state["masters"]:
            self.masters.load(state["masters"])
        elif self.masters is not None:
            self._widen()
        else:  # none were kept, or these are wider than what a checkpoint's weights are
            for p, full in zip(self.params, state["masters"], strict=bool(state["masters"])):
                p.data.copy_(sharded_like(p, full))
        self.columns.load(state["frozen"])
        self.steps, self.skipped, self.updates = (
            state[name] for name in ("steps", "skipped", "updates")
        )

    def _step(self, batch: Batch) -> dict[str, float]:
        tally = Tally()
        self._forget_gradients()  # somebody else may have left some
        try:
            limit = self.optim.microbatch_tokens
            batch = surveyed(self.loss, self.needs, self._own, batch, self.updates, limit)
            parts = (take(batch, rows) for rows in self._own.parts(batch, limit, self.whole))
            for part, counts in self.crew.mine([p for p in parts if p.weight_BT.any()]):
                self._backward(part, tally, counts)
            tally.merge(self.crew)
            norm = self._clip()
            if not math.isfinite(norm):
                raise NotFinite(
                    f"gradient norm {norm} in {self._bad_gradient()}; no weight changed"
                )
            for group in self.optimizer.param_groups:
                group["lr"] = self.optim.rate(self.steps)
            self.optimizer.step()
            if self.masters is not None:
                self.masters.publish()
        finally:
            self._forget_gradients()
        self.steps += 1
        return tally.means() | {"grad_norm": norm}

    def _backward(self, batch: Batch, tally: Tally, counts: bool = True) -> None:
        value, reading, metrics = self.crew.attempt(partial(self._objective, batch, counts))
        (value if counts else 0.0 * value).backward()
        if counts:
            tally.add(float(value.detach()), reading, metrics)

    def _objective(self, batch: Batch, counts: bool) -> tuple[Tensor, Reading, dict[str, Tensor]]:
        reading = self._own.read(batch, self.updates, self.entropy > 0, counts)
        tokens = reading.tokens
        loss_N, metrics = self.loss(tokens)
        if SCALE in tokens.extra:
            loss_N = tokens.extra[SCALE] * loss_N
            metrics = {**metrics, "loss_scale": tokens.extra[SCALE]}
        if self.kl is not None:
            kl_N = self.kl(tokens.logp_N, tokens.extra["reference"])
            loss_N, metrics = loss_N + self.kl_coef * kl_N, {**metrics, "kl": kl_N}
        if self.entropy:
            loss_N = loss_N - self.entropy * reading.entropy_N
        check_finite("loss", loss_N, batch, np.nonzero(batch.weight_BT)[0])
        return (tokens.weight_N * loss_N).sum(), reading, metrics

    def _mine(self) -> Work:
        readers = (self._own, self._theirs, self.reader, self.reference, self.columns.previous)
        return total({id(r): r.work for r in readers if r is not None}.values())

    def _clip(self) -> float:
        norm: Any = nn.utils.clip_grad_norm_(self.params, self.optim.clip)
        return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)

    def _masters(self) -> list[Tensor]:
        if self.masters is not None:
            return self.masters.state()
        return [] if self.crew.alone else self.crew.whole(self.params)

    def _widen(self) -> None:
        """Goes on from a state without masters: acting weights in fp32 are as good."""
        assert self.masters is not None
        if narrow(self.masters.acting):
            raise ConfigError(
                "policy.dtype: the checkpoint's run trained in fp32 and kept no masters beside its "
                "weights, which would now be rounded; leave policy.dtype as it was, or start a new "
                "run from the checkpoint"
            )
        self.masters.load(self.masters.acting)

    def _spread(self, reader: Callable[[Any], Reader]) -> None:
        """Shards the policy's model over the crew, and reads each batch together."""
        if self.needs.rebase or "previous" in self.needs.columns or self.optim.offload:
            what = "optim.offload" if self.optim.offload else "a loss that keeps earlier policies"
            raise ConfigError(f"{what} is for one process; start this run without --processes")
        model: Any = self.policy.model
        self.crew.shard(cast("nn.Module", self._own.scorer), layers_of(model))
        self._own.crew = self.crew
        if self._theirs is not None:
            self._theirs.crew = self.crew
            if self._theirs.model is model:
                self._theirs.scorer = self._own.scorer
                self._theirs.within = partial(_adapters_off, model, self._own.scorer)
        if self.crew.rank == 0:  # between updates rank 0 reads alone, what it plays with
            whole: Any = cast("Any", self.policy).whole.model
            self.reader = reader(whole)
            if self._theirs is not None:
                adapted = self._theirs.model is model
                self.reference = reader(whole if adapted else self._theirs.model)
                if adapted:
                    self.reference.within = partial(_adapters_off, whole)

    def _weights(self) -> dict[str, Tensor]:
        return {name: x.detach().clone() for name, x in self.policy.model.state_dict().items()}

    def _forget_gradients(self) -> None:
        self.policy.model.zero_grad(set_to_none=True)
        self.optimizer.zero_grad(set_to_none=True)

    def _bad_gradient(self) -> str:
        named = zip(self.names, self.params, strict=True)
        bad = [name for name, p in named if p.grad is not None and not p.grad.isfinite().all()]
        if not bad:  # each is finite, their squares are not
            return "all parameters together"
        return f"{bad[0]} and {len(bad) - 1} more" if len(bad) > 1 else bad[0]


@contextmanager
def _adapters_off(model: Any, sharded: Any = None) -> Generator[None]:
    """The base of a model; of one in shards too, whose gathered copies would keep the switch."""
    from foldgym.agents.engines.lora import adapters_off  # imports peft, which takes its time

    spread_again(sharded)
    with adapters_off(model):
        yield
        spread_again(sharded)


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
        log_ratio_N = tokens.logp_N - tokens.extra.get("behaviour", tokens.old_N)
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

    def merge(self, crew: Crew) -> None:
        """Adds up what all ranks counted."""
        if crew.alone:
            return
        tallies = crew.gather((self.loss, self.count, self.gap, self.sums))
        self.loss = sum(loss for loss, *_ in tallies)
        self.count = sum(count for _, count, *_ in tallies)
        self.gap = max(gap for *_, gap, _ in tallies)
        names = dict.fromkeys(name for *_, sums in tallies for name in sums)
        self.sums = {n: sum(sums.get(n, 0.0) for *_, sums in tallies) for n in names}

    def means(self) -> dict[str, float]:
        """The numbers of the step."""
        means = {name: total / max(1, self.count) for name, total in self.sums.items()}
        return {"loss": self.loss, **means, "logprob_gap_max": self.gap, "tokens": self.count}
