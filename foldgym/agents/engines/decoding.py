"""What every decoder shares: seats, rows, drawing an id from logits, and when a row is over."""

from __future__ import annotations

import inspect
import math
import random
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from foldgym.types import Finish, Ids, Picture


@dataclass(slots=True, eq=False)
class Seat:
    """An engine's side of one session. `held` are the ids whose keys and values are kept.

    Sessions of one episode share its `number` and are told apart by `branch`.
    """

    number: int
    rng: random.Random
    branch: int = 0
    held: list[int] = field(default_factory=list[int])
    slot: int = -1
    cache: Any = None
    closed: bool = False

    @property
    def key(self) -> tuple[int, int]:
        """Which session this is; keys sort in the order of opening, episode by episode."""
        return self.number, self.branch

    @property
    def name(self) -> str:
        """For messages: `3`, or `3.1` for a further session of the same episode."""
        return f"{self.number}.{self.branch}" if self.branch else f"{self.number}"


@dataclass(slots=True, eq=False)
class Row:
    """One completion in the making; it may become `limit` tokens long.

    `version` are the weights that it is sampled by now, `versions` those of each of its ids.
    `seated` is false while a decoder has yet to take it up, or has to again.
    """

    seat: Seat
    prompt: Ids
    temperature: float
    limit: int
    ids: list[int] = field(default_factory=list[int])
    logprobs: list[float] = field(default_factory=list[float])
    versions: list[int] = field(default_factory=list[int])
    version: int = 0
    seated: bool = False
    finish: Finish | None = None
    error: str = ""
    cause: Exception | None = None
    dropped: bool = False  # nobody waits for it any more
    pictures: tuple[Picture, ...] = ()  # among the ids of the prompt

    @property
    def context(self) -> Ids:
        """All that the next id depends on."""
        return (*self.prompt, *self.ids)

    @property
    def over(self) -> bool:
        """Nothing more will be sampled."""
        return self.dropped or self.finish is not None or bool(self.error)


@dataclass(slots=True)
class Counters:
    """Prompt tokens computed and kept from earlier turns, padding, sampled tokens, forwards, time.

    `reused / (reused + prefilled)` is the share of the prompts that was not computed again.
    """

    prefilled: int = 0
    reused: int = 0
    padded: int = 0
    decoded: int = 0
    forwards: int = 0
    seconds: float = 0.0


class Decoder(Protocol):
    """Computes prompts and samples, many rows at a time.

    `admit` takes up rows and samples their next token, `step` one more for every live row; both
    return the rows that ended thereby. `forget` drops all rows and everything held; a row that was
    dropped half-way may be admitted again and goes on from its last id.
    """

    counters: Counters

    @property
    def live(self) -> int:
        """Rows that are still sampling."""
        ...

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Take up rows; closed seats give back what they hold."""
        ...

    def step(self) -> list[Row]:
        """One more token for every live row."""
        ...

    def forget(self) -> None:
        """The weights changed, or a forward pass failed half-way."""
        ...


def draw(
    logits_BV: Tensor, temperatures: Sequence[float], uniforms: Sequence[float]
) -> tuple[list[int], list[float]]:
    """One id per row, by inverting its distribution function at the row's own uniform number.

    Returns ids and their log-probs under the tempered distribution; NaN where the logits were
    NaN or +inf. Temperature 0 takes the likeliest id, whose log-prob is 0: it was certain.
    """
    exact = torch.float32 if logits_BV.device.type == "mps" else torch.float64
    heat_B1 = torch.tensor(temperatures, dtype=exact, device=logits_BV.device).unsqueeze(1)
    uniform_B1 = torch.tensor(uniforms, dtype=exact, device=logits_BV.device).unsqueeze(1)
    greedy_B1 = heat_B1 == 0
    best_B1 = logits_BV.argmax(-1, keepdim=True)
    scaled_BV = (logits_BV - logits_BV.gather(1, best_B1)).to(exact)
    scaled_BV /= heat_B1.masked_fill(greedy_B1, 1.0)
    mass_BV = scaled_BV.exp().cumsum(-1)
    total_B1 = mass_BV[:, -1:].contiguous()
    found_B1 = torch.searchsorted(mass_BV, uniform_B1 * total_B1, right=True)
    chosen_B1 = torch.where(greedy_B1, best_B1, found_B1.clamp_(max=logits_BV.shape[1] - 1))
    logprob_B1 = scaled_BV.gather(1, chosen_B1) - total_B1.log()
    logprob_B1 = torch.where(greedy_B1, total_B1 * 0, logprob_B1)  # NaN stays NaN
    return chosen_B1.squeeze(1).tolist(), logprob_B1.squeeze(1).tolist()


@contextmanager
def reading(model: nn.Module) -> Generator[None]:
    """No gradients and no dropout inside; afterwards every module trains again if it did."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in training:
            module.training = True


class RowSampler:
    """Base of the decoders: the model, the counters, and what happens to a row's logits."""

    def __init__(self, model: Any, stop_ids: Sequence[int]) -> None:
        self.counters = Counters()
        self.model = model
        self._stops = frozenset(stop_ids)
        weight = next(model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        takes = inspect.signature(model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}

    @contextmanager
    def _working(self) -> Generator[None]:
        started = time.perf_counter()
        with reading(self.model):
            yield
        self.counters.seconds += time.perf_counter() - started

    def _forward(self, ids_BW: Tensor, **inputs: Any) -> Any:
        self.counters.forwards += 1
        return self.model(input_ids=ids_BW, use_cache=True, **inputs, **self._last_only)

    def _extend(self, rows: Sequence[Row], logits_BV: Tensor) -> list[Row]:
        """Give every row one more id, unless it is over; returns the rows that ended thereby."""
        going = [not row.over for row in rows]
        heats = [row.temperature for row in rows]
        uniforms = [
            row.seat.rng.random() if goes and row.temperature else 0.0
            for row, goes in zip(rows, going, strict=True)
        ]
        drawn = zip(rows, going, *draw(logits_BV, heats, uniforms), strict=True)
        ended: list[Row] = []
        for row, goes, token, logprob in drawn:
            if not goes:
                continue
            if not math.isfinite(logprob):
                row.error = (
                    f"session {row.seat.name}: the model's logits are not finite after "
                    f"{len(row.prompt) + len(row.ids)} tokens; its weights are broken"
                )
            else:
                row.ids.append(token)
                row.logprobs.append(logprob)
                row.versions.append(row.version)
                self.counters.decoded += 1
                if token in self._stops:
                    row.finish = Finish.STOP
                elif len(row.ids) >= row.limit:
                    row.finish = Finish.LENGTH
                else:
                    continue
            ended.append(row)
        return ended
