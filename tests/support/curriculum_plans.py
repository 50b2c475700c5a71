"""What tests of curricula share: two arms, made-up results, a plan after them."""

from __future__ import annotations

from typing import Any

from foldgym.testing.curricula import run_step
from foldgym.trainers.samplers.stats import Result, abs_advantages

TWO = {"a": 1.0, "b": 1.0}


def result(arm: str, scores: tuple[float, ...], version: int = 0, **kwargs: Any) -> Result:
    return Result(arm, 1, kwargs, scores, abs_advantages(scores), version)


def plan_after(
    sampler: Any, rates: dict[str, float], steps: int = 4, want: int = 8
) -> dict[str, float]:
    for step in range(1, steps + 1):
        run_step(sampler, step, want, lambda request, guide: rates[request.arm or request.env])
    return sampler._selector.probs(sampler._desk("selector"))
