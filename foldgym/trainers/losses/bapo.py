"""BAPO: clip bounds that move until positive advantages have their share of the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from foldgym.errors import ConfigError
from foldgym.trainers.losses.needs import Needs, needs
from foldgym.trainers.losses.ppo_clip import surrogate
from foldgym.trainers.losses.sequences import live
from foldgym.trainers.losses.tokens import TokenLoss, Tokens, ratio


class Range(NamedTuple):
    """Where a bound starts, ends, and by how much it moves."""

    start: float
    end: float
    step: float

    def at(self, k: int) -> float:
        """The bound after k moves; computed from k, so that nothing accumulates."""
        return min(self.end, self.start + k * self.step)

    @property
    def moves(self) -> int:
        """After how many moves the end is reached."""
        k = 0
        while self.at(k) < self.end:
            k += 1
        return k


class Bounds(NamedTuple):
    """The bounds found and the statistic at them."""

    low: float
    high: float
    statistic: float


Preset = tuple[Range, Range, float]  # low, high, target
PRESETS: dict[str, Preset] = {
    "code": (Range(0.8, 0.95, 0.05), Range(1.2, 2.0, 0.1), 0.5),
    "paper": (Range(0.6, 0.9, 0.02), Range(1.2, 3.0, 0.05), 0.4),
}


def bounds_code(
    ratio_N: Tensor, advantage_N: Tensor, low: Range, high: Range, target: float
) -> Bounds:
    """Raises the lower bound first, until positive / negative reaches `target`.

    positive = sum of `A min(r, high)` over A >= 0, negative = sum of `|A| max(r, low)` over A < 0;
    infinite without negatives.
    """

    def statistic(a: float, b: float) -> float:
        positive, negative = _shares(ratio_N, advantage_N, a, b, torch.ones_like(ratio_N))
        return positive / (negative + 1e-8) if negative else float("inf")

    i = _search(lambda k: statistic(low.at(k), high.start), low.moves, target)
    j = _search(lambda k: statistic(low.at(i), high.at(k)), high.moves, target)
    return Bounds(low.at(i), high.at(j), statistic(low.at(i), high.at(j)))


def bounds_paper(
    ratio_N: Tensor, advantage_N: Tensor, rollout_N: Tensor, low: Range, high: Range, target: float
) -> Bounds:
    """Raises the upper bound first, until positive / (positive + negative) reaches `target`.

    Contributions as in `bounds_code`, weighted by the probability `rollout_N` under the sampler;
    1 when there are none.
    """

    def statistic(a: float, b: float) -> float:
        positive, negative = _shares(ratio_N, advantage_N, a, b, rollout_N)
        return positive / (positive + negative) if positive + negative else 1.0

    j = _search(lambda k: statistic(low.start, high.at(k)), high.moves, target)
    i = _search(lambda k: statistic(low.at(k), high.at(j)), low.moves, target)
    return Bounds(low.at(i), high.at(j), statistic(low.at(i), high.at(j)))


def searched(
    tokens: Tokens,
    *,
    variant: Literal["code", "paper"] = "code",
    low: tuple[float, float, float] | None = None,
    high: tuple[float, float, float] | None = None,
    target: float | None = None,
    dual_clip: float | None = 3.0,
) -> Mapping[str, Tensor]:
    """The survey: both bounds [N], found over every token of the optimiser step."""
    del dual_clip
    preset = PRESETS[variant]
    ranges = (Range(*(low or preset[0])), Range(*(high or preset[1])))
    for name, found in zip(("low", "high"), ranges, strict=True):
        if found.step <= 0 or found.end < found.start:
            raise ConfigError(f"bapo needs {name} = [start, end, step] going up, not {found}")
    goal = preset[2] if target is None else target
    at = live(tokens) > 0
    ratio_N, advantage_N = ratio(tokens.logp_N, tokens.old_N).detach()[at], tokens.advantage_N[at]
    if variant == "code":
        found = bounds_code(ratio_N, advantage_N, *ranges, goal)
    else:
        found = bounds_paper(ratio_N, advantage_N, tokens.old_N[at].exp(), *ranges, goal)
    return {
        "bapo_low": torch.full_like(tokens.old_N, found.low),
        "bapo_high": torch.full_like(tokens.old_N, found.high),
    }


@needs(Needs(survey=searched))
def bapo(
    tokens: Tokens,
    *,
    variant: Literal["code", "paper"] = "code",
    low: tuple[float, float, float] | None = None,
    high: tuple[float, float, float] | None = None,
    target: float | None = None,
    dual_clip: float | None = 3.0,
) -> TokenLoss:
    """`max(-A r, -A clip(r, c_low, c_high))` with bounds chosen for each optimiser step.

    `low` and `high` are [start, end, step]. The released code and the paper disagree: code moves
    c_low first (0.8 to 0.95 by 0.05), then c_high (1.2 to 2.0 by 0.1), until positive / negative
    is 0.5; the paper moves c_high first (1.2 to 3.0 by 0.05), then c_low (0.6 to 0.9 by 0.02),
    until positive / total, weighted by the sampler's probability, is 0.4. Raising c_low tightens,
    raising c_high loosens. Met at the start, or without negatives: nothing moves. The statistic
    is that of the whole step, never of a micro-batch. Source: BAPO (CODE and NOTE).
    """
    options = {"variant": variant, "low": low, "high": high, "target": target}
    extra = tokens.extra if "bapo_low" in tokens.extra else searched(tokens, **options)  # pyright: ignore[reportArgumentType]
    ratio_N, low_N, high_N = (
        ratio(tokens.logp_N, tokens.old_N),
        extra["bapo_low"],
        extra["bapo_high"],
    )
    loss_N, clipped_N = surrogate(
        tokens.advantage_N, ratio_N, ratio_N.clamp(low_N, high_N), dual_clip
    )
    return TokenLoss(
        loss_N,
        {
            "clip_fraction": clipped_N.to(ratio_N.dtype),
            "ratio": ratio_N,
            "clip_low": low_N,
            "clip_high": high_N,
        },
    )


def _shares(
    ratio_N: Tensor, advantage_N: Tensor, low: float, high: float, scale_N: Tensor
) -> tuple[float, float]:
    up = advantage_N >= 0
    positive = (scale_N * advantage_N * ratio_N.clamp(max=high))[up].sum()
    negative = -(scale_N * advantage_N * ratio_N.clamp(min=low))[~up].sum()
    return float(positive), float(negative)


def _search(statistic: Callable[[int], float], moves: int, target: float) -> int:
    k = 0
    while k < moves and statistic(k) < target:
        k += 1
    return k
