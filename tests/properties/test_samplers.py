"""Promises of every registered sampler and every member of every slot (spec 5.7).

The tests enumerate the tables, so a new member is covered by being in one.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foldgym.testing.curricula import check_sampler, pretend, run_step
from foldgym.trainers.samplers import SAMPLERS, SLOTS, TaskSampler, curriculum
from foldgym.trainers.samplers.counts import floored, largest_remainder, softmax, systematic
from foldgym.trainers.samplers.slots import Desk
from foldgym.trainers.samplers.stats import StatStore, guided
from foldgym.types import Group, Guide, Keep, Request, Retry, Verdict

ENVS = {"a": 1.0, "b": 1.0, "c": 1.0}
CHANCES = {"a": 0.5, "b": 0.05, "c": 0.9}
OPTIONS: dict[tuple[str, str], dict[str, Any]] = {
    ("source", "fixed"): {"size": 12},
    ("source", "poet"): {"knobs": {"size": [1, 2, 3], "depth": [1, 5]}, "every": 1, "trial": 1},
    ("schedule", "stages"): {
        "stages": [{"size": 1}, {"size": 2}, {"size": 3}],
        "threshold": 0.4,
        "window": 6,
    },
    ("schedule", "scaffold"): {"total": 6},
    ("schedule", "tti"): {"every": 1, "low": 4, "high": 12},
    ("schedule", "prefill"): {"start": 3, "every": 2},
    ("schedule", "context"): {"every": 1, "start": 900, "end": 200},
    ("selector", "dads"): {"every": 2},
    ("selector", "pcl"): {"window": 6},
    ("selector", "alp_gmm"): {"space": {"size": [1, 9], "heat": [0.0, 0.5]}, "every": 12},
    ("selector", "adcl"): {"block": 10},
    ("selector", "vas"): {"every": 1, "alpha": 0.8, "beta": 0.2},
    ("rescue", "scaf"): {"warmup": 0, "parts": 2},
    ("rescue", "fission"): {"n": 2, "members": 2},
    ("trim", "prof"): {"keep": 5, "process": "process"},
    ("thin", "d3s"): {"total": 6},
}
RECIPES: list[dict[str, Any]] = []
for slot, table in SLOTS.items():
    for name in table:
        recipe: dict[str, Any] = {slot: {"use": name, **OPTIONS.get((slot, name), {})}}
        if getattr(table[name], "by_task", False) is True or name in ("knapsack", "cures"):
            recipe["source"] = {"use": "fixed", "size": 12}
        RECIPES.append(recipe)
RECIPES.append(
    {
        "source": {"use": "fixed", "size": 12},
        "schedule": ["tti", "context", {"use": "scaffold", "total": 6}],
        "selector": {"use": "pcl", "window": 6},
        "allocator": "knapsack",
        "gate": "band",
        "rescue": {"use": "fission", "n": 2, "members": 1},
        "trim": {"use": "prof", "keep": 4, "process": "process"},
        "weighter": "odsw",
        "thin": {"use": "d3s", "total": 6},
    }
)
MAKERS: dict[str, Callable[..., Any]] = {
    name: make for name, make in SAMPLERS.items() if name != "curriculum"
}
for recipe in RECIPES:
    label = "+".join(
        f"{slot}={part['use']}" if isinstance(part, dict) else f"{slot}"
        for slot, part in recipe.items()
    )
    MAKERS[label] = lambda envs, seed, size, recipe=recipe: curriculum(
        envs, seed, size, **recipe, max_rounds=99
    )


def chance(request: Request, guide: Guide) -> float:
    return 0.8 if guide.helps else CHANCES[request.env]


@pytest.mark.parametrize("name", MAKERS)
def test_every_sampler_keeps_the_contract(name: str) -> None:
    check_sampler(lambda: MAKERS[name](ENVS, 3, 8), chance)


@pytest.mark.parametrize("name", MAKERS)
def test_totals_are_conserved_and_no_task_stands_twice_in_a_round(name: str) -> None:
    sampler = MAKERS[name](ENVS, 3, 8)
    for step in range(1, 7):
        plan = sampler.plan(step, 6)
        assert len(plan) == 6
        assert sum(request.n for request in plan) == 48
        assert min(request.n for request in plan) >= 1
        if "vas" not in name:  # draws with replacement
            assert len({(r.env, r.seed) for r in plan}) == 6
        sampler.update(pretend(plan, chance, step), [])


@pytest.mark.parametrize("name", MAKERS)
def test_the_order_of_the_environments_changes_nothing(name: str) -> None:
    plans = []
    for names in itertools.permutations(ENVS):
        sampler = MAKERS[name]({env: ENVS[env] for env in names}, 3, 8)
        requests = []
        for step in range(1, 4):
            requests += run_step(sampler, step, 6, chance)[2]
        plans.append([group.request for group in requests])
    assert all(plan == plans[0] for plan in plans)


@pytest.mark.parametrize("name", MAKERS)
def test_rejected_groups_never_reach_the_loss(name: str) -> None:
    sampler = MAKERS[name](ENVS, 3, 8)
    for step in range(1, 5):
        accepted, rejected, _ = run_step(sampler, step, 6, chance)
        out = {id(t) for group in rejected for t in group.trajectories}
        assert not out & {id(t) for group in accepted for t in group.trajectories}


SELECTORS = [
    recipe
    for recipe in RECIPES
    if "selector" in recipe and recipe["selector"]["use"] not in ("weighted", "alp_gmm")
]  # those two keep the weights of the run file instead of a floor


@pytest.mark.parametrize("recipe", SELECTORS, ids=lambda r: str(r["selector"]))
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(chances=st.lists(st.floats(0, 1), min_size=3, max_size=3), floor=st.floats(0.0, 0.3))
def test_probabilities_sum_to_one_and_keep_their_floor(
    recipe: dict[str, Any], chances: list[float], floor: float
) -> None:
    rates = dict(zip(ENVS, chances, strict=True))
    sampler = curriculum(ENVS, 1, 4, **recipe, floor=floor, max_rounds=99)
    for step in range(1, 5):
        run_step(sampler, step, 6, lambda request, guide: rates[request.env])
        probs = sampler._selector.probs(sampler._desk("selector"))
        assert sum(probs.values()) == pytest.approx(1.0)
        assert set(probs) == set(ENVS)
        assert min(probs.values()) >= floor - 1e-12


@settings(max_examples=60)
@given(
    weights=st.lists(st.floats(0, 5), min_size=1, max_size=8),
    total=st.integers(0, 60),
    least=st.integers(0, 3),
    seed=st.integers(0, 10**6),
)
def test_counts_keep_their_promises(
    weights: list[float], total: int, least: int, seed: int
) -> None:
    total += least * len(weights)
    parts = largest_remainder(weights, total, least)
    assert sum(parts) == total
    assert min(parts) >= least
    whole = sum(weights)
    if whole > 0:
        spare = total - least * len(weights)
        for part, weight in zip(parts, weights, strict=True):
            assert abs(part - least - spare * weight / whole) < 1 + 1e-6
    probs = floored(softmax({str(i): w for i, w in enumerate(weights)}), 0.01)
    assert sum(probs.values()) == pytest.approx(1)
    drawn = systematic(probs, total, random.Random(seed))
    assert len(drawn) == total
    for name, p in probs.items():
        assert abs(drawn.count(name) - total * p) < 1 + 1e-6


SCHEDULES = {
    name: SLOTS["schedule"][name](**OPTIONS.get(("schedule", name), {}))
    for name in SLOTS["schedule"]
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_are_monotone_and_bounded(name: str) -> None:
    schedule = SCHEDULES[name]
    sampler = curriculum(ENVS, 0, 4)
    seen: list[float] = []
    for step in range(1, 30):
        desk: Desk = sampler._desk("schedule")
        knobs = schedule.knobs(
            Desk(step, 0, desk.arms, desk.stats, desk.source, random.Random(0), 0.01)
        )
        if name == "tti":
            assert 4 <= knobs.max_turns <= 12
            seen.append(knobs.max_turns)
        elif name == "context":
            assert 200 <= knobs.max_context <= 900
            seen.append(-knobs.max_context)
        elif name == "prefill":
            assert knobs.guides is not None
            (lead,) = {guide.lead for guide in knobs.guides(4)}
            assert 0 <= lead <= 3
            seen.append(-lead)
        elif name == "scaffold":
            assert knobs.guides is not None
            reveal = [guide.reveal for guide in knobs.guides(4)]
            assert reveal == sorted(reveal, reverse=True)
            assert reveal[-1] == 0
            assert 0 <= reveal[0] <= 1
            seen.append(-reveal[0])
        else:
            seen.append(knobs.kwargs["size"])
            plan = [Request(env, step, 4, kwargs=knobs.kwargs) for env in ENVS]
            groups = pretend(plan, lambda request, guide: 0.7, step)
            sampler.update(groups, [])
            from foldgym.trainers.samplers.stats import result_of

            schedule.observe([r for g in groups if (r := result_of(g))], desk)
    assert seen == sorted(seen)
    assert len(set(seen)) > 1


RESCUES = list(SLOTS["rescue"])


@pytest.mark.parametrize("name", RESCUES)
def test_help_never_enters_unaided_statistics(name: str) -> None:
    """Nobody succeeds alone and everybody with help: what is known must stay at 0."""
    use = {"use": name, **OPTIONS.get(("rescue", name), {})}
    sampler = curriculum(ENVS, 0, 8, rescue=use, rescue_share=1.0, max_rounds=99)
    helped = 0
    for step in range(1, 4):
        _, _, played = run_step(sampler, step, 6, lambda request, guide: float(guide.helps))
        helped += sum(guided(t) for group in played for t in group.trajectories)
        alone = sum(not guided(t) for group in played for t in group.trajectories)
        assert alone == 8 * 6 * len([g for g in played if not g.request.reason]) / 6
    assert helped > 0
    for stat in sampler._stats.table.values():
        assert (stat.p, stat.wins) == (0.0, 0.0)
    assert sum(stat.attempts for stat in sampler._stats.table.values()) > 0


@pytest.mark.parametrize("name", ["scaf", "egsr"])
def test_replace_one_changes_exactly_one(name: str) -> None:
    use = {"use": name, **OPTIONS.get(("rescue", name), {})}
    sampler = curriculum(ENVS, 0, 8, rescue=use, rescue_share=1.0, gate="varied", max_rounds=99)
    accepted, rejected, _ = run_step(sampler, 1, 6, lambda r, guide: float(guide.helps))
    assert len(accepted) == 6
    for group in accepted:
        assert len(group.trajectories) == 8
        assert [guided(t) for t in group.trajectories].count(True) == 1
        assert sorted(reward.total for reward in group.rewards) == [0.0] * 7 + [1.0]
    replaced = [g for g in rejected if not any(guided(t) for t in g.trajectories)]
    assert [len(g.trajectories) for g in replaced] == [1] * 6


def test_replace_group_keeps_the_size_and_must_differ() -> None:
    sampler = curriculum(ENVS, 0, 8, rescue="ghpo", rescue_share=1.0, max_rounds=99)
    half = lambda request, guide: 0.5 * guide.helps  # noqa: E731
    accepted, _, _ = run_step(sampler, 1, 6, half)
    for group in accepted:
        assert len(group.trajectories) == 8
        assert all(guided(t) for t in group.trajectories)
        assert {reward.total for reward in group.rewards} == {0.0, 1.0}
    sampler = curriculum(ENVS, 0, 8, rescue="ghpo", rescue_share=1.0, max_rounds=99)
    accepted, rejected, _ = run_step(sampler, 1, 6, lambda request, guide: float(guide.helps))
    assert not accepted  # all solved with help: nothing to compare, so not trained on
    assert len([g for g in rejected if not g.request.reason]) == 12


def test_a_rescue_stays_within_its_share() -> None:
    sampler = curriculum(ENVS, 0, 8, rescue={"use": "scaf", "warmup": 0}, max_rounds=99)
    for step in range(1, 5):
        _, _, played = run_step(sampler, step, 6, lambda request, guide: 0.0, rounds=1)
        spent = sum(g.request.n for g in played if g.request.reason)
        assert 0 < spent <= 0.25 * 48


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    low=st.floats(0.05, 0.4),
    high=st.floats(0.6, 0.95),
    rates=st.lists(st.floats(0, 1), min_size=3, max_size=3),
)
def test_the_balanced_filter_lets_only_its_band_through(
    low: float, high: float, rates: list[float]
) -> None:
    by_env = dict(zip(ENVS, rates, strict=True))
    sampler = curriculum(ENVS, 0, 8, gate={"use": "band", "low": low, "high": high}, max_rounds=99)
    accepted, rejected, _ = run_step(sampler, 1, 5, lambda request, guide: by_env[request.env])
    assert len(accepted) <= 5
    for group in accepted:
        assert low <= sum(r.total for r in group.rewards) / 8 <= high
    for group in rejected:
        assert not low <= sum(r.total for r in group.rewards) / 8 <= high


@settings(max_examples=30)
@given(
    wins=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), min_size=1, max_size=6),
    decay=st.floats(0.1, 1.0),
)
def test_old_successes_fade_and_state_survives(wins: list[tuple[int, int]], decay: float) -> None:
    from foldgym.trainers.samplers.stats import Result

    store, version = StatStore(decay=decay), 0
    for k, ahead in wins:
        version += ahead
        scores = (1.0,) * k + (0.0,) * (8 - k)
        store.observe([Result("a", 1, {}, scores, (0.0,) * 8, version)], 0)
    now, later = store.get("a", version), store.get("a", version + 1)
    assert now is not None
    assert later is not None
    assert later.wins == pytest.approx(decay * now.wins)
    assert now.wins + now.losses <= 8 * len(wins) + 1e-9
    assert 0 <= now.p <= 1
    assert store.get("b") is None
    other = StatStore(decay=decay)
    other.load(json.loads(json.dumps(store.state())))
    assert other.table == store.table


def test_decisions_are_of_the_declared_kinds() -> None:
    sampler: TaskSampler = curriculum(
        ENVS, 0, 4, trim={"use": "prof", "keep": 2, "process": "process"}
    )
    (group, *_) = pretend(sampler.plan(1, 1), lambda r, g: 0.5)
    decision = sampler.judge(group)
    assert isinstance(decision, Keep)
    assert len(decision.members) == 2
    lost = Group(group.request, (), ())
    assert sampler.judge(lost) is Verdict.REJECT
    sampler = curriculum(ENVS, 0, 4, rescue={"use": "scaf", "warmup": 0}, rescue_share=1.0)
    (group, *_) = pretend(sampler.plan(1, 1), lambda r, g: 0.0)
    assert isinstance(sampler.judge(group), Retry)
