"""An engine in this process with weights of its own: it samples while the policy learns.

It costs a copy of the weights, and every publication has the sessions under way compute their
contexts anew. What it saves is waiting: the learner may change its own weights at any time.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch

from foldgym.agents.engines.engine import Engine, Trainee
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.errors import Bug
from foldgym.types import Policy


@dataclass(slots=True)
class Behind:
    """Samples with a copy of the weights, which `publish` brings up to date."""

    policy: TorchPolicy
    copy: TorchPolicy | None = field(default=None, init=False)

    @property
    def sampler(self) -> Policy:
        """The copy. Raises `Bug` before `start`."""
        return self._copy

    @property
    def judged(self) -> Policy:
        """The same."""
        return self._copy

    @property
    def _copy(self) -> TorchPolicy:
        if self.copy is None:
            raise Bug("this engine was not started")
        return self.copy

    async def start(self) -> None:
        """Copies the weights. They may learn there too: torch computes other bits otherwise."""
        twin = self.policy.with_model(copy.deepcopy(self.policy.model))
        twin.advance(self.policy.version)
        self.copy = twin

    async def rest(self) -> None:
        """Nothing to lend."""

    async def publish(self) -> dict[str, float]:
        """Copies what the learner may have changed, between two tokens of whatever is sampled."""
        if self._copy.version != self.policy.version:  # an update may have had nothing to learn
            self._copy.swap(self._refresh, self.policy.version)
        return {}

    async def stop(self) -> None:
        """Drops the copy."""
        self.copy = None

    @torch.no_grad()
    def _refresh(self) -> None:
        mine = dict(self._copy.model.named_parameters()) | dict(self._copy.model.named_buffers())
        model = self.policy.model
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                mine[name].copy_(weight)
        for name, values in model.named_buffers():
            mine[name].copy_(values)


def behind(trainee: Trainee) -> Engine:
    """The torch engine of an asynchronous run. Raises `Bug` for a policy of another kind."""
    if not isinstance(trainee.policy, TorchPolicy):
        raise Bug(f"only a TorchPolicy can be copied, not {type(trainee.policy).__name__}")
    return Behind(trainee.policy)
