"""Statistics and selectors against values worked out by hand."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from curriculum_plans import TWO, plan_after, result

from foldgym.errors import ConfigError
from foldgym.testing.curricula import pretend, run_step
from foldgym.trainers.samplers import curriculum
from foldgym.trainers.samplers.counts import floored, largest_remainder, softmax, systematic
from foldgym.trainers.samplers.selectors.cures import cures_score
from foldgym.trainers.samplers.selectors.dads import deficits
from foldgym.trainers.samplers.selectors.dump import ucb
from foldgym.trainers.samplers.selectors.mixture import best, fit
from foldgym.trainers.samplers.selectors.pcl import nearest_half
from foldgym.trainers.samplers.selectors.predictors import correlation
from foldgym.trainers.samplers.selectors.vas import self_bleu
from foldgym.trainers.samplers.stats import StatStore, abs_advantages
from foldgym.types import Request

# ---------------------------------------------------------------- statistics


def test_mean_absolute_advantage_of_a_binary_group() -> None:
    means = [sum(abs_advantages((1.0,) * k + (0.0,) * (8 - k))) / 8 for k in range(9)]
    assert means == pytest.approx(
        [0, 0.6614, 0.8660, 0.9682, 1, 0.9682, 0.8660, 0.6614, 0], abs=1e-4
    )
    variances = [k / 8 * (1 - k / 8) for k in range(5)]
    assert [m * m / 4 for m in means[:5]] == pytest.approx(variances)  # balanced filter's value


def test_unknown_is_not_zero() -> None:
    store = StatStore()
    assert store.p("never") is None
    store.observe([result("a", (0.0, 0.0))], 1)
    assert store.p("a") == 0.0
    assert store.p("a#1") is None  # tasks that never come back are not kept
    assert StatStore(tasks=True).p("a#1") is None


def test_counts_fade_with_every_version_of_the_policy() -> None:
    store = StatStore(decay=0.5, alpha=0.5)
    store.observe([result("a", (1.0, 1.0), version=0)], 1)
    store.observe([result("a", (0.0, 0.0), version=2)], 2)
    stat = store.get("a")
    assert stat is not None
    assert (stat.wins, stat.losses, stat.attempts, stat.p) == (0.5, 2.0, 4, 0.5)
    assert stat.mean == pytest.approx(1.5 / 4.5)
    faded = store.get("a", 3)
    assert faded is not None
    assert (faded.wins, faded.losses) == (0.25, 1.0)


# ---------------------------------------------------------------- selectors


def test_sec_worked_example() -> None:
    assert softmax({"a": 0.5, "b": 0.0}, 0.5)["a"] == pytest.approx(0.7311, abs=1e-4)
    sampler = curriculum(TWO, 0, 8, selector="sec", floor=0.0)
    half = (1.0,) * 4 + (0.0,) * 4
    sampler._selector.observe([result("a", half), result("b", (1.0,) * 8)], None)
    probs = sampler._selector.probs(sampler._desk("selector"))
    assert probs["a"] == pytest.approx(0.7311, abs=1e-4)
    sampler._selector.observe([result("b", half)], None)  # a was not drawn: its Q stays
    assert sampler._selector.state()["q"] == {"a": 0.5, "b": 0.5}


def test_dump_worked_example() -> None:
    scores = [ucb(mu, n, 500) for mu, n in ((0.9, 400), (0.3, 100), (0.0, 0))]
    assert scores == pytest.approx([1.0761, 0.6509, 3.5261], abs=1e-4)
    probs = softmax(dict(zip("abc", scores, strict=True)), 0.1)
    assert [probs["a"], probs["b"]] == pytest.approx([2e-11, 3e-13], rel=0.2)
    assert min(floored(probs, 0.01).values()) == pytest.approx(0.01)
    assert ucb(0.5, 10, 100) > ucb(0.5, 11, 101)  # samples lower the bonus


def test_dads_worked_example() -> None:
    batches = [{"a": [0.9, 0.9], "b": [0.1]}] * 4
    found = deficits(batches, 1.0, "harmonic")
    assert found == pytest.approx({"a": 0.5208 - 0.46875, "b": 0.5208 - 0.052083}, abs=1e-4)
    weights = softmax(found, 0.3)
    assert [weights["a"], weights["b"]] == pytest.approx([0.1996, 0.8004], abs=1e-4)
    solved = deficits([{"a": [1.0], "b": [1.0]}], 0.9, "harmonic")
    assert softmax(solved, 0.3) == {"a": 0.5, "b": 0.5}
    # a buffer that is not full yet is judged by its own measure
    assert deficits([{"a": [1.0]}] * 2, 1.0, "geometric") == pytest.approx({"a": 0.0})


def test_dads_never_starves_a_small_share() -> None:
    probs = {"a": 0.99, "b": 0.005, "c": 0.005}
    assert largest_remainder(list(probs.values()), 64) == [64, 0, 0]  # what the reference does
    drawn = [systematic(probs, 64, random.Random(seed)) for seed in range(400)]
    share = sum(names.count("b") for names in drawn) / (400 * 64)
    assert share == pytest.approx(0.005, abs=0.0025)


def test_an_arm_that_left_the_buffer_keeps_its_weight() -> None:
    sampler = curriculum(TWO, 0, 8, selector={"use": "dads", "every": 1, "batches": 1}, floor=0.0)
    selector, desk = sampler._selector, sampler._desk("selector")
    selector.observe([result("a", (0.9,)), result("b", (0.1,))], desk)
    before = selector.probs(desk)
    selector.observe([result("a", (0.9,))], desk)
    assert selector.probs(desk) == pytest.approx(before)
    assert before["b"] > 0.9


@pytest.mark.parametrize("name", ["sec", "dump"])
def test_bandits_find_the_arm_that_teaches(name: str) -> None:
    arms = {"easy": 1.0, "half": 1.0, "hard": 1.0}
    rates = {"easy": 1.0, "half": 0.5, "hard": 0.0}
    probs = plan_after(curriculum(arms, 0, 8, selector=name), rates, steps=10)
    assert max(probs, key=lambda arm: probs[arm]) == "half"
    assert min(probs.values()) >= 0.01


def test_dads_turns_to_what_fails() -> None:
    sampler = curriculum(TWO, 0, 8, selector={"use": "dads", "every": 2})
    probs = plan_after(sampler, {"a": 0.9, "b": 0.2})
    assert probs["b"] > 0.6  # .77 in expectation


def test_pcl_takes_the_middle_and_stops_trusting_a_blind_predictor() -> None:
    assert nearest_half([0.1, 0.55, 0.9, 0.4, 0.5], 3) == [4, 1, 3]
    assert nearest_half([0.5, 0.5, 0.5], 2) == [0, 1]
    assert correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert correlation([1, 2], [3, 3]) == 0.0
    rates = {f"r{i}": i / 8 for i in range(9)}
    arms = [{"name": f"r{i}", "kwargs": {"size": i}} for i in range(9)]
    make = lambda: curriculum(  # noqa: E731
        {"w": 1.0}, 0, 8, arms=arms, selector={"use": "pcl", "window": 48, "pool": 8}
    )
    sampler = make()
    assert not sampler._selector.trusted
    plan_after(sampler, rates, steps=10, want=12)
    assert sampler._selector.trusted
    picked = [rates[request.arm] for request in sampler.plan(99, 60)]
    inside = sum(0.25 <= p <= 0.75 for p in picked) / 60
    assert inside > 0.7  # uniform would give 5 of 9
    blind = make()
    blind._selector._past = [[0.3, 0.9], [0.9, 0.3]] * 24
    assert not blind._selector.trusted


class ByHand:
    """V of a task is its seed's last two digits in hundredths."""

    def predict(self, picks: Any) -> list[float]:
        self.seen = [(pick.seed % 100 / 100, dict(pick.kwargs)) for pick in picks]
        return [v for v, _ in self.seen]

    def learn(self, picks: Any, rates: Any) -> None:
        self.learned = [(pick.seed, rate) for pick, rate in zip(picks, rates, strict=True)]

    def state(self) -> dict[str, Any]:
        return {}

    def load(self, state: Any) -> None:
        pass


