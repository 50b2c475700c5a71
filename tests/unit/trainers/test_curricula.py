"""The formulas of the curriculum slots against values worked out by hand (spec 5.8)."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest

from foldgym.envs import registry
from foldgym.errors import ConfigError, UnknownName
from foldgym.testing.curricula import pretend, run_step
from foldgym.trainers.samplers import curriculum
from foldgym.trainers.samplers.allocators.cures import sigma
from foldgym.trainers.samplers.allocators.knapsack import cost, greedy, knapsack, value
from foldgym.trainers.samplers.counts import floored, largest_remainder, softmax, systematic
from foldgym.trainers.samplers.members.d3s import d3s_select
from foldgym.trainers.samplers.schedules.context import decayed
from foldgym.trainers.samplers.schedules.stages import saturn_difficulty
from foldgym.trainers.samplers.schedules.tti import script_horizon
from foldgym.trainers.samplers.selectors.cures import cures_score
from foldgym.trainers.samplers.selectors.dads import deficits
from foldgym.trainers.samplers.selectors.dump import ucb
from foldgym.trainers.samplers.selectors.mixture import best, fit
from foldgym.trainers.samplers.selectors.pcl import nearest_half
from foldgym.trainers.samplers.selectors.predictors import correlation
from foldgym.trainers.samplers.selectors.vas import self_bleu
from foldgym.trainers.samplers.sources.archive import TaskArchive, novelty, pata_ec
from foldgym.trainers.samplers.stats import Result, StatStore, abs_advantages
from foldgym.types import Request

TWO = {"a": 1.0, "b": 1.0}


def result(arm: str, scores: tuple[float, ...], version: int = 0, **kwargs: Any) -> Result:
    return Result(arm, 1, kwargs, scores, abs_advantages(scores), version)


def plan_after(
    sampler: Any, rates: dict[str, float], steps: int = 4, want: int = 8
) -> dict[str, float]:
    for step in range(1, steps + 1):
        run_step(sampler, step, want, lambda request, guide: rates[request.arm or request.env])
    return sampler._selector.probs(sampler._desk("selector"))


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


# ---------------------------------------------------------------- allocators


def exact(rates: list[float], start: int, extra: int, most: int) -> float:
    """The best sum of values by dynamic programming."""
    table = [0.0] + [-math.inf] * extra
    for p in rates:
        table = [
            max(table[used - n] + value(start + n, p) for n in range(min(used, most - start) + 1))
            for used in range(extra + 1)
        ]
    return table[extra]


def test_greedy_equals_the_dynamic_programme() -> None:
    rng = random.Random(5)
    for _ in range(120):
        rates = [rng.uniform(0.02, 0.98) for _ in range(rng.randint(1, 6))]
        extra, most = rng.randint(0, 24), rng.choice([6, 12, 128])
        extra = min(extra, (most - 2) * len(rates))
        parts = greedy(rates, 2, extra, most)
        assert sum(parts) == extra
        total = sum(value(2 + n, p) for n, p in zip(parts, rates, strict=True))
        assert total == pytest.approx(exact(rates, 2, extra, most), abs=1e-12)


def test_the_value_is_concave() -> None:
    for p, n in itertools.product((0.1, 0.5, 0.9), range(2, 30)):
        second = value(n + 2, p) - 2 * value(n + 1, p) + value(n, p)
        assert second == pytest.approx(
            -((p**n + 0) * (1 - p) ** 2 + (1 - p) ** n * p**2) * p * (1 - p) ** 2
        )
        assert second < 0


def test_knapsack_worked_example() -> None:
    rates = [0.125, 0.25, 0.5, 0.75, 0.875]
    parts = knapsack(rates, 40)
    assert parts == [14, 11, 6, 7, 2]
    total = sum(value(n, p) for n, p in zip(parts, rates, strict=True))
    assert total == pytest.approx(0.38033, abs=1e-5)
    assert [cost(p) for p in (0.125, 0.25, 0.5)] == pytest.approx([17.24, 8.0, 3.32], abs=5e-3)


def test_knapsack_takes_unknown_for_unknown() -> None:
    """The reference looks for 0 in an array of zeros, so there unknown counts as failed."""
    parts = knapsack([0.5, 0.0, None, 1.0], 80)
    assert parts[2] == 8  # the default, no surplus
    assert parts[1] > 50  # p = 0 gets what the useful task does not need
    assert knapsack([None, None], 16) == [8, 8]
    assert knapsack([0.0, None, None], 30) == [14, 8, 8]


def test_knapsack_edges() -> None:
    assert sum(knapsack([0.5, 0.4], 200)) == 200  # all useful, more than they need
    assert sum(knapsack([None] * 5, 20)) == 20  # grants beyond the total
    assert knapsack([None] * 4, 3).count(1) == 3
    assert knapsack([], 0) == []
    assert max(knapsack([0.01, 0.0], 400, max_n=32)) == 368
    assert knapsack([0.25, 0.25], 21) == [11, 10]  # ties: the earlier task


def test_cures_spread() -> None:
    assert [sigma(p) for p in (0.0, 0.1, 0.5, 1.0)] == pytest.approx([0, 0.3, 0.5, 0])
    assert sigma(0.5, right=4.0, wrong=1.0, gap=1.0) == pytest.approx(math.sqrt(0.5625))


def test_allocators_by_arm_work_on_fresh_tasks() -> None:
    sampler = curriculum(TWO, 0, 8, allocator={"use": "knapsack", "by": "arm"})
    for step in range(1, 4):
        run_step(sampler, step, 8, lambda r, g: 0.1 if r.env == "a" else 1.0)
    sizes = {env: {r.n for r in sampler.plan(9, 8) if r.env == env} for env in TWO}
    assert min(sizes["a"]) > max(sizes["b"])


# ---------------------------------------------------------------- schedules and sources


def test_schedules_worked_examples() -> None:
    assert [script_horizon(i) for i in range(1, 7)] == [10, 20, 20, 30, 30, 30]
    assert [decayed(t, 16384, 4096, 0.5, 50) for t in (0, 49, 50, 100, 900)] == [
        *(16384, 16384, 8192, 4096, 4096)
    ]
    found = [
        saturn_difficulty(*nkl)
        for nkl in ((3, 5, 5), (3, 5, 6), (3, 5, 13), (3, 5, 15), (3, 7, 40))
    ]
    assert found == pytest.approx([5.632, 6.159, 8.389, 8.802, 12.785], abs=5e-4)


def test_knobs_reach_the_request() -> None:
    sampler = curriculum(
        {"w": 1.0},
        0,
        4,
        arms=[{"kwargs": {"rooms": 3, "split": "train"}}],
        schedule=[
            {"use": "tti", "every": 5, "low": 4, "high": 9},
            {"use": "context", "start": 800, "end": 200, "every": 5},
            {
                "use": "stages",
                "stages": [{"rooms": 5}, {"rooms": 7}],
                "threshold": 0.5,
                "window": 2,
            },
            {"use": "scaffold", "total": 10, "start": 0.9},
        ],
    )
    (request, _) = sampler.plan(1, 2)
    assert request.arm == "w(rooms=3,split=train)"
    assert request.kwargs == {"rooms": 5, "split": "train"}
    assert (request.max_turns, request.max_context) == (4, 800)
    assert [guide.reveal for guide in request.guides] == pytest.approx([1, 2 / 3, 1 / 3, 0])
    (later,) = sampler.plan(6, 1)
    assert (later.max_turns, later.max_context) == (8, 400)
    sampler.update(pretend([request, later], lambda r, g: 1.0), [])
    (promoted,) = sampler.plan(7, 1)
    assert promoted.kwargs["rooms"] == 7


def test_poet_grows_harder_settings_and_keeps_its_archive() -> None:
    knobs = {"size": [1, 2, 4, 8]}
    sampler = curriculum(
        {"w": 1.0}, 0, 8, source={"use": "poet", "knobs": knobs, "every": 1, "trial": 1}
    )

    def rate(request: Any, guide: Any) -> float:
        return {1: 1.0, 2: 0.9, 4: 0.6, 8: 0.0}[request.kwargs["size"]]

    sizes: list[set[int]] = []
    for step in range(1, 15):
        _, _, played = run_step(sampler, step, 8, rate)
        sizes.append({group.request.kwargs["size"] for group in played})
        archive = sampler._source.state()["archive"]
        assert len(archive) >= len(sampler._source.state()["live"])
    assert sizes[0] == {1}
    assert set().union(*sizes) == {1, 2, 4, 8}
    assert 8 not in sizes[-1]  # nobody solves it: it failed the minimal criterion
    assert [0] in archive
    assert [3] in archive


def test_novelty_is_in_the_order_of_solvers() -> None:
    assert pata_ec([0.2, 0.8, 0.5], 0, 1).tolist() == [-0.5, 0.5, 0.0]
    assert pata_ec([0.04, 0.64, 0.25], 0, 1).tolist() == [-0.5, 0.5, 0.0]  # squared: the same
    assert pata_ec([0.3, 0.3, 0.9], 0, 1).tolist() == [-0.25, -0.25, 0.5]
    assert pata_ec([5.0, 9.0], 0, 1).tolist() == [0.0, 0.0]  # clipped
    assert novelty(np.zeros(2), []) == math.inf
    assert novelty(np.zeros(1), [np.array([x]) for x in (1.0, 2.0, 9.0)], k=2) == 1.5
    archive = TaskArchive()
    assert archive.admit({"too easy": [1.0, 1.0], "too hard": [0.0, 0.0]}) == []
    assert archive.admit({"one": [0.5, 0.2], "two": [0.4, 0.8]}, most=2) == ["one", "two"]
    assert archive.admit({"same": [0.6, 0.3], "new": [0.5, 0.5]}) == ["new"]
    archive.solve("one", 0.95)
    archive.solve("unheard of", 1.0)
    assert (archive.annecs, len(archive.scores)) == (1, 3)


@pytest.mark.parametrize(
    ("name", "knob", "levels"),
    [
        ("foldgym/GuessNumber-v0", "high", (4, 12, 60, 200)),
        ("foldgym/KeyDoor-v0", "rooms", (3, 6, 10, 16)),
    ],
)
def test_a_knob_makes_tasks_harder(name: str, knob: str, levels: tuple[int, ...]) -> None:
    """The difficulty that curricula assume of a setting, measured by the perfect player's turns."""
    turns: list[float] = []
    for level in levels:
        env = registry.make(name, **{knob: level})
        played = 0
        for seed in range(40):
            env.reset(seed=seed)
            for number in range(60):
                step = env.step(env.expert("optimal", random.Random(0)))
                if step[2] or step[3]:
                    played += number + 1
                    break
        turns.append(played / 40)
    assert turns == sorted(turns)
    assert turns[-1] > turns[0] + 2


