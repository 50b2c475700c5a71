import json
from dataclasses import replace

import numpy as np
import pytest

from foldgym.errors import ConfigError
from foldgym.trainers.advantages import dr_grpo
from foldgym.trainers.batch import make_batch
from foldgym.trainers.crediting import REPLAYED, imitating, joined
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import clip_cov, ppo_clip
from foldgym.trainers.optim import Optim
from foldgym.trainers.reading import Reader
from foldgym.trainers.replay import RecentPolicies, SelfImitation, capacity
from foldgym.types import Guide, Message, ToolCall


def used(trajectory, tool=True):
    """The same trajectory, its turns calling a tool."""
    calls = (ToolCall("search"),) if tool else ()
    turns = tuple(
        replace(t, message=Message("assistant", "x", tool_calls=calls)) for t in trajectory.turns
    )
    return replace(trajectory, turns=turns)


def step_of(by_hand, name, rewards=(1.0, 0.0), tool=True):
    members = [
        used(by_hand.trajectory([-1, 0, 0], name=f"{name}{i}"), tool) for i in range(len(rewards))
    ]
    return [by_hand.group(rewards, *members)]


def through_json(state):
    return json.loads(json.dumps(state))


# ---------------------------------------------------------------- SPEAR


def full(by_hand, **options):
    """Three steps of one group of two, the better member worth 1, 2 and 3."""
    buffer = SelfImitation(size=1, steps=10, **options)
    for step, best in enumerate((1.0, 2.0, 3.0)):
        groups = step_of(by_hand, f"s{step}m", (best, 0.0))
        buffer.store(groups, dr_grpo(groups), step)
    return buffer


def test_spear_replays_what_beats_the_median_and_starts_anew(by_hand):
    buffer = full(by_hand)
    extra = buffer.extra(5)
    assert extra is not None
    # group means 0.5, 1, 1.5: the median is 1; winners 1, 2, 3 minus 1, without the 0
    assert [t.id for t in extra.groups[0].trajectories] == ["s1m0", "s2m0"]
    assert [credit[0][-1] for credit in extra.credits[0]] == [1.0, 2.0]
    assert [credit[0][0] for credit in extra.credits[0]] == [0.0, 0.0]
    assert extra.scale == pytest.approx(0.5)  # (1 - cos(pi 5 / 10)) / 2
    assert buffer.extra(5) is None
    assert buffer.again(5, 8) == []


def test_spear_forgets_what_is_too_old(by_hand):
    assert full(by_hand, tolerate=2).extra(4) is None  # only the step 2 is left, which is not > 1.5
    assert [t.id for t in full(by_hand, tolerate=3).extra(4).groups[0].trajectories] == [
        "s1m0",
        "s2m0",
    ]


def test_spear_takes_no_talker_no_loser_and_no_guided(by_hand):
    buffer = SelfImitation(size=1)
    talk = step_of(by_hand, "a", tool=False)
    lost = step_of(by_hand, "b", (0.5, 0.5))
    helped = [
        replace(g, request=replace(g.request, guides=(Guide(hint="look left"),)))
        for g in step_of(by_hand, "c")
    ]
    for groups in (talk, lost, helped):
        buffer.store(groups, dr_grpo(groups), 0)
    assert buffer.state()["kept"] == []
    assert buffer.state()["means"] == [0.5, 0.5, 0.5]


def test_spear_continues_from_its_state(by_hand):
    buffer, other = full(by_hand), SelfImitation(size=1, steps=10)
    other.load(through_json(buffer.state()))
    assert other.state() == buffer.state()
    one, two = buffer.extra(5), other.extra(5)
    assert one.groups == two.groups
    assert one.scale == two.scale


@pytest.mark.parametrize("options", [{"tolerate": 11}, {"tolerate": 0}, {"size": 0}, {"coef": 0.0}])
def test_spear_refuses_what_makes_no_sense(options):
    with pytest.raises(ConfigError, match="replay"):
        SelfImitation(**options)


