import math

import numpy as np
import pytest

from foldgym.errors import Bug, NotFinite
from foldgym.trainers.advantages import ADVANTAGES, broadcast, dr_grpo, grpo, per_turn, rloo
from foldgym.types import Group, Request, Reward

PLAIN = ("grpo", "dr_grpo", "rloo")


def scalars(credits):
    """One advantage per trajectory of the first group: the value on its sampled ids."""
    return [float(credit[0][-1]) for credit in credits[0]]


def test_grpo_by_hand(by_hand):
    group = by_hand.group([1.0, 0.0, 0.0, 1.0])  # mean 1/2, variance 1/3 (sample), 1/4 (population)
    high, std = 3**0.5 / 2, 3**-0.5
    assert scalars(grpo([group], eps=0.0)) == pytest.approx([high, -high, -high, high])
    assert scalars(grpo([group], ddof=0, eps=0.0)) == pytest.approx([1, -1, -1, 1])
    assert scalars(grpo([group], eps=1.0))[0] == pytest.approx(0.5 / (std + 1))


def test_dr_grpo_and_rloo_by_hand(by_hand):
    group = by_hand.group([1.0, 0.0, 0.0, 0.0])
    assert scalars(dr_grpo([group])) == pytest.approx([0.75, -0.25, -0.25, -0.25])
    assert scalars(rloo([group])) == pytest.approx([1.0, -1 / 3, -1 / 3, -1 / 3])


def test_groups_do_not_see_each_other(by_hand):
    first, second = by_hand.group([1.0, 0.0]), by_hand.group([5.0, 1.0])
    credits = dr_grpo([first, second])
    assert scalars(credits) == [0.5, -0.5]
    assert scalars(credits[1:]) == [2.0, -2.0]


@pytest.mark.parametrize("name", PLAIN)
def test_equal_rewards_give_exactly_zero(by_hand, name):
    group = by_hand.group([0.1, 0.1, 0.1])  # the float mean of these is not 0.1
    assert scalars(ADVANTAGES[name]([group])) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", PLAIN)
def test_a_group_of_one_and_an_empty_group(by_hand, name):
    assert scalars(ADVANTAGES[name]([by_hand.group([0.7])])) == [0.0]
    assert scalars(ADVANTAGES[name]([by_hand.group([0.7])], singleton="raw")) == [0.7]
    assert ADVANTAGES[name]([Group(Request("world", 1), (), ())]) == ((),)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_reward_that_is_not_finite_names_trajectory_and_term(by_hand, name, bad):
    good = by_hand.group([1.0, 0.0])
    rewards = (Reward(bad, bad, parts={"em": 1.0, "cost": bad}), Reward(0.0, 0.0))
    with pytest.raises(NotFinite, match=r"trajectory t0 .*\(term cost\)"):
        ADVANTAGES[name]([Group(good.request, good.trajectories, rewards)])


def test_credit_lies_on_sampled_ids_only(by_hand):
    aside = by_hand.segment([-1, 1, 1], trainable=False)
    trajectory = by_hand.trajectory([-1, 0, -1, 1], aside, [-1, -1, 2])
    assert [c.tolist() for c in broadcast(trajectory, 2.0)] == [
        [0.0, 2.0, 0.0, 2.0],
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 2.0],
    ]
    assert [c.tolist() for c in per_turn(trajectory, [3.0, 4.0, 5.0])] == [
        [0.0, 3.0, 0.0, 4.0],
        [0.0, 0.0, 0.0],
        [0.0, 0.0, 5.0],
    ]


def test_per_turn_wants_one_value_per_turn(by_hand):
    with pytest.raises(Bug, match="2 turns, but 3 turn values"):
        per_turn(by_hand.trajectory([-1, 0, 1]), [1.0, 2.0, 3.0])


def test_rewards_are_not_changed(by_hand):
    group = by_hand.group([1.0, 0.0])
    grpo([group], singleton="raw")
    assert [r.total for r in group.rewards] == [1.0, 0.0]
    assert np.isfinite(scalars(grpo([group]))).all()
