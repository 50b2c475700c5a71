"""Log-probs of a batch under a model, at the trained tokens only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from foldgym.console import note
from foldgym.errors import NotFinite
from foldgym.trainers.batch import Whole, take
from foldgym.trainers.crew import Crew
from foldgym.trainers.heads import form_of, read_hidden, read_logits
from foldgym.trainers.layout import Layout, Padded, Sheet
from foldgym.trainers.losses.tokens import Tokens
from foldgym.trainers.pictured import pictured
from foldgym.trainers.throughput import Work
from foldgym.types import Batch

if TYPE_CHECKING:
    from foldgym.types import Floats


class Reading(NamedTuple):
    """`tokens` flat [N] with a gradient in `logp_N`, and the entropy [N] in nats.

    The entropy has a gradient only if it was asked for.
    """

    tokens: Tokens
    entropy_N: Tensor


class Scorer(nn.Module):
    """A causal model as one function, from what it reads to log-probs at the trained tokens.

    It is a module so that whatever wraps modules (FSDP) sees every use of the model's weights. The
    head runs only where a token is trained, which for agents is a small part of a row, and
    `chunk` tokens at a time; a head of no form that we know (`heads.form_of`) runs everywhere.
    """

    def __init__(self, model: Any, temperature: float, chunk: int = 0) -> None:
        super().__init__()
        self.model, self.temperature, self.chunk = model, temperature, chunk
        self.form = form_of(model)

    def forward(
        self,
        inputs: Mapping[str, Any],
        row_N: Tensor,
        at_N: Tensor,
        ids_N: Tensor,
        entropy_gradient: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Log-probs of `ids_N` and entropies [N] behind the ids at (row, at) of the inputs."""
        if self.form is None:
            return read_logits(
                self.model(**inputs).logits[row_N, at_N], ids_N, self.temperature, entropy_gradient
            )
        hidden_ND = self.model.base_model(**inputs).last_hidden_state[row_N, at_N]
        return read_hidden(
            hidden_ND,
            self.model.get_output_embeddings(),
            ids_N,
            self.form,
            temperature=self.temperature,
            chunk=self.chunk,
            entropy_gradient=entropy_gradient,
        )


class Reader:
    """Reads a causal language model at the sampling temperature.

    `layout` says how rows become forward passes. Logits are there for at most `chunk` trained
    tokens at a time (0: for all of them), if the head is of a form that we know; else the first
    forward pass of more ids says on stderr that they are not. Forward passes run `within` a
    context.
    """

    def __init__(
        self,
        model: Any,
        temperature: float = 1.0,
        layout: Layout | None = None,
        chunk: int = 0,
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"log-probs need a temperature above 0, not {temperature}")
        self.model, self.temperature, self.chunk = model, temperature, chunk
        self.layout = pictured(layout or Padded(), model)
        self.work = Work()
        self.crew = Crew()
        self.within: Callable[[], AbstractContextManager[None]] = nullcontext
        self.model.eval()  # dropout would part the learner's log-probs from the sampler's
        scorer = Scorer(model, temperature, chunk)
        self.scorer: Callable[..., tuple[Tensor, Tensor]] = scorer
        self._knows_head = scorer.form is not None

    def read(
        self, batch: Batch, step: int = 0, entropy_gradient: bool = False, counts: bool = True
    ) -> Reading:
        """One forward pass, which is work unless it only keeps others company (`counts`).

        Raises `NotFinite` that names the trajectory of a bad log-prob.
        """
        sheet = self.layout.lay(batch, self.model.device)
        ids_U = torch.as_tensor(sheet.ids_U, device=self.model.device)
        row_U, at_U = self._where(sheet)
        if counts:
            self.work.add(sheet.inputs, len(sheet.ids_U))
        if not self._knows_head and 0 < self.chunk < sheet.inputs["input_ids"].numel():
            self._tell()
        with self.within():
            logp_U, entropy_U = self.scorer(sheet.inputs, row_U, at_U, ids_U, entropy_gradient)
        logp_N, entropy_N = _back(logp_U, sheet), _back(entropy_U, sheet)
        check_finite("log-prob", logp_N, batch, np.nonzero(batch.weight_BT)[0])
        return Reading(flat(batch, logp_N, step), entropy_N)

    def parts(self, batch: Batch, max_tokens: int, whole: Whole = "row") -> list[list[int]]:
        """Row numbers of micro-batches in which the model computes at most `max_tokens` ids."""
        return self.layout.parts(batch, max_tokens, whole)

    def logprobs(self, batch: Batch, max_tokens: int) -> Floats:
        """Log-probs [B, T] at the trained tokens, 0 elsewhere: a column for `Batch.extra`."""
        return self.scores(batch, max_tokens)[0]

    @torch.no_grad()
    def scores(self, batch: Batch, max_tokens: int) -> tuple[Floats, Floats]:
        """Log-probs and entropies [B, T] at the trained tokens, 0 elsewhere."""
        logp_BT, entropy_BT = np.zeros(batch.ids_BT.shape), np.zeros(batch.ids_BT.shape)
        trained = (batch.weight_BT != 0).sum(1)
        parts = [rows for rows in self.parts(batch, max_tokens) if trained[rows].any()]
        for rows, counts in self.crew.mine(parts):
            part = take(batch, rows)
            row_N, column_N = np.nonzero(part.weight_BT)
            where = np.asarray(rows)[row_N], column_N
            reading = self.crew.attempt(partial(self.read, part, counts=counts))
            if counts:
                logp_BT[where] = reading.tokens.logp_N.double().cpu().numpy()
                entropy_BT[where] = reading.entropy_N.double().cpu().numpy()
        return self.crew.total(logp_BT), self.crew.total(entropy_BT)

    @torch.no_grad()
    def hidden(self, batch: Batch) -> Tensor:
        """The last hidden state [N, D] from which each trained id is sampled."""
        sheet = self.layout.lay(batch, self.model.device)
        self.work.add(sheet.inputs, 0)
        states = self.model.base_model(**sheet.inputs).last_hidden_state
        return _back(states[self._where(sheet)], sheet)

    @torch.no_grad()
    def last_state(self, ids: Sequence[int]) -> Floats:
        """The last hidden state [D] after a prompt."""
        row = torch.tensor([list(ids)], device=self.model.device)
        self.work.add({"input_ids": row, "attention_mask": torch.ones_like(row)}, 0)
        state_D = self.model.base_model(input_ids=row, use_cache=False).last_hidden_state[0, -1]
        return state_D.double().cpu().numpy()

    def _tell(self) -> None:
        if self.crew.rank != 0:
            return
        head, model = self.model.get_output_embeddings(), self.model
        _say_once(
            f"logprob_chunk = {self.chunk} has no effect: the output head of this "
            f"{type(model).__name__}, of class {type(head).__name__}, is no linear layer scaled "
            "or capped as its config says, so a forward pass holds the logits of all its ids at "
            "once; should memory run short, lower microbatch_tokens (rows are never cut) or "
            "memory.max_context; logprob_chunk = 0 asks for no chunks and silences this"
        )

    def _where(self, sheet: Sheet) -> tuple[Tensor, Tensor]:
        device = self.model.device
        return torch.as_tensor(sheet.row_U, device=device), torch.as_tensor(
            sheet.at_U, device=device
        )


_say_once = cache(note)  # a reference model has the same to say as the policy


def _back(values_U: Tensor, sheet: Sheet) -> Tensor:
    """From the ids of a sheet to the trained ids of its batch."""
    if sheet.back_N is None:
        return values_U
    return values_U.index_select(0, torch.as_tensor(sheet.back_N, device=values_U.device))


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
