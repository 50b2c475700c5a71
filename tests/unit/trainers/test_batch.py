from dataclasses import replace

import numpy as np
import pytest

from foldgym.errors import Bug, ConfigError, NotFinite, UnknownName
from foldgym.seeding import generator
from foldgym.trainers.advantages import broadcast, dr_grpo
from foldgym.trainers.batch import make_batch, minibatches, split, take
from foldgym.types import Stop


def two_groups(by_hand):
    """Trajectory a folded once (2 + 2 trained ids), b has 1, c has 3, d has none."""
    a = by_hand.trajectory([-1, 0, 0], [-1, -1, 1, 1], name="a")
    b = by_hand.trajectory([-1, -1, 0], name="b")
    c = by_hand.trajectory([-1, 0, -1, 1, 1], name="c")
    d = by_hand.trajectory([-1, -1], name="d")
    return [by_hand.group([1.0, 0.0], a, b), by_hand.group([1.0, 0.0], c, d)]


def test_columns_by_hand(by_hand):
    batch = make_batch(two_groups(by_hand), dr_grpo(two_groups(by_hand)))
    assert batch.rows == 4
    assert batch.names == ("a", "b", "c", "d")
    assert batch.turn_BT.tolist() == [
        [-1, 0, 0, -1, -1],
        [-1, -1, 1, 1, -1],
        [-1, -1, 0, -1, -1],
        [-1, 0, -1, 1, 1],
    ]
    assert batch.length_B.tolist() == [3, 4, 3, 5]
    assert batch.row_trajectory_B.tolist() == [0, 0, 1, 2]
    assert batch.row_group_B.tolist() == [0, 0, 0, 1]
    sampled = batch.turn_BT >= 0
    assert batch.advantage_BT[sampled].tolist() == [0.5] * 4 + [-0.5] + [0.5] * 3
    assert (batch.logprob_BT[sampled] == -0.5).all()
    for column in (batch.advantage_BT, batch.logprob_BT, batch.weight_BT):
        assert (column[~sampled] == 0).all()
    assert (batch.version_BT == np.where(sampled, 0, -1)).all()
    first = two_groups(by_hand)[0].trajectories[0].segments[0]
    assert tuple(batch.ids_BT[0, :3]) == first.token_ids


@pytest.mark.parametrize(
    ("mode", "norm", "per_token"),
    [
        ("token-mean", None, [1 / 8, 1 / 8, 1 / 8]),  # 8 trained ids
        ("seq-mean-token-mean", None, [1 / 12, 1 / 3, 1 / 9]),  # 3 trajectories of 4, 1, 3
        ("seq-mean-token-sum", None, [1 / 3] * 3),
        ("seq-mean-token-sum-norm", 10, [1 / 10] * 3),
        ("dr-grpo", 10, [1 / 40] * 3),  # d, without a trained id, counts
    ],
)
def test_weights_by_hand(by_hand, mode, norm, per_token):
    batch = make_batch(two_groups(by_hand), None, mode, norm=norm)
    expected = np.where(batch.turn_BT >= 0, np.take(per_token, batch.row_trajectory_B)[:, None], 0)
    assert batch.weight_BT == pytest.approx(expected)


def test_a_constant_is_asked_for_exactly_when_it_is_used(by_hand):
    groups = two_groups(by_hand)
    with pytest.raises(ConfigError, match="needs the constant"):
        make_batch(groups, None, "dr-grpo")
    with pytest.raises(ConfigError, match="has no use for norm=5"):
        make_batch(groups, None, "token-mean", norm=5)
    with pytest.raises(ConfigError, match="must be positive"):
        make_batch(groups, None, "dr-grpo", norm=0)
    with pytest.raises(UnknownName, match="did you mean 'token-mean'"):
        make_batch(groups, None, "token_mean")


def test_what_becomes_of_trajectories_without_credit(by_hand):
    taught, solved = two_groups(by_hand)
    solved = by_hand.group([1.0, 1.0], *solved.trajectories)
    groups = [taught, solved]
    credits = dr_grpo(groups)
    keep = make_batch(groups, credits, "token-mean")
    skip = make_batch(groups, credits, "token-mean", zero="skip")
    exclude = make_batch(groups, credits, "token-mean", zero="exclude")
    assert (keep.rows, skip.rows, exclude.rows) == (4, 3, 3)
    assert keep.weight_BT.max() == skip.weight_BT.max() == 1 / 8
    assert exclude.weight_BT.max() == 1 / 5
    assert exclude.names == ("a", "b")


def test_exclude_keeps_a_member_at_the_mean_of_a_group_that_teaches(by_hand):
    three = [by_hand.trajectory([-1, 0], name=name) for name in "abc"]
    groups = [by_hand.group([1.0, 0.5, 0.0], *three)]
    batch = make_batch(groups, dr_grpo(groups), zero="exclude")
    assert batch.weight_BT.max() == pytest.approx(1 / 3)


