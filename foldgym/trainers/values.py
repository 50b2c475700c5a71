"""A value head: what a policy still expects to earn, read off its last hidden state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from foldgym.errors import NotFinite
from foldgym.trainers.advantages.gae import finished, value_targets
from foldgym.trainers.batch import make_batch, take
from foldgym.trainers.reading import Reader
from foldgym.trainers.samplers.slots import Pick
from foldgym.types import Batch, Group, Ids, Json, Request

if TYPE_CHECKING:
    from foldgym.types import Floats


class ValueHead:
    """A linear layer on the policy's last hidden state, trained by a loss of its own.

    It reads the state from which an id is sampled, before that id. Its gradient does not reach
    the policy: hidden states are inputs to it, and the policy's weights change by the policy loss
    alone (OURS; PPO codes often share). `fit` makes `epochs` AdamW steps on the mean squared error
    to the return-to-go of finished episodes, which is unbiased; what a cut episode would still
    have earned nobody knows (T-PPO). An untrained head is noise, so the first `warmup` updates
    train the head and not the policy.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        lr: float = 1e-2,
        epochs: int = 8,
        warmup: int = 5,
        gamma: float = 1.0,
        max_tokens: int = 16384,
    ) -> None:
        self.reader, self.epochs, self.warmup, self.gamma = reader, epochs, warmup, gamma
        self.max_tokens = max_tokens
        width = int(reader.model.config.get_text_config().hidden_size)
        weight = next(reader.model.parameters())
        dtype = torch.promote_types(weight.dtype, torch.float32)
        self.layer = nn.Linear(width, 1, device=weight.device, dtype=dtype)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)
        self.optimizer = torch.optim.AdamW(self.layer.parameters(), lr=lr, weight_decay=0.0)
        self.fits = 0

    @property
    def warm(self) -> bool:
        """Whether the head is still warming up, and the policy must wait."""
        return self.fits < self.warmup

    @torch.no_grad()
    def values(self, batch: Batch) -> Floats:
        """V [B, T] before each trained id, 0 elsewhere."""
        out_BT = np.zeros(batch.ids_BT.shape)
        for rows in self.reader.parts(batch, self.max_tokens):
            part = take(batch, rows)
            where = np.nonzero(part.weight_BT)
            values_N = self.layer(self._hidden(part)).squeeze(-1)
            out_BT[np.asarray(rows)[where[0]], where[1]] = values_N.double().cpu().numpy()
        return out_BT

    def fit(self, groups: Sequence[Group]) -> dict[str, float]:
        """Learns from the finished episodes of a step. Raises `NotFinite`, the head unchanged."""
        self.fits += 1
        targets = value_targets(groups, gamma=self.gamma)
        kept = [
            Group(g.request, (t,), (r,))
            for g in groups
            for t, r in zip(g.trajectories, g.rewards, strict=True)
            if finished(t)
        ]
        wanted = tuple(
            (credit,)
            for g, credits in zip(groups, targets, strict=True)
            for t, credit in zip(g.trajectories, credits, strict=True)
            if finished(t)
        )
        batch = make_batch(kept, wanted)
        if not batch.rows:
            return {"value_loss": 0.0, "value_explained": 0.0}
        hidden_ND, target_N = self._features(batch)
        return self.regress(hidden_ND, target_N)

    def state(self) -> dict[str, Any]:
        """Weights and optimiser, as tensors."""
        optimizer = self.optimizer.state_dict()
        return {"layer": self.layer.state_dict(), "optimizer": optimizer, "fits": self.fits}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`; the learning rate is this head's own."""
        self.layer.load_state_dict(state["layer"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        self.fits = state["fits"]

    def _hidden(self, batch: Batch) -> Tensor:
        return self.reader.hidden(batch).to(self.layer.weight.dtype)

    @torch.no_grad()
    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        hidden: list[Tensor] = []
        targets: list[Tensor] = []
        for rows in self.reader.parts(batch, self.max_tokens):
            part = take(batch, rows)
            hidden.append(self._hidden(part))
            targets.append(torch.as_tensor(part.advantage_BT[np.nonzero(part.weight_BT)]))
        hidden_ND = torch.cat(hidden)
        return hidden_ND, torch.cat(targets).to(hidden_ND)

    def regress(self, hidden_ND: Tensor, target_N: Tensor) -> dict[str, float]:
        """`epochs` steps towards targets [N]. Raises `NotFinite`, the head unchanged."""
        before = {name: x.detach().clone() for name, x in self.layer.state_dict().items()}
        first = error = 0.0
        for epoch in range(self.epochs):
            loss = torch.mean((self.layer(hidden_ND).squeeze(-1) - target_N) ** 2)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            error = float(loss.detach())
            first = error if epoch == 0 else first
        if not all(bool(x.isfinite().all()) for x in self.layer.state_dict().values()):
            self.layer.load_state_dict(before)
            raise NotFinite(f"value loss {error}: the value head was not changed")
        spread = float(target_N.var(unbiased=False))
        return {"value_loss": first, "value_explained": 1 - first / spread if spread > 0 else 0.0}


class ValuePredictor:
    """A value head as PCL's predictor: V of a task, read off the prompt that it opens with.

    `prompts` gives those prompts (`openings.Openings`). The head is one of its own, beside that of
    an advantage: here the target is verified success, there it is whatever reward is left. V is
    held in [0, 1]; until the head has learned `warmup` times every task is 1/2, since nothing is
    known. A task whose world did not open is 0, which is as far from 1/2 as can be, and teaches
    nothing.
    """

    def __init__(
        self, head: ValueHead, prompts: Callable[[Sequence[Request]], Sequence[Ids]]
    ) -> None:
        self._head, self._prompts = head, prompts

    @torch.no_grad()
    def predict(self, picks: Sequence[Pick]) -> list[float]:
        """Success rate in [0, 1] per task."""
        if self._head.warm:
            return [0.5] * len(picks)
        prompts = self._prompts([_request(pick) for pick in picks])
        return [self._value(ids) if ids else 0.0 for ids in prompts]

    def learn(self, picks: Sequence[Pick], rates: Sequence[float]) -> None:
        """Regresses V on the share of each group that succeeded. Raises `NotFinite`."""
        prompts = self._prompts([_request(pick) for pick in picks])
        seen = [(ids, p) for ids, p in zip(prompts, rates, strict=True) if ids]
        if not seen:
            return
        self._head.fits += 1
        hidden_ND = torch.stack([self._state(ids) for ids, _ in seen])
        self._head.regress(hidden_ND, torch.tensor([p for _, p in seen]).to(hidden_ND))

    def state(self) -> dict[str, Json]:
        """Weights and optimiser as JSON: numbers survive it exactly."""
        layer, optimizer = self._head.layer.state_dict(), self._head.optimizer.state_dict()
        moments = [
            {name: value.tolist() for name, value in slot.items()}
            for _, slot in sorted(optimizer["state"].items())
        ]
        return {
            "layer": {name: value.tolist() for name, value in layer.items()},
            "moments": moments,
            "fits": self._head.fits,
        }

    def load(self, state: Mapping[str, Json]) -> None:
        """The inverse of `state`."""
        like = self._head.layer.weight.detach()

        def tensors(table: Mapping[str, Json]) -> dict[str, Tensor]:
            return {n: torch.tensor(v, dtype=like.dtype) for n, v in table.items()}

        groups = self._head.optimizer.state_dict()["param_groups"]
        moments = {i: tensors(slot) for i, slot in enumerate(state["moments"])}
        self._head.load(
            {
                "layer": tensors(state["layer"]),
                "optimizer": {"state": moments, "param_groups": groups},
                "fits": state["fits"],
            }
        )

    def _state(self, ids: Ids) -> Tensor:
        weight = self._head.layer.weight
        return torch.as_tensor(self._head.reader.last_state(ids)).to(weight)

    def _value(self, ids: Ids) -> float:
        return min(1.0, max(0.0, float(self._head.layer(self._state(ids)))))


def _request(pick: Pick) -> Request:
    return Request(pick.arm.env, pick.seed, kwargs={**pick.arm.kwargs, **pick.kwargs})
