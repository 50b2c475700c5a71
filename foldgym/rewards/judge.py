"""Rewards that rest on a judge: graded rubrics, extracted rules, an agent's own verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from foldgym.types import Trajectory

Verdict = Literal["Yes", "No"]


class Judge(Protocol):
    """Anything that says of criteria, in order, whether an episode meets them."""

    def __call__(self, trajectory: Trajectory, criteria: Sequence[str]) -> Sequence[bool]:
        """One answer per criterion; called once per episode and term."""
        ...


def rubric_score(points: Sequence[float], met: Sequence[bool | float]) -> float | None:
    """Points of the criteria met over the sum of positive points; None without positive points.

    Negative points subtract when met, and nothing is clipped. Source: HealthBench's grader, as
    used by RuscaRL (whose code gives 0 where this gives None).

    >>> rubric_score([5, 3, 2], [1, 0, 1])
    0.7
    """
    possible = sum(point for point in points if point > 0)
    if not possible:
        return None
    return sum(point for point, is_met in zip(points, met, strict=True) if is_met) / possible


def graded_rubric(trajectory: Trajectory, judge: Judge, *, key: str = "rubric") -> float:
    """`rubric_score` of `task.metadata[key]`: a list of `{"criterion": text, "points": number}`.

    The judge must not be shown which criteria the prompt revealed. Raises `ValueError` for a task
    without positive points, which has no score: drop it from the data.
    """
    items: Sequence[Mapping[str, Any]] = trajectory.task.metadata[key]
    met = judge(trajectory, [str(item["criterion"]) for item in items])
    score = rubric_score([float(item["points"]) for item in items], met)
    if score is None:
        raise ValueError(f"task {trajectory.task.id} has a rubric without positive points")
    return score


def rule_fraction(satisfied: Sequence[bool | float]) -> float:
    """Share of rules that hold, 0 without rules. Source: AutoRule's abstract."""
    return sum(map(bool, satisfied)) / len(satisfied) if satisfied else 0.0


def rule_share(trajectory: Trajectory, judge: Judge, *, rules: tuple[str, ...]) -> float:
    """`rule_fraction` of the given rules. Add it to the reward of a learned model.

    The weight of the sum is not known from the source: it is the term's weight, by default 1.
    """
    return rule_fraction(judge(trajectory, rules))


def verdict_rewards(
    scores: Sequence[float],
    judgments: Sequence[Verdict],
    thr: float = 0.7,
    match: float = 0.3,
    false_accept: float = -0.6,
    false_reject: float = -0.3,
) -> list[float]:
    """One reward per search for the agent's own verdict on what it found.

    The right verdict is Yes exactly if the reranker's score is above `thr`. Source: ReSeek's JUDGE
    (the numbers are from a third-party note). Many right No after junk queries pay too: cap them.
    """
    rewards: list[float] = []
    for score, said in zip(scores, judgments, strict=True):
        right = "Yes" if score > thr else "No"
        wrong = false_accept if said == "Yes" else false_reject
        rewards.append(match if said == right else wrong)
    return rewards