def test_context_weight(by_hand):
    trajectory = by_hand.trajectory([-1, -1, 0, -1])
    batch = make_batch([by_hand.group([0.0], trajectory)], None, context_weight=0.25)
    assert batch.weight_BT.tolist() == [[0, 0.25 / 1.5, 1 / 1.5, 0.25 / 1.5]]
    assert (batch.advantage_BT == 1).all()


def test_rows_that_must_not_be_trained(by_hand):
    aside = by_hand.segment([-1, 0, 0], trainable=False)
    trajectory = by_hand.trajectory([-1, -1], aside, [-1, 0])
    batch = make_batch([by_hand.group([1.0], trajectory)])
    assert batch.rows == 1
    assert batch.weight_BT.tolist() == [[0, 1]]


def test_an_empty_batch(by_hand):
    for groups in ([], [by_hand.group([1.0], by_hand.trajectory([-1, -1]))]):
        batch = make_batch(groups)
        assert batch.ids_BT.shape == (0, 0)
        assert split(batch, 10) == []
        assert minibatches(batch, 2, generator(0)) == [batch]


def test_refusals_name_the_trajectory(by_hand):
    def batch(*segments, **more):
        return make_batch([by_hand.group([1.0], by_hand.trajectory(*segments, name="bad", **more))])

    nameless = by_hand.segment([-1, 0], logprob=float("nan"))
    with pytest.raises(
        NotFinite, match=r"segment 1 of trajectory bad.*at 1 has no finite log-prob"
    ):
        batch([-1, 0], nameless)
    with pytest.raises(Bug, match="trajectory bad failed"):
        batch([-1, 0], stop=Stop.ERROR)
    with pytest.raises(Bug, match="begins with a sampled id"):
        batch([0, 0])


def test_credit_must_fit(by_hand):
    group = by_hand.group([1.0], by_hand.trajectory([-1, 0, 0], [-1, 1], name="bad"))
    good = broadcast(group.trajectories[0], 1.0)
    with pytest.raises(Bug, match="bad has 2 segments, but credit for 1"):
        make_batch([group], ((good[:1],),))
    with pytest.raises(Bug, match=r"segment 0 of trajectory bad has 3 ids.*shape \(2,\)"):
        make_batch([group], (((good[0][:2], good[1]),),))
    with pytest.raises(NotFinite, match="bad: the sampled id at 1 has no finite credit"):
        make_batch([group], (((good[0], good[1] + np.inf),),))
    with pytest.raises(Bug, match="0 credits for the 1"):
        make_batch([group], ((),))


def test_micro_batches_hold_every_row_once_within_the_budget(by_hand):
    batch = make_batch(two_groups(by_hand))  # lengths 3, 4, 3, 5
    assert split(batch, 9) == [[3], [1, 0], [2]]
    assert split(batch, 1) == [[3], [1], [0], [2]]
    assert split(batch, 100) == [[3, 1, 0, 2]]
    assert split(batch, 9, "trajectory") == [[3], [0, 1], [2]]
    assert split(batch, 12, "group") == [[3], [0, 1, 2]]
    assert split(batch, 1, "batch") == [[0, 1, 2, 3]]


def test_take_trims_every_column(by_hand):
    batch = make_batch(two_groups(by_hand))
    batch = replace(batch, extra={"reference": batch.weight_BT})
    part = take(batch, [2, 0])
    assert part.ids_BT.shape == (2, 3)
    assert part.names == batch.names
    assert part.row_trajectory_B.tolist() == [1, 0]
    assert part.extra["reference"].tolist() == batch.weight_BT[[2, 0], :3].tolist()


def test_minibatches_hold_whole_groups_and_keep_the_gradient_unbiased(by_hand):
    groups = [two_groups(by_hand)[0]] * 5
    batch = make_batch(groups)
    parts = minibatches(batch, 2, generator(0))
    assert sorted(part.rows for part in parts) == [6, 9]
    assert sorted(g for part in parts for g in set(part.row_group_B)) == [0, 1, 2, 3, 4]
    total = sum(part.weight_BT.sum() for part in parts)
    assert total == pytest.approx(2 * batch.weight_BT.sum())
    assert len(minibatches(batch, 1, generator(0))) == 1
    assert len(minibatches(batch, 9, generator(0))) == 5


def test_groups_that_weigh_nothing_are_no_part_of_a_step(by_hand):
    """Roles may weigh 0, and then a whole group may: alone it would be a step without numbers."""
    batch = make_batch([two_groups(by_hand)[0]] * 3)
    weight_BT = np.where(batch.row_group_B[:, None] == 1, 0.0, batch.weight_BT)
    parts = minibatches(replace(batch, weight_BT=weight_BT), 3, generator(0))
    assert [set(part.row_group_B) for part in parts] in ([{0}, {2}], [{2}, {0}])
    total = sum(part.weight_BT.sum() for part in parts)
    assert total == pytest.approx(2 * weight_BT.sum())
