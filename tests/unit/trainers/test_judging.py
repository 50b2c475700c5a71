"""Rewards that look at the step, the group or the policy."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from foldgym.errors import ConfigError
from foldgym.rewards import REWARDS, Rubric, Term
from foldgym.trainers.judging import check_rewards, scored, unscored
from foldgym.trainers.reading import Reader
from foldgym.types import Group, Request

BRIEF = Term("brief", partial(REWARDS["l_grpo"], max_tokens=10))


@pytest.fixture
def groups(by_hand):
    """Two groups as a rollout leaves them: both right in the first, one wrong in the second."""

    def played(*episodes):
        return Group(Request("w", 1, len(episodes)), episodes, tuple(map(unscored, episodes)))

    short = by_hand.trajectory([-1, 0, 0], name="a", success=1.0, score=1.0)
    longer = by_hand.trajectory([-1, 0, 0, -1, 1, 1], name="b", success=1.0, score=1.0)
    wrong = by_hand.trajectory([-1, 0], name="c", success=0.0, score=0.0)
    return [played(short, longer), played(short, wrong)]


def test_group_terms_see_their_own_group_only(by_hand, groups):
    rubric = Rubric([Term("score", REWARDS["env_score"]), BRIEF])
    reader = Reader(by_hand.tiny().model)
    first, second = scored(groups, rubric, 3, reader, 4096)
    assert [r.total for r in first.rewards] == pytest.approx([1.8, 1.6])
    assert [r.total for r in second.rewards] == [1.0, 0.0]


def test_the_step_moves_a_schedule(by_hand, groups):
    fading = partial(REWARDS["budget"], start=2, end=1, decay=0.5, every=1)
    reader = Reader(by_hand.tiny().model)
    totals = [
        scored(groups[:1], Rubric([Term("fading", fading)]), step, reader, 4096)[0].rewards
        for step in (0, 1)
    ]
    # budgets 2 and 1: two ids are within the first and twice the second
    assert [rewards[0].total for rewards in totals] == [1.0, 0.0]


def test_entropies_are_read_from_the_policy(by_hand, groups):
    model = by_hand.tiny().model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # every id is then equally likely
    pear = Term("pear", partial(REWARDS["pear"], close=-1, base=5.0))
    reward = scored(groups[:1], Rubric([pear]), 0, Reader(model), 4096)[0].rewards[0]
    assert reward.total == pytest.approx(min(1.0, 5.0 - math.log(64)))


def test_a_run_file_cannot_bring_a_judge():
    check_rewards(Rubric([BRIEF]))
    graded = Term("graded", REWARDS["graded_rubric"])
    with pytest.raises(ConfigError, match="one needs judge, which a run file cannot give"):
        check_rewards(Rubric([graded]))
