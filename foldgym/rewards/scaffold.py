"""RuscaRL's scaffold: how much of a rubric a group member is shown, less and less."""

from __future__ import annotations

import math

from foldgym.seeding import generator


def scaffold_ratio(
    member: int,
    size: int,
    step: int,
    total: int,
    start: float = 0.2,
    steepness: float = 125.0,
) -> float:
    """Share of the rubric that member `member` (from 0) of `size` sees at step `step` (from 1).

    `(size - 1 - member) / (size - 1)` times a sigmoid that falls around the share `start` of
    training; a group of one sees everything. Source: RuscaRL's code. The last member of a group is
    never helped, and the ratio falls with the member and with the step.
    """
    if size == 1:
        return 1.0
    done = min(1.0, max(0.0, (step - 1) / (total - 1))) if total > 1 else 1.0
    exponent = min(700.0, steepness * (done - start))  # exp of more overflows
    return max(0.0, (size - 1 - member) / (size - 1)) / (1.0 + math.exp(exponent))


def revealed(ratio: float, criteria: int, seed: int, member: int) -> list[int]:
    """Which criteria are shown: `round(ratio * criteria)` of them, drawn for this member, sorted.

    Python's rounding, half to even, as in the source.
    """
    rng = generator(seed, "scaffold", member)
    return sorted(rng.sample(range(criteria), round(ratio * criteria)))
