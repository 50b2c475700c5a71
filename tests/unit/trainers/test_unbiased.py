"""Whether an estimator is unbiased, decided exactly: by the mean over every possible group.

Nothing is sampled. The world is the benchmark's with shorter episodes, which differ in turns and
in segments; groups have two members.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from foldgym.config import load_module
from foldgym.types import Group, Request

suite = load_module(str(Path(__file__).parents[3] / "benchmarks" / "suites" / "estimators.py"))
PI = suite.policy()
TASK = suite.episodes(PI, 1, 0.3, turns=3)


def mean_estimate(gradient):
    total = np.zeros(suite.WIDTH)
    for one in TASK:
        for two in TASK:
            pair = [one, two]
            group = Group(
                Request("rooms", 0, 2),
                tuple(e.trajectory for e in pair),
                tuple(e.reward for e in pair),
            )
            total += one.chance * two.chance * gradient([pair], [group])
    return total


def expected_return(logits):
    pi = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return sum(e.chance * e.reward.total for e in suite.episodes(pi, 1, 0.3, turns=3))


TRUTH = suite.true_gradient([TASK])


def test_the_world_adds_up():
    assert sum(e.chance for e in TASK) == pytest.approx(1.0)
    assert {len(e.actions) for e in TASK} == {1, 2, 3}
    assert {len(e.trajectory.segments) for e in TASK} == {1, 2, 3}


def test_the_true_gradient_agrees_with_finite_differences():
    logits = np.log(PI)
    for place in [(2, 0), (4, 1), (6, 2), (3, 1)]:
        up, down = logits.copy(), logits.copy()
        up[place] += 1e-5
        down[place] -= 1e-5
        slope = (expected_return(up) - expected_return(down)) / 2e-5
        assert TRUTH[3 * place[0] + place[1]] == pytest.approx(slope, abs=1e-8)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rloo", {}),
        ("turn_loo", {}),
        ("turn_loo", {"ended": "zero"}),
        ("turn_loo", {"anchor": "exact"}),
        ("turn_loo", {"anchor": "plain"}),
    ],
)
def test_leave_one_out_is_exactly_unbiased(name, options):
    assert mean_estimate(suite.ours(name, options)) == pytest.approx(TRUTH, abs=1e-12)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_gae_with_exact_values_is_unbiased_for_every_lambda(lam):
    one = sum(
        e.chance
        * suite.ours("gae", {"lam": lam})(
            [[e]], [Group(Request("rooms", 0, 1), (e.trajectory,), (e.reward,))]
        )
        for e in TASK
    )
    assert one == pytest.approx(suite.true_gradient([TASK]), abs=1e-12)


def test_dr_grpo_shrinks_the_gradient_by_its_own_part_in_the_mean():
    assert mean_estimate(suite.ours("dr_grpo", {})) == pytest.approx(TRUTH / 2, abs=1e-12)


@pytest.mark.parametrize("name", suite.BROKEN)
def test_the_broken_baselines_do_not_even_point_along_the_gradient(name):
    mean = mean_estimate(suite.BROKEN[name])
    cosine = mean @ TRUTH / np.linalg.norm(mean) / np.linalg.norm(TRUTH)
    assert cosine < 0.999
    best = (mean @ TRUTH) / (mean @ mean)
    assert np.abs(best * mean - TRUTH).max() > 1e-3
