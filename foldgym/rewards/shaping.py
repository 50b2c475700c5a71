"""Length shaping: rewards that depend on how much was written, never on what.

The length of an episode is the number of its sampled ids: counting tool output too would punish
an agent for what others say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from foldgym.rewards.outcomes import number_fact
from foldgym.types import Trajectory

Fall = Literal["linear", "triangular"]


def overlong_penalty(length: float, max_len: float, cache: float, factor: float = 1.0) -> float:
    """0 up to `max_len - cache`, then linearly down to `-factor` at `max_len`, and never below.

    Source: DAPO, soft overlong punishment (verl's reward manager; the floor beyond `max_len` is
    the paper's). A length of exactly `max_len` costs `factor`. Raises `ValueError` for a cache
    that is not in (0, max_len].

    >>> overlong_penalty(18432, 20480, 4096)
    -0.5
    """
    if not 0 < cache <= max_len:
        raise ValueError(f"overlong needs 0 < cache <= max_len, not cache={cache}, {max_len=}")
    return -factor * min(1.0, max(0.0, (length - (max_len - cache)) / cache))


def overlong(
    trajectory: Trajectory, *, max_tokens: int = 20480, cache: int = 4096, factor: float = 1.0
) -> float:
    """`overlong_penalty` of the sampled ids of an episode. Defaults as in DAPO's 32B script."""
    return overlong_penalty(trajectory.trained, max_tokens, cache, factor)


def l_grpo_rewards(
    correct: Sequence[float], lengths: Sequence[float], max_len: float, alpha: float = 1.0
) -> list[float]:
    """Rewards [G]: correctness, plus `alpha (1 - length / max_len)` if every member is correct.

    Source: ConciseR's L-GRPO. The gate is the abstract's; the length term is unverified.
    """
    gate = alpha * length_gate(correct)
    return [
        value + gate * (1.0 - length / max_len)
        for value, length in zip(correct, lengths, strict=True)
    ]


def length_gate(correct: Sequence[float]) -> float:
    """1 if every member of the group is correct, else 0: only then may brevity be paid."""
    return float(all(value == 1 for value in correct))


def l_grpo(
    trajectory: Trajectory,
    group: Sequence[Trajectory],
    *,
    max_tokens: int,
    alpha: float = 1.0,
    fact: str = "success",
) -> float:
    """The length term of L-GRPO: what is left of `max_tokens` if the whole group was right.

    Set it beside a term for correctness. It needs groups in which everyone succeeds, so a gate
    that rejects those (`sampler.use = "dapo"` on success) leaves it without effect.
    """
    correct = [number_fact(member, fact) for member in group]
    return alpha * length_gate(correct) * (1.0 - trajectory.trained / max_tokens)


def budget_at(step: int, start: float, end: float, decay: float, every: int) -> float:
    """`max(end, start * decay ** (step // every))`: never rises, and stays at `end`.

    Source: Train Long, Think Short; the formula is from memory. Raises `ValueError` unless
    `0 < end <= start`, `0 < decay <= 1` and `every >= 1`.

    >>> [budget_at(step, 256, 87, 0.5, 10) for step in (0, 9, 10, 20)]
    [256.0, 256.0, 128.0, 87.0]
    """
    if not (0 < end <= start and 0 < decay <= 1 and every >= 1):
        raise ValueError(
            "a budget needs 0 < end <= start, 0 < decay <= 1 and every >= 1, "
            f"not {start=}, {end=}, {decay=}, {every=}"
        )
    return float(max(end, start * decay ** (step // every)))


def budget_reward(length: float, limit: float, fall: Fall = "linear") -> float:
    """1 within the budget and linearly down to 0 at twice the budget; always in [0, 1].

    `"triangular"` also rises linearly from 0 to the budget, so that using it up pays best.
    Source: Train Long, Think Short; the shapes are from memory.
    """
    if length > limit:
        return max(0.0, 2.0 - length / limit)
    return length / limit if fall == "triangular" else 1.0


def budget(
    trajectory: Trajectory,
    step: int,
    *,
    start: float = 256,
    end: float = 87,
    decay: float = 0.8,
    every: int = 50,
    fall: Fall = "linear",
) -> float:
    """`budget_reward` of the sampled ids against the budget of this training step.

    A prompt that tells the budget must tell this one: `budget_at(step, ...)`.
    """
    return budget_reward(trajectory.trained, budget_at(step, start, end, decay, every), fall)


def fission_total(
    r_fmt: float, r_corr: float, r_len: float, w_fmt: float = 1.0, w_corr: float = 1.0
) -> float:
    """`(w_fmt r_fmt + w_corr r_corr + r_len) / 3`.

    Source: Fission-GRPO, through a secondary note; how the weights move is not verified.
    """
    return (w_fmt * r_fmt + w_corr * r_corr + r_len) / 3.0


def fission(
    trajectory: Trajectory,
    *,
    max_tokens: int = 20480,
    w_fmt: float = 1.0,
    w_corr: float = 1.0,
    fact: str = "score",
) -> float:
    """`fission_total` of an episode; the components are ours, the paper's are not known.

    Format is 1 if every turn could be read, correctness is a measured fact, and length is the
    unused share of `max_tokens`.
    """
    readable = float(not any(turn.problem for turn in trajectory.turns))
    unused = max(0.0, 1.0 - trajectory.trained / max_tokens)
    return fission_total(readable, number_fact(trajectory, fact), unused, w_fmt, w_corr)


def cosine_decay(step: int, total: int) -> float:
    """`(cos(pi step / total) + 1) / 2` up to `total`, then 0."""
    return (math.cos(math.pi * step / total) + 1.0) / 2.0 if step <= total else 0.0
