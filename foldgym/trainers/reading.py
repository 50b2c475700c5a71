"""Log-probs of a batch under a model, at the trained tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from foldgym.errors import NotFinite
from foldgym.trainers.batch import split, take
from foldgym.trainers.losses.tokens import Tokens
from foldgym.types import Batch

if TYPE_CHECKING:
    from foldgym.types import Floats


class Reading(NamedTuple):
    """`tokens` flat [N] with a gradient in `logp_N`, and the entropy [N] in nats.

    The entropy has a gradient only if it was asked for.
    """

    tokens: Tokens
    entropy_N: Tensor


class Reader:
    """Reads a causal language model at the sampling temperature.

    The output head runs only where a token is trained, which for agents is a small part of a row.
    Some models scale or cap what their head returns; whether this one does is tried once, and if
    so the head runs everywhere.
    """

    def __init__(self, model: Any, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise ValueError(f"log-probs need a temperature above 0, not {temperature}")
        self.model, self.temperature = model, temperature
        self.model.eval()  # dropout would part the learner's log-probs from the sampler's
        self._plain_head = self._head_is_plain()

    def read(self, batch: Batch, step: int = 0, entropy_gradient: bool = False) -> Reading:
        """One forward pass. Raises `NotFinite` that names the trajectory of a bad log-prob."""
        rows, columns = np.nonzero(batch.weight_BT)
        device = self.model.device
        row_N, column_N = (torch.as_tensor(x, device=device) for x in (rows, columns))
        ids_N = torch.as_tensor(batch.ids_BT[rows, columns], device=device)
        logits_NV = self._logits(batch, row_N, column_N - 1)
        logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
        all_NV = torch.log_softmax(logits_NV / self.temperature, dim=-1)
        logp_N = all_NV.gather(1, ids_N.unsqueeze(1)).squeeze(1)
        check_finite("log-prob", logp_N, batch, rows)
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            entropy_N = -(all_NV.exp() * all_NV).sum(-1)
        return Reading(flat(batch, logp_N, step), entropy_N)

    def logprobs(self, batch: Batch, max_tokens: int) -> Floats:
        """Log-probs [B, T] at the trained tokens, 0 elsewhere: a column for `Batch.extra`."""
        return self.scores(batch, max_tokens)[0]

    @torch.no_grad()
    def scores(self, batch: Batch, max_tokens: int) -> tuple[Floats, Floats]:
        """Log-probs and entropies [B, T] at the trained tokens, 0 elsewhere."""
        logp_BT, entropy_BT = np.zeros(batch.ids_BT.shape), np.zeros(batch.ids_BT.shape)
        for rows in split(batch, max_tokens):
            part = take(batch, rows)
            if not part.weight_BT.any():
                continue
            row_N, column_N = np.nonzero(part.weight_BT)
            where = np.asarray(rows)[row_N], column_N
            reading = self.read(part)
            logp_BT[where] = reading.tokens.logp_N.double().cpu().numpy()
            entropy_BT[where] = reading.entropy_N.double().cpu().numpy()
        return logp_BT, entropy_BT

    @torch.no_grad()
    def hidden(self, batch: Batch) -> Tensor:
        """The last hidden state [N, D] from which each trained id is sampled."""
        rows, columns = np.nonzero(batch.weight_BT)
        return self.model.base_model(**self._inputs(batch)).last_hidden_state[rows, columns - 1]

    @torch.no_grad()
    def last_state(self, ids: Sequence[int]) -> Floats:
        """The last hidden state [D] after a prompt."""
        row = torch.tensor([list(ids)], device=self.model.device)
        state_D = self.model.base_model(input_ids=row, use_cache=False).last_hidden_state[0, -1]
        return state_D.double().cpu().numpy()

    def _logits(self, batch: Batch, row_N: Tensor, at_N: Tensor) -> Tensor:
        """Logits [N, V] after the ids at (row, at): what predicts the id at (row, at + 1)."""
        inputs = self._inputs(batch)
        if not self._plain_head:
            return self.model(**inputs).logits[row_N, at_N]
        hidden_BTD = self.model.base_model(**inputs).last_hidden_state
        return self.model.get_output_embeddings()(hidden_BTD[row_N, at_N])

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        device = self.model.device
        ids_BT = torch.as_tensor(batch.ids_BT, device=device)
        length_B = torch.as_tensor(batch.length_B, device=device)
        position_T = torch.arange(ids_BT.shape[1], device=device)
        return {
            "input_ids": ids_BT,
            "attention_mask": (position_T < length_B[:, None]).to(torch.int64),
            "position_ids": position_T.expand_as(ids_BT),
            "use_cache": False,
        }

    @torch.no_grad()
    def _head_is_plain(self) -> bool:
        ids = torch.arange(4, device=self.model.device)[None]
        hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        head = self.model.get_output_embeddings()(hidden)
        return torch.allclose(head, self.model(input_ids=ids, use_cache=False).logits)


def flat(batch: Batch, logp_N: Tensor, step: int = 0) -> Tokens:
    """The columns of a batch at its trained tokens, beside their log-probs [N]."""
    rows, columns = np.nonzero(batch.weight_BT)

    def column(values: Any, dtype: torch.dtype = logp_N.dtype) -> Tensor:
        return torch.as_tensor(values, dtype=dtype, device=logp_N.device)

    return Tokens(
        logp_N,
        column(batch.logprob_BT[rows, columns]),
        column(batch.advantage_BT[rows, columns]),
        column(batch.weight_BT[rows, columns]),
        column(batch.turn_BT[rows, columns], torch.int64),
        column(batch.version_BT[rows, columns], torch.int64),
        column(batch.row_trajectory_B[rows], torch.int64),
        column(batch.row_group_B[rows], torch.int64),
        {name: column(values[rows, columns]) for name, values in batch.extra.items()},
        step,
    )


def check_finite(what: str, values_N: Tensor, batch: Batch, rows: Any) -> None:
    """Raises `NotFinite` with the row and trajectory of the first bad value."""
    bad = torch.nonzero(~torch.isfinite(values_N))
    if len(bad):
        row = int(rows[int(bad[0])])
        number = int(batch.row_trajectory_B[row])
        name = batch.names[number] if batch.names else number
        raise NotFinite(
            f"{what} {values_N[int(bad[0])].item()} in trajectory {name} "
            f"(row of {batch.length_B[row]} ids); this optimiser step was not taken"
        )
