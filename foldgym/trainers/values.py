"""A value head: what a policy still expects to earn, read off its last hidden state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from foldgym.errors import NotFinite
from foldgym.trainers.advantages.gae import finished, value_targets
from foldgym.trainers.batch import make_batch, split, take
from foldgym.trainers.reading import Reader
from foldgym.types import Batch, Group

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
        width = int(reader.model.config.hidden_size)
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
        for rows in split(batch, self.max_tokens):
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
        return self._learn(hidden_ND, target_N)

    def state(self) -> dict[str, Any]:
        """Weights and optimiser, as tensors."""
        optimizer = self.optimizer.state_dict()
        return {"layer": self.layer.state_dict(), "optimizer": optimizer, "fits": self.fits}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.layer.load_state_dict(state["layer"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fits = state["fits"]

    def _hidden(self, batch: Batch) -> Tensor:
        return self.reader.hidden(batch).to(self.layer.weight.dtype)

    @torch.no_grad()
    def _features(self, batch: Batch) -> tuple[Tensor, Tensor]:
        hidden: list[Tensor] = []
        targets: list[Tensor] = []
        for rows in split(batch, self.max_tokens):
            part = take(batch, rows)
            hidden.append(self._hidden(part))
            targets.append(torch.as_tensor(part.advantage_BT[np.nonzero(part.weight_BT)]))
        hidden_ND = torch.cat(hidden)
        return hidden_ND, torch.cat(targets).to(hidden_ND)

    def _learn(self, hidden_ND: Tensor, target_N: Tensor) -> dict[str, float]:
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
    """The value head's kin as PCL's predictor: success of a task, read off its prompt.

    `prompt_of` gives the ids that the policy would be shown first for a pick. Logistic regression
    on the hidden state after them, `rate` being the step of plain gradient descent.
    """

    def __init__(
        self, reader: Reader, prompt_of: Callable[[Any], Sequence[int]], *, rate: float = 0.05
    ) -> None:
        self._reader, self._prompt_of, self._rate = reader, prompt_of, rate
        self._weight_D = np.zeros(int(reader.model.config.hidden_size))
        self._bias = 0.0

    def predict(self, picks: Sequence[Any]) -> list[float]:
        """Success rate in [0, 1] per task."""
        return [self._p(self._state(pick)) for pick in picks]

    def learn(self, results: Sequence[Any]) -> None:
        """Moves towards the share of each result that succeeded."""
        for result in results:
            state_D = self._state(result)
            error = result.p - self._p(state_D)
            self._weight_D += self._rate * error * state_D
            self._bias += self._rate * error

    def state(self) -> dict[str, Any]:
        """Everything learned, as JSON."""
        return {"weight": self._weight_D.tolist(), "bias": self._bias}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._weight_D, self._bias = np.array(state["weight"]), float(state["bias"])

    def _state(self, pick: Any) -> Floats:
        return self._reader.last_state(self._prompt_of(pick))

    def _p(self, state_D: Floats) -> float:
        z = float(state_D @ self._weight_D + self._bias)
        return 1 / (1 + float(np.exp(-np.clip(z, -30, 30))))
