"""Probabilities and whole numbers with promises: floors hold, totals are conserved."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from foldgym.errors import ConfigError


def softmax(scores: Mapping[str, float], tau: float = 1.0) -> dict[str, float]:
    """`exp(score / tau)`, normalised, with the maximum subtracted; empty stays empty."""
    top = max(scores.values(), default=0.0)
    raised = {name: math.exp((score - top) / tau) for name, score in scores.items()}
    total = sum(raised.values())
    return {name: value / total for name, value in raised.items()}


def normalised(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights as probabilities; uniform where all are 0."""
    total = math.fsum(weights.values())
    if total <= 0:
        return dict.fromkeys(weights, 1.0 / len(weights)) if weights else {}
    return {name: weight / total for name, weight in weights.items()}


def floored(probs: Mapping[str, float], floor: float) -> dict[str, float]:
    """`floor + (1 - n floor) p`: every live arm keeps at least `floor`, and the sum stays 1.

    With so many arms that the floors alone exceed 1, all are equal.
    Source: memory and curricula spec, 5.6; against starvation as in DADS and SEC.
    """
    share = min(floor, 1.0 / len(probs)) if probs else 0.0
    return {name: share + (1.0 - share * len(probs)) * p for name, p in probs.items()}


def largest_remainder(weights: Sequence[float], total: int, least: int = 0) -> list[int]:
    """Whole numbers in proportion to `weights`, each at least `least`, that sum to `total`.

    Floors first, then one each by falling remainder; ties go to the larger weight, then to the
    earlier place. Weights of 0 throughout count as equal.
    Raises `ConfigError` when `total` does not reach for `least` each.

    >>> largest_remainder([0.5, 0.3, 0.2], 7)
    [4, 2, 1]
    """
    if not weights:
        return []
    spare = total - least * len(weights)
    if spare < 0:
        raise ConfigError(f"{total} cannot be split into {len(weights)} parts of at least {least}")
    whole = math.fsum(weights)
    exact = [spare * (w / whole if whole > 0 else 1 / len(weights)) for w in weights]
    parts = [math.floor(x + 1e-9) for x in exact]
    order = sorted(range(len(weights)), key=lambda i: (parts[i] - exact[i], -weights[i], i))
    for i in order[: spare - sum(parts)]:
        parts[i] += 1
    return [least + part for part in parts]


def systematic(probs: Mapping[str, float], total: int, rng: random.Random) -> list[str]:
    """`total` names, each either floor or ceiling of `total * p` times, in shuffled order.

    Low-variance draws whose expectation is exact, so a share of 0.5 % is not rounded away for ever
    (the starvation of DADS). One random offset; source: systematic resampling.
    """
    offset, reached, names = rng.random(), 0.0, list(probs)
    points = iter([(i + offset) / total for i in range(total)])
    chosen: list[str] = []
    point = next(points, None)
    for place, name in enumerate(names):
        reached += probs[name]
        while point is not None and (point < reached or place == len(names) - 1):
            chosen.append(name)
            point = next(points, None)
    rng.shuffle(chosen)
    return chosen
