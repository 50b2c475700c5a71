"""How far an agent executes without a mistake: accuracies by turn, horizons, self-conditioning.

After "The Illusion of Diminishing Returns" (long-horizon execution). Every function takes plain
answers and sums, so that they may come from an environment's facts or from stored trajectories. A
missing answer is a wrong one; nothing is left out of a mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import cast

from foldgym.seeding import generator
from foldgym.types import Json


def turns_right(answers: Sequence[int | None], sums: Sequence[int]) -> list[bool]:
    """Turn accuracy: for each of `sums` whether that turn's answer is it."""
    return [given == wanted for given, wanted in zip(_padded(answers, sums), sums, strict=True)]


def steps_right(answers: Sequence[int | None], sums: Sequence[int], start: int = 0) -> list[bool]:
    """Step accuracy: whether each answer adds the right amount to the agent's own previous one.

    `start` is the sum before the first turn. Where the previous answer is missing, so is the step.
    """
    own: list[int | None] = [start, *_padded(answers, sums)]
    true = [start, *sums]
    right: list[bool] = []
    for turn in range(len(sums)):
        before, after = own[turn], own[turn + 1]
        if before is None or after is None:
            right.append(False)
        else:
            right.append(after - before == true[turn + 1] - true[turn])
    return right


def prefix_right(answers: Sequence[int | None], sums: Sequence[int]) -> list[bool]:
    """Prefix accuracy: whether this turn and all before it are right."""
    so_far, found = True, list[bool]()
    for right in turns_right(answers, sums):
        so_far = so_far and right
        found.append(so_far)
    return found


def _padded(answers: Sequence[int | None], sums: Sequence[int]) -> list[int | None]:
    if len(answers) > len(sums):
        raise ValueError(f"{len(answers)} answers to {len(sums)} turns")
    return [*answers, *[None] * (len(sums) - len(answers))]


def accuracy_by_turn(episodes: Sequence[Sequence[bool]]) -> list[float]:
    """Mean over episodes of equal length, turn by turn. Raises `ValueError` for none."""
    if not episodes:
        raise ValueError("the accuracy of no episodes is not defined")
    return [sum(column) / len(episodes) for column in zip(*episodes, strict=True)]


def horizon(episodes: Sequence[Sequence[bool]], level: float = 0.5) -> int | None:
    """The first turn, from 1, at which mean accuracy is below `level`; None if it never is.

    Given `prefix_right` of each episode and level 0.5 this is H50.
    """
    below = (turn for turn, mean in enumerate(accuracy_by_turn(episodes), 1) if mean < level)
    return next(below, None)


def horizon_interval(
    episodes: Sequence[Sequence[bool]],
    level: float = 0.5,
    seed: int = 0,
    samples: int = 1000,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """A bootstrap interval of `horizon` over episodes; infinity where a horizon is not reached."""
    rng = generator(seed, "horizon")
    drawn = sorted(
        float(found)
        if (found := horizon(rng.choices(episodes, k=len(episodes)), level))
        else math.inf
        for _ in range(samples)
    )
    tail = (1 - confidence) / 2
    return drawn[int(tail * samples)], drawn[min(samples - 1, int((1 - tail) * samples))]


def expected_horizon(step_accuracy: float, level: float = 0.5) -> float:
    """Turns until prefix accuracy falls to `level` if each step is right with one probability."""
    if not 0.0 < step_accuracy < 1.0:
        raise ValueError(f"step accuracy must be between 0 and 1, not {step_accuracy!r}")
    return math.log(level) / math.log(step_accuracy)


def self_conditioning(points: Sequence[tuple[float, float]]) -> float:
    """Slope of late accuracy over the rate of wrong sums in the history, by least squares.

    Below zero: an agent that sees its own mistakes makes more of them.
    """
    count = len(points)
    if len({rate for rate, _ in points}) < 2:
        raise ValueError("a slope needs at least two different rates")
    middle = sum(rate for rate, _ in points) / count
    level = sum(accuracy for _, accuracy in points) / count
    spread = sum((rate - middle) ** 2 for rate, _ in points)
    return sum((rate - middle) * (accuracy - level) for rate, accuracy in points) / spread


def summary(facts: Sequence[Mapping[str, Json]]) -> dict[str, float | None]:
    """Turn, step and prefix accuracy and H50 of episodes of `foldgym/RunningSum-v0`."""
    episodes = [
        (
            cast("list[int | None]", each["answers"]),
            cast("list[int]", each["sums"]),
            int(cast("int", each["start"])),
        )
        for each in facts
    ]
    turn = [turns_right(answers, sums) for answers, sums, _ in episodes]
    step = [steps_right(*each) for each in episodes]
    prefix = [prefix_right(answers, sums) for answers, sums, _ in episodes]
    return {
        "turn": _mean(turn),
        "step": _mean(step),
        "prefix": _mean(prefix),
        "h50": horizon(prefix),
    }


def _mean(episodes: Sequence[Sequence[bool]]) -> float:
    flat = [right for each in episodes for right in each]
    return sum(flat) / len(flat)
