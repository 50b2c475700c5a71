"""Transforms in run files: named, checked before anything runs, canaries kept out of training."""

from __future__ import annotations

import pytest

from foldgym.config import TrainRun, dump, parse
from foldgym.errors import UserError
from foldgym.trainers.wiring import worlds

RUN = """
output = "runs/x"
[policy]
path = "runs/clone"
[[envs]]
name = "foldgym/FictionalSearch-v0"
transforms = [{use = "objectives", k = 4}, {use = "faults", p = 0.2}]
"""


def test_run_files_name_them() -> None:
    run = parse(TrainRun, RUN, ["envs.0.transforms.1.sticky=2"])
    (section,) = run.envs
    assert section.layers == [
        {"use": "objectives", "k": 4},
        {"use": "faults", "p": 0.2, "sticky": 2},
    ]
    assert parse(TrainRun, dump(run)) == run
    mix = worlds(run.envs, learning=True)
    assert mix.max_turns == 48 + int(2 * 48 * 2 * 0.2 / 0.8) + 1
    assert worlds(run.envs, "val").max_turns == mix.max_turns


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("envs.0.transforms.0.kk=4", "transforms.0.kk: unknown option of Objectives"),
        ("envs.0.transforms.0.use=objective", "did you mean 'objectives'"),
        ("envs.0.transforms.0.k=0", "k must be from 1 to 64, not 0"),
        ("envs.0.transforms.1={use='canary'}", "'canary' .* is for evaluation only"),
    ],
)
def test_a_wrong_transform_stops_a_run_before_it_begins(override: str, said: str) -> None:
    run = parse(TrainRun, RUN, [override])
    with pytest.raises(UserError, match=said):
        worlds(run.envs, learning=True)


def test_a_canary_may_be_measured() -> None:
    run = parse(TrainRun, RUN, ["envs.0.transforms.1={use='canary'}"])
    assert worlds(run.envs, "val").max_turns == 48