def test_pcl_takes_the_seeds_whose_value_is_nearest_to_half() -> None:
    v = ByHand()
    sampler = curriculum(
        {"w": 1.0},
        0,
        4,
        selector={"use": "pcl", "predictor": "value", "window": 2, "pool": 10},
        schedule={"use": "stages", "stages": [{"size": 3}], "threshold": 0.9, "window": 2},
        floor=0.0,
        value=lambda: v,
    )
    sampler._selector._past = [[0.2, 0.3], [0.8, 0.7]]
    picked = [request.seed for request in sampler.plan(1, 3)]
    assert len(v.seen) == 30
    assert {kwargs["size"] for _, kwargs in v.seen} == {3}  # the task as it would be played
    nearest = sorted(abs(value - 0.5) for value, _ in v.seen)[:3]
    assert [abs(seed % 100 / 100 - 0.5) for seed in picked] == nearest
    groups = pretend([Request("w", 150, 4)], lambda r, g: 1.0)
    sampler.update(groups, [])
    assert v.learned == [(150, 1.0)]
    assert sampler._selector._past[-1] == [0.5, 1.0]  # scored before it learned


def test_pcl_needs_a_value_head_to_read_one() -> None:
    with pytest.raises(ConfigError, match=r'nothing provides one; set value.use = "linear"'):
        curriculum({"w": 1.0}, 0, 4, selector={"use": "pcl", "predictor": "value"})