# ---------------------------------------------------------------- members of a group


def test_d3s_is_the_best_subset() -> None:
    rng = random.Random(3)
    for _ in range(60):
        values = [rng.choice([-1.0, -0.5, 0.0, 0.3, 1.0]) for _ in range(rng.randint(1, 8))]
        keep = rng.randint(1, len(values))
        _, variance = d3s_select(values, keep)
        every = itertools.combinations(values, keep)
        assert variance == pytest.approx(max(float(np.var(subset)) for subset in every))


def test_d3s_relaxes_to_the_whole_batch() -> None:
    sampler = curriculum(TWO, 0, 8, thin={"use": "d3s", "total": 5, "start": 0.25})
    kept: list[int] = []
    for step in range(1, 6):
        accepted, _, _ = run_step(sampler, step, 4, lambda r, g: 0.5)
        credits: Any = [
            [
                [np.array([0.0, r.total, r.total]) for _ in t.segments]
                for t, r in zip(g.trajectories, g.rewards, strict=True)
            ]
            for g in accepted
        ]
        groups, left = sampler.weigh(accepted, credits)
        kept.append(sum(len(g.trajectories) for g in groups))
        flat = sorted(float(c[0][-1]) for row in left for c in row)
        assert set(flat) == {0.0, 1.0}  # both ends, as they were
    assert kept == [8, 14, 20, 26, 32]


