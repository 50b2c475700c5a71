"""IGPO's information gain: how much a turn raised the probability of the gold answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Gain = Literal["prob_diff", "log_prob_diff"]


def information_gains(logprobs: Sequence[Sequence[float]], kind: Gain = "prob_diff") -> list[float]:
    """Gains [K] from the gold answer's token log-probs after each of the K + 1 prefixes.

    Prefix 0 is the prompt, prefix t the prompt and t turns with their tool results. A prefix is
    worth the geometric mean probability of the answer's tokens, `exp(mean log-prob)`
    (`"prob_diff"`), or the mean log-prob itself (`"log_prob_diff"`); a gain is the difference of
    neighbours, so gains add up to last minus first. A prefix without tokens, or with a log-prob
    that is not finite, gains 0 and keeps the value before it. Source: IGPO's code.
    """
    gains: list[float] = []
    last: float | None = None
    for place, row in enumerate(logprobs):
        usable = bool(row) and all(math.isfinite(value) for value in row)
        mean = math.fsum(row) / len(row) if usable else math.nan
        value = math.exp(mean) if usable and kind == "prob_diff" else mean
        if place:
            gains.append(value - last if usable and last is not None else 0.0)
        if usable:
            last = value
    return gains