def test_cures_score_and_the_released_one() -> None:
    released = [
        cures_score((k + 1) / (n + 2), (k + 1) / 0.01) for n in range(2, 9) for k in range(n + 1)
    ]
    assert max(released) / min(released) < 1.0045  # near uniform: the hazard
    assert cures_score(0.5, 0.2) / cures_score(0.01, 0.2) > 7


def test_cures_prefers_what_is_uncertain() -> None:
    sampler = curriculum(
        TWO, 0, 8, selector="cures", source={"use": "fixed", "size": 20}, allocator="cures"
    )
    probs = plan_after(sampler, {"a": 0.5, "b": 0.0}, steps=8, want=10)
    assert probs["a"] > 0.6


def test_adcl_blocks_are_permutations_sorted_by_what_is_known_now() -> None:
    source = {"use": "fixed", "size": 6}
    sampler = curriculum(TWO, 0, 4, selector={"use": "adcl", "block": 12}, source=source)
    first = [(r.env, r.seed) for r in sampler.plan(1, 12)]
    assert len(set(first)) == 12
    hard = set(first[::2])
    groups = pretend(sampler.plan(2, 12), lambda r, g: 0.0 if (r.env, r.seed) in hard else 1.0)
    sampler.update(groups, [])
    third = [(r.env, r.seed) for r in sampler.plan(3, 12)]
    assert sorted(third) == sorted(first)
    assert set(third[6:]) == hard  # easy first


def test_vas_weights_tasks_by_spread_and_falls_back_to_uniform() -> None:
    assert self_bleu(["a b c", "a b c"]) == 1.0
    assert self_bleu(["a b c", "x y z"]) == 0.0
    assert self_bleu(["alone"]) == 1.0
    source = {"use": "fixed", "size": 4}
    sampler = curriculum(
        TWO, 0, 8, selector={"use": "vas", "share": 1.0, "every": 1}, source=source
    )
    for step in range(1, 6):
        run_step(sampler, step, 8, lambda r, g: 0.5 if r.env == "a" else 0.0)
    weights = sampler._selector.state()["weights"]
    assert max(w for key, w in weights.items() if key.startswith("b#")) == 0.0
    assert max(weights.values()) == pytest.approx(1.0)
    flat = curriculum(TWO, 0, 8, selector={"use": "vas", "every": 1}, source=source)
    for step in range(1, 4):
        run_step(flat, step, 8, lambda r, g: 0.0)
    assert set(flat._selector.state()["weights"].values()) == {0.0}
    assert len(flat.plan(9, 8)) == 8  # all weights 0: uniform, not an error


def test_a_mixture_finds_its_parts() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(m, 0.05, (80, 2)) for m in (0.0, 1.0, 3.0)])
    found = best(points, 6, np.random.default_rng(1))
    assert len(found.weight_K) >= 3  # AIC is generous
    for centre in (0.0, 1.0, 3.0):
        assert np.abs(found.mean_KD - centre).max(axis=1).min() < 0.05
    assert found.weight_K.sum() == pytest.approx(1)
    two = fit(points, 2, np.random.default_rng(1))
    assert two.log_likelihood(points) < found.log_likelihood(points)


def test_alp_gmm_samples_inside_the_bounds_and_goes_where_progress_is() -> None:
    space = {"size": [1, 20], "heat": [0.0, 2.0]}
    sampler = curriculum(
        {"w": 1.0}, 0, 8, selector={"use": "alp_gmm", "space": space, "every": 60, "random": 0.2}
    )

    def learning(request: Any, guide: Any) -> float:
        # half solved between 8 and 12, where neighbours differ; flat elsewhere
        return 0.5 if 8 <= request.kwargs["size"] <= 12 else 0.0

    for step in range(1, 13):
        _, _, played = run_step(sampler, step, 10, learning)
        for group in played:
            size, heat = group.request.kwargs["size"], group.request.kwargs["heat"]
            assert isinstance(size, int)
            assert 1 <= size <= 20
            assert 0.0 <= heat <= 2.0
    sizes = [request.kwargs["size"] for request in sampler.plan(99, 300)]
    inside = sum(7 <= size <= 13 for size in sizes) / 300
    assert inside > 0.55  # 7 of 20 if uniform
    assert sum(not 7 <= size <= 13 for size in sizes) > 15  # a fifth stays random