# ---------------------------------------------------------------- what a run file may say


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"selector": "cures"}, "sampler.selector: has no effect.*fixed"),
        ({"allocator": "knapsack"}, "sampler.allocator: has no effect"),
        ({"selector": {"use": "sec", "tau": -1.0}}, "tau > 0"),
        ({"selector": {"use": "sec", "taw": 1.0}}, "sampler.selector.taw.*did you mean 'tau'"),
        ({"selector": {"tau": 1.0}}, r"sampler.selector: needs use"),
        ({"rescue_share": 0.5}, "rescue_share: has no effect"),
        ({"floor": 0.1}, "sampler.floor: has no effect"),
        ({"rescue": {"use": "fission"}}, "sampler.rescue.n: is required"),
        ({"source": {"use": "fixed", "seed": 4}}, "is the run's own"),
        ({"arms": [{"env": "a"}, {"env": "a"}]}, "names must differ"),
        ({"arms": [{"env": "a", "weight": 2.0}, {"env": "b"}], "selector": "sec"}, "weight"),
        ({"arms": [{"env": "a"}], "selector": "dump"}, "there is only one"),
        (
            {"selector": {"use": "alp_gmm", "space": {"x": [0, 1]}}, "source": "fixed"},
            "alp_gmm makes its own",
        ),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        curriculum(TWO, 0, 8, **options)


def test_names_nobody_knows_are_answered_with_those_there_are() -> None:
    with pytest.raises(UnknownName, match="unknown selector 'sek'; did you mean 'sec'"):
        curriculum(TWO, 0, 8, selector="sek")
    with pytest.raises(UnknownName, match=r"environment of sampler\.arms\.0 'c'"):
        curriculum(TWO, 0, 8, arms=[{"env": "c"}])
    with pytest.raises(UnknownName, match=r"option of sampler\.arms\.0 'kwarg'"):
        curriculum(TWO, 0, 8, arms=[{"env": "a", "kwarg": {}}])
