"""Reads log-probs of given ids in plain forward passes: no cache, no sampling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from foldgym.agents.engines.decoding import reading
from foldgym.types import Ids

_LOGITS = 1 << 26  # numbers in the logits of one pass, at most (256 MiB in fp32)


def score(
    model: Any, pairs: Sequence[tuple[Ids, Ids]], pad_id: int, temperature: float = 1.0
) -> list[tuple[float, ...]]:
    """log p(target[t] | prompt + target[:t]) for each (prompt, target), in the order given.

    Every prompt holds at least one id, else `ValueError`. Rows are batched by length and padded on
    the right, where a causal model does not look.
    """
    if not all(prompt for prompt, _ in pairs):
        raise ValueError("a prompt to score after is empty; give at least one id")
    scores: list[tuple[float, ...]] = [()] * len(pairs)
    vocab = model.config.get_text_config().vocab_size
    device = next(model.parameters()).device
    with reading(model):
        for places in _batches(pairs, max(1, _LOGITS // vocab)):
            rows = [pairs[place][0] + pairs[place][1][:-1] for place in places]
            width = max(map(len, rows))
            ids_BW = torch.tensor([row + (pad_id,) * (width - len(row)) for row in rows])
            logits_BWV = model(input_ids=ids_BW.to(device), use_cache=False).logits
            for place, logits_WV in zip(places, logits_BWV, strict=True):
                prompt, target = pairs[place]
                scores[place] = _read(logits_WV[len(prompt) - 1 :], target, temperature)
    return scores


def _read(logits_TV: Tensor, target: Ids, temperature: float) -> tuple[float, ...]:
    exact = torch.float32 if logits_TV.device.type == "mps" else torch.float64
    logprobs_TV = torch.log_softmax(logits_TV[: len(target)].to(exact) / temperature, dim=-1)
    chosen_T1 = torch.tensor(target, device=logits_TV.device).unsqueeze(1)
    return tuple(logprobs_TV.gather(1, chosen_T1).squeeze(1).tolist())


def _batches(pairs: Sequence[tuple[Ids, Ids]], tokens: int) -> Iterator[list[int]]:
    """Places of pairs with a target, longest first, at most `tokens` with padding at a time."""
    length = [len(prompt) + len(target) - 1 for prompt, target in pairs]
    order = [place for place in range(len(pairs)) if pairs[place][1]]
    order.sort(key=lambda place: -length[place])
    while order:
        count = max(1, tokens // length[order[0]])
        yield order[:count]
        order = order[count:]
