"""The worlds of `benchmarks/suites/credit.py` can be solved, and pay for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.suites import credit
from foldgym.trainers.batch import make_batch
from foldgym.types import Request


def played(world, seed, level, calls):
    play = world.start(seed, level)
    for call in calls:
        assert not play.done
        world.step(play, world.actions.index(call))
    return play


def solution(world, seed, level):
    if world.name == "key and door":
        play = world.start(seed, level)
        there = ["left", "right"] if "key was left" in play.text else ["right", "left"]
        return [there[0]] * level + ["take"] + [there[1]] * (level - 1) + ["open"]
    if world.name == "tool chain with a trap":
        kind = int(world.start(seed, level).text.split()[1].strip(","))
        return [world.actions[world._right(kind, stage)] for stage in range(level)]
    letter = world.start(seed, level).text.split()[1]
    return [f"note {letter}", *["pass"] * level, f"say {letter}"]


@pytest.mark.parametrize("world", credit.WORLDS, ids=lambda world: world.name)
@pytest.mark.parametrize("seed", range(6))
def test_a_world_can_be_solved_within_its_limit(world, seed):
    for level in world.levels:
        calls = solution(world, seed, level)
        assert len(calls) <= world.limit(level)
        play = played(world, seed, level, calls)
        assert (play.done, play.score) == (True, 1.0)
        assert world.actions[play.answer] == calls[-1]


def test_nothing_else_pays():
    door, chain, copy = credit.WORLDS
    assert not played(door, 0, 3, ["left", "right", "open", "take", "open"]).done
    assert played(chain, 0, 3, ["sell"]).score == 0.2
    first = copy.start(0, 2).text.split()[1]
    wrong = "b" if first == "a" else "a"
    early = played(copy, 0, 2, [f"note {first}", f"say {first}"])
    assert not early.done
    late = played(copy, 0, 2, [f"note {first}", "pass", f"note {wrong}", f"say {wrong}"])
    assert (late.done, late.score) == (True, 0.0)


def test_a_group_is_made_of_the_librarys_own_trajectories():
    world = credit.WORLDS[1]
    table = credit.Table(len(world.actions))
    rng = credit.np.random.default_rng(0)
    request = Request(world.name, 7, 4, kwargs={"level": 3})
    group = credit.group_of(world, table, request, 5, rng, gains=True)
    batch = make_batch([group], None)
    assert batch.logprob_BT[batch.turn_BT >= 0] == pytest.approx(-credit.np.log(6))
    assert set(batch.version_BT[batch.turn_BT >= 0]) == {5}
    for t, reward in zip(group.trajectories, group.rewards, strict=True):
        assert t.trained == len(t.turns) == len(reward.turns)
        assert reward.total == pytest.approx(reward.outcome)  # a uniform policy gains nothing


def test_one_step_of_the_table_by_hand():
    """Adam's first step moves each logit by the rate times the sign of its gradient."""
    world = credit.WORLDS[0]
    table = credit.Table(4)
    rng = credit.np.random.default_rng(1)
    request = Request(world.name, 1, 1, kwargs={"level": 3})
    batch = make_batch([credit.group_of(world, table, request, 0, rng, gains=False)], None)
    one = replace(batch, weight_BT=credit.np.where(batch.turn_BT == 0, 1.0, 0.0))
    table.ascend(one)
    action = int(batch.ids_BT[0, 1]) - credit.ROWS
    expected = [-credit.RATE] * 4
    expected[action] = credit.RATE
    assert table.logits[0] == pytest.approx(expected)
    assert (table.logits[1:] == 0).all()
