"""How old tokens are, by hand."""

from __future__ import annotations

import pytest

from foldgym.trainers.staleness import age, lags
from foldgym.types import Group, Request, Reward, Segment, Stop, Task, Trajectory


def episode(*versions: int, trainable: bool = True) -> Trajectory:
    turn_ids = (-1, *(0 for _ in versions))
    count = len(turn_ids)
    one = Segment(turn_ids, turn_ids, (0.0,) * count, (-1, *versions), trainable=trainable)
    return Trajectory("t", "world", Task("t", ()), 0, (), (one,), Stop.DONE)


def group(*trajectories: Trajectory) -> Group:
    return Group(
        Request("world", 0, len(trajectories)),
        trajectories,
        (Reward(0.0, 0.0),) * len(trajectories),
    )


def test_ages_are_counted_over_trained_tokens() -> None:
    groups = [group(episode(5, 5, 6), episode(7)), group(episode(3, trainable=False), episode(6))]
    assert lags(groups, 7) == {
        "staleness/mean": pytest.approx(6 / 5),  # ages 2 2 1 0 1
        "staleness/max": 2.0,
        "staleness/mixed": 0.25,
        "staleness/share_0": pytest.approx(0.2),
        "staleness/share_1": pytest.approx(0.4),
        "staleness/share_2": pytest.approx(0.4),
    }
    assert [age(each, 7) for each in groups] == [2, 1]


def test_what_nobody_sampled_has_no_age() -> None:
    assert lags([group(episode(trainable=True))], 3) == {}
    assert age(group(episode(1, trainable=False)), 3) == 0
