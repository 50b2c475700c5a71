import json

import pytest

from foldgym.errors import ConfigError
from foldgym.trainers.samplers import SAMPLERS, dapo, uniform
from foldgym.types import Group, Request, Verdict

ENVS = {"a": 3.0, "b": 1.0}


def scored(by_hand, scores, rewards=None):
    members = tuple(
        by_hand.trajectory([-1, 0], name=f"t{i}", score=score) for i, score in enumerate(scores)
    )
    return by_hand.group(rewards or list(scores), *members)


@pytest.mark.parametrize("name", SAMPLERS)
def test_seeds_never_repeat_within_a_run(name):
    sampler = SAMPLERS[name](ENVS, 0, 4)
    seeds = [r.seed for step in range(20) for _ in range(3) for r in sampler.plan(step, 8)]
    assert len(set(seeds)) == len(seeds) == 480


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_plan_depends_on_the_seed_of_the_run_only(name):
    assert SAMPLERS[name](ENVS, 0, 4).plan(3, 8) == SAMPLERS[name](ENVS, 0, 4).plan(3, 8)
    assert SAMPLERS[name](ENVS, 0, 4).plan(3, 8) != SAMPLERS[name](ENVS, 1, 4).plan(3, 8)


@pytest.mark.parametrize("name", SAMPLERS)
def test_state_goes_through_json(by_hand, name):
    played, resumed = SAMPLERS[name](ENVS, 0, 4), SAMPLERS[name](ENVS, 0, 4)
    played.plan(0, 8)
    played.judge(Group(Request("a", 1, 2), (), ()))
    resumed.load(json.loads(json.dumps(played.state())))
    assert resumed.state() == played.state()
    assert resumed.plan(0, 8) == played.plan(0, 8)
    assert resumed.plan(1, 8) == played.plan(1, 8)


def test_worlds_are_drawn_by_weight():
    plan = uniform(ENVS, 0, 4).plan(0, 4000)
    share = sum(r.env == "a" for r in plan) / 4000
    assert share == pytest.approx(0.75, abs=0.03)  # 4.4 standard deviations
    assert {r.n for r in plan} == {4}


@pytest.mark.parametrize("envs", [{}, {"a": 0.0}, {"a": 1.0, "b": -0.5}])
def test_weights_must_make_sense(envs):
    with pytest.raises(ConfigError, match="weights must be positive"):
        uniform(envs, 0, 4)


def test_uniform_keeps_all_that_was_played(by_hand):
    sampler = uniform(ENVS, 0, 4)
    assert sampler.judge(scored(by_hand, [1.0, 1.0])) is Verdict.ACCEPT
    assert sampler.judge(Group(Request("a", 1, 2), (), ())) is Verdict.REJECT


def test_dapo_judges_the_metric_and_not_the_shaped_reward(by_hand):
    sampler = dapo(ENVS, 0, 4)
    assert sampler.judge(scored(by_hand, [1.0, 0.0, 1.0])) is Verdict.ACCEPT
    assert sampler.judge(scored(by_hand, [1.0, 1.0], [1.0, 0.8])) is Verdict.REJECT
    assert sampler.judge(scored(by_hand, [0.1, 0.1, 0.1])) is Verdict.REJECT
    assert sampler.judge(scored(by_hand, [0.3])) is Verdict.ACCEPT
    shaped = dapo(ENVS, 0, 4, metric="reward")
    assert shaped.judge(scored(by_hand, [1.0, 1.0], [1.0, 0.8])) is Verdict.ACCEPT


def test_dapo_names_the_facts_there_are(by_hand):
    with pytest.raises(ConfigError, match="no number 'accuracy'; choose reward or one of: score"):
        dapo(ENVS, 0, 4, metric="accuracy").judge(scored(by_hand, [1.0, 0.0]))


def test_an_impossible_task_set_raises_and_says_why(by_hand):
    sampler = dapo(ENVS, 0, 4, max_rounds=3)
    for _ in range(3):
        for _ in sampler.plan(5, 2):
            sampler.judge(scored(by_hand, [0.0, 0.0]))
    with pytest.raises(
        ConfigError, match=r"step 5 still lacks 2 .* 3 rounds.*6 x all have score 0"
    ):
        sampler.plan(5, 2)
    assert len(sampler.plan(6, 2)) == 2  # a new step starts afresh
    with pytest.raises(ConfigError, match="max_rounds must be at least 1"):
        dapo(ENVS, 0, 4, max_rounds=0)


def test_numbers_of_a_step(by_hand):
    sampler = dapo(ENVS, 0, 4)
    sampler.plan(0, 4)
    sampler.plan(0, 1)
    group = scored(by_hand, [1.0, 0.0])
    numbers = sampler.update([group] * 4, [group])
    assert numbers["sampler/rounds"] == 2.0
    assert numbers["sampler/rejected"] == 0.2
    assert numbers["sampler/degenerate"] == 0.0
    assert numbers["sampler/rollouts_per_group"] == 2.5  # 10 rollouts for 4 groups
    assert numbers["sampler/entropy"] == pytest.approx(0.562335)  # of (.75, .25)
