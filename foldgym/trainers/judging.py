"""Rewards of a training step: episode by episode, or by group where a term looks further.

A term that needs more than its own episode (`Rubric.needs`) can only be scored when the group is
played. Then episodes are played `unscored` and `scored` gives the rewards before anything judges.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from foldgym.errors import ConfigError
from foldgym.rewards.rubric import Rubric
from foldgym.trainers.answers import AnswerReader
from foldgym.trainers.inputs import column
from foldgym.trainers.reading import Reader
from foldgym.trainers.throughput import Work
from foldgym.types import Credit, Group, Reward, Trajectory

GIVEN = ("answer_logprobs", "entropy", "group", "step")  # what a run file's rewards may need


def unscored(trajectory: Trajectory) -> Reward:
    """A placeholder until the group is complete."""
    del trajectory
    return Reward(0.0, 0.0)


def check_rewards(rubric: Rubric) -> None:
    """Raises `ConfigError` if a term needs what a run file cannot give, such as a judge."""
    missing = sorted(rubric.needs - set(GIVEN))
    if missing:
        raise ConfigError(
            f"reward.terms: one needs {', '.join(missing)}, which a run file cannot give; it gives "
            f"{', '.join(GIVEN)}. Bind it in a function of yours: `def mine(trajectory): ...`"
        )


def scored(
    groups: Sequence[Group],
    rubric: Rubric,
    step: int,
    reader: Reader,
    max_tokens: int,
    answers: AnswerReader | None = None,
) -> list[Group]:
    """The groups with the rubric's rewards; entropies and answers are read only if a term asks.

    `step` counts the updates made. Both are read under the current policy, which is the one that
    sampled.
    """
    given: dict[str, Any] = {"step": step}
    if answers is not None:
        given["answer_logprobs"] = answers.of(groups)
    if "entropy" in rubric.needs:
        judge = copy.copy(reader)
        judge.work = Work()  # what is computed here is no part of an update
        read = column(groups, lambda batch: judge.scores(batch, max_tokens)[1])
        table: dict[int, Credit] = {
            id(trajectory): credit
            for group, credits in zip(groups, read, strict=True)
            for trajectory, credit in zip(group.trajectories, credits, strict=True)
        }

        def entropy(trajectory: Trajectory) -> Credit:
            return table[id(trajectory)]

        given["entropy"] = entropy
    return [
        replace(group, rewards=rubric.score_group(group.trajectories, **given)) for group in groups
    ]
