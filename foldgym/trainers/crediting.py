"""From the groups of a step to the batch of an update: penalty, replay, credit, weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from foldgym.agents.stage import role_of
from foldgym.trainers.advantages.filters import without
from foldgym.trainers.advantages.inputs import estimate
from foldgym.trainers.batch import make_batch
from foldgym.trainers.compose import Parts
from foldgym.trainers.inputs import providers
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import TokenLoss, Tokens, clip_cov, needs_of
from foldgym.trainers.losses.needs import needs, survey
from foldgym.trainers.penalty import kl_per_id, penalised
from foldgym.trainers.replay import Replay
from foldgym.trainers.values import ValueHead
from foldgym.types import Batch, Credits, Group, Picture, Sampler

if TYPE_CHECKING:
    from torch import Tensor

    from foldgym.types import Floats

REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Crediting:
    """What gives credit in a run; `batch` is called once per step."""

    parts: Parts
    learner: TorchLearner
    sampler: Sampler
    replay: Replay | None = None
    head: ValueHead | None = None

    def batch(self, groups: Sequence[Group], step: int) -> tuple[Batch, dict[str, float]]:
        """The batch of the update after `step` earlier ones, and numbers to log.

        Groups of a replay buffer join before credit is given; advantages come from all of them,
        then the sampler weighs. The value head learns afterwards, so that no episode is judged by
        what was learned from it; during its warm-up the batch weighs nothing.
        """
        fresh = list(groups)
        again = [] if self.replay is None else self.replay.again(step, len(fresh))
        everything = self._with_kl(fresh + again)
        credits = self._credit(everything, step)
        extra = None
        if self.replay is not None:
            extra = self.replay.extra(step)
            self.replay.store(fresh, credits[: len(fresh)], step)
        weighed, weighed_credits = self.sampler.weigh(everything, credits)
        weighed = without(weighed, self.parts.run.algorithm.without)
        batch = self._rows(weighed, weighed_credits)
        metrics = {} if self.replay is None else {"replayed": float(sum(map(_size, again)))}
        if extra is not None:
            batch = joined(batch, self._rows(extra.groups, extra.credits), extra.scale)
            metrics["replayed"] += float(sum(map(_size, extra.groups)))
        if self._in_reward:
            metrics["kl"] = kl_per_id(everything, self.parts.run.algorithm.kl.coef)
        if self.head is not None:
            if self.head.warm:
                batch = replace(batch, weight_BT=np.zeros_like(batch.weight_BT))
            metrics |= self.head.fit(everything[: len(fresh)])
        return batch, metrics

    @property
    def _in_reward(self) -> bool:
        kl = self.parts.run.algorithm.kl
        return kl.use == "k1" and kl.coef > 0

    def _with_kl(self, groups: list[Group]) -> list[Group]:
        if not self._in_reward:
            return groups
        coef = self.parts.run.algorithm.kl.coef
        return penalised(groups, self.learner.with_reference(make_batch(groups)), coef)

    def _credit(self, groups: list[Group], step: int) -> Credits:
        given = providers(
            self.learner.reader,
            step,
            self.learner.optim.microbatch_tokens,
            self.learner.reference,
            None if self.head is None else self.head.values,
        )
        return estimate(self.parts.advantage, groups, given)

    def _rows(self, groups: Sequence[Group], credits: Credits) -> Batch:
        algorithm = self.parts.run.algorithm
        roles = self.parts.run.scaffold.roles
        return make_batch(
            groups,
            credits,
            algorithm.aggregation,
            norm=algorithm.norm,
            zero=self.parts.zero,
            weigh=lambda segment: roles.get(role_of(segment.lineage), 1.0),
        )


def joined(first: Batch, second: Batch, scale: float) -> Batch:
    """Both batches in one, the second's weights times `scale` and marked in `extra[REPLAYED]`.

    Each keeps its own denominators, so the loss is the sum of both.
    """
    width = max(first.ids_BT.shape[1], second.ids_BT.shape[1])

    def wide(values_BT: Any, fill: float) -> Any:
        more = width - values_BT.shape[1]
        return np.pad(values_BT, ((0, 0), (0, more)), constant_values=fill)

    columns: dict[str, Any] = {}
    for column in fields(Batch):
        name = column.name
        if name.endswith("_BT"):
            fill = -1 if name in ("turn_BT", "version_BT") else 0
            pair = [wide(getattr(batch, name), fill) for batch in (first, second)]
            columns[name] = np.concatenate(pair)
    columns["weight_BT"][first.rows :] *= scale
    marks_BT: Floats = np.zeros(columns["weight_BT"].shape)
    marks_BT[first.rows :] = 1.0
    groups = int(first.row_group_B.max(initial=-1)) + 1
    return Batch(
        **columns,
        length_B=np.concatenate([first.length_B, second.length_B]),
        row_trajectory_B=np.concatenate(
            [first.row_trajectory_B, second.row_trajectory_B + len(first.names)]
        ),
        row_group_B=np.concatenate([first.row_group_B, second.row_group_B + groups]),
        names=first.names + second.names,
        extra={REPLAYED: marks_BT},
        pictures=_pictures(first) + _pictures(second) if first.pictures or second.pictures else (),
    )


def _pictures(batch: Batch) -> tuple[tuple[Picture, ...], ...]:
    return batch.pictures or ((),) * batch.rows


_imitate = partial(clip_cov, share=0.02, lower=1.0, upper=40.0)  # as SPEAR replays


def imitating(loss: Callable[..., TokenLoss]) -> Callable[..., TokenLoss]:
    """`loss` on fresh tokens, SPEAR's clip-cov (0.02, 1, 40) on those marked as replayed."""
    wanted = needs_of(loss)

    def look(tokens: Tokens) -> dict[str, Tensor]:
        found = _scatter(tokens, lambda part: survey(loss, part), False)
        return found | _scatter(tokens, lambda part: survey(_imitate, part), True)

    @needs(replace(wanted, survey=look))
    def both(tokens: Tokens) -> TokenLoss:
        def parts(run: Callable[..., TokenLoss]) -> Callable[[Tokens], dict[str, Tensor]]:
            def call(part: Tokens) -> dict[str, Tensor]:
                loss_N, metrics = run(part)
                return {"loss": loss_N, **metrics}

            return call

        fresh = _scatter(tokens, parts(loss), False)
        again = _scatter(tokens, parts(_imitate), True)
        zero = torch.zeros_like(tokens.logp_N)
        out = {k: fresh.get(k, zero) + again.get(k, zero) for k in {**fresh, **again}}
        return TokenLoss(out.pop("loss", zero), out)

    return both


def _scatter(
    tokens: Tokens, run: Callable[[Tokens], dict[str, Tensor]], replayed: bool
) -> dict[str, Tensor]:
    """What `run` finds for the tokens with this mark, 0 at the others."""
    mark_N = tokens.extra.get(REPLAYED, torch.zeros_like(tokens.old_N))
    at_N = torch.nonzero((mark_N > 0) == replayed).squeeze(1)
    names = [f.name for f in fields(Tokens) if f.name not in ("extra", "step")]
    part = Tokens(
        **{name: getattr(tokens, name)[at_N] for name in names},
        extra={name: values[at_N] for name, values in tokens.extra.items()},
        step=tokens.step,
    )
    return {
        name: torch.zeros_like(tokens.old_N).index_add(0, at_N, values.to(tokens.old_N.dtype))
        for name, values in run(part).items()
    }


def _size(group: Group) -> int:
    return len(group.trajectories)