# ---------------------------------------------------------------- ReMix


def test_remix_mixes_the_last_policies_in_their_share(by_hand):
    buffer = RecentPolicies(policies=2, share=0.4, until=50)
    assert buffer.again(0, 3) == []
    for step in range(3):
        buffer.store(step_of(by_hand, f"s{step}"), (), step)
    # 0.4 / 0.6 of 3 fresh groups are 2, and the oldest step is forgotten
    names = [g.trajectories[0].id for g in buffer.again(3, 3)]
    assert names == ["s10", "s20"]
    assert len(buffer.again(3, 1)) == 1
    assert buffer.again(3, 1) == buffer.again(3, 1)
    assert buffer.again(50, 3) == []


def test_remix_continues_from_its_state(by_hand):
    buffer, other = RecentPolicies(seed=3), RecentPolicies(seed=3)
    for step in range(2):
        buffer.store([*step_of(by_hand, f"a{step}"), *step_of(by_hand, f"b{step}")], (), step)
    other.load(through_json(buffer.state()))
    assert other.again(2, 3) == buffer.again(2, 3)
    assert other.again(2, 3)[0].trajectories[0].segments[0].logprobs == (0.0, -0.5, -0.5)
    assert other.state() == buffer.state()


def test_capacity_by_hand():
    free = {"version": 10, "batch": 8, "accepted": 100, "running": 12, "max_concurrent": 64}
    assert capacity(max_staleness=4, **free) == 8  # 15 * 8 - 112
    assert capacity(max_staleness=40, **free) == 52  # 64 - 12


# ---------------------------------------------------------------- in a batch


def two_batches(by_hand):
    groups = [
        by_hand.group(
            [1.0, 0.0],
            by_hand.trajectory([-1, 0, 0], [-1, -1, -1, 1], name="a"),
            by_hand.trajectory([-1, 0], name="b"),
        )
    ]
    old = [by_hand.group([2.0], by_hand.trajectory([-1, -1, 0, 0, 0], name="c"))]
    first = make_batch(groups, dr_grpo(groups))
    return first, make_batch(old, None)


def test_joined_batches_keep_their_denominators(by_hand):
    first, second = two_batches(by_hand)
    both = joined(first, second, 0.5)
    assert both.names == ("a", "b", "c")
    assert both.row_trajectory_B.tolist() == [0, 0, 1, 2]
    assert both.row_group_B.tolist() == [0, 0, 0, 1]
    assert both.weight_BT[:3].sum() == pytest.approx(1)
    assert both.weight_BT[3].tolist() == pytest.approx([0, 0, 1 / 6, 1 / 6, 1 / 6])
    assert both.turn_BT[0].tolist() == [-1, 0, 0, -1, -1]
    assert both.extra[REPLAYED][:, 0].tolist() == [0, 0, 0, 1]
    alone = joined(make_batch([]), second, 1.0)
    assert alone.weight_BT.sum() == pytest.approx(1)


def test_the_loss_of_both_is_the_sum(by_hand):
    policy, (first, second) = by_hand.tiny(), two_batches(by_hand)
    reader = Reader(policy.model)
    own = reader.read(first).tokens, reader.read(second).tokens
    expected = (own[0].weight_N * ppo_clip(own[0]).loss_N).sum() + 0.25 * (
        own[1].weight_N * clip_cov(own[1], share=0.02, lower=1.0, upper=40.0).loss_N
    ).sum()
    batch = joined(first, second, 0.25)
    metrics = TorchLearner(policy, imitating(ppo_clip), Optim(lr=0.0, warmup=0)).update(batch)
    assert metrics["loss"] == pytest.approx(expected.item())
    policy = by_hand.tiny()
    tight = Optim(lr=0.0, warmup=0, microbatch_tokens=5)
    parts = TorchLearner(policy, imitating(ppo_clip), tight).update(batch)
    assert parts == pytest.approx(metrics)
    assert np.isfinite(metrics["grad_norm"])
