"""The formulas of the curriculum slots against values worked out by hand (spec 5.8)."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import numpy as np
import pytest
from curriculum_plans import TWO

from foldgym.envs import registry
from foldgym.errors import ConfigError, UnknownName
from foldgym.testing.curricula import pretend, run_step
from foldgym.trainers.samplers import curriculum
from foldgym.trainers.samplers.allocators.cures import sigma
from foldgym.trainers.samplers.allocators.knapsack import cost, greedy, knapsack, value
from foldgym.trainers.samplers.members.d3s import d3s_select
from foldgym.trainers.samplers.schedules.context import decayed
from foldgym.trainers.samplers.schedules.stages import saturn_difficulty
from foldgym.trainers.samplers.schedules.tti import script_horizon
from foldgym.trainers.samplers.sources.archive import TaskArchive, novelty, pata_ec

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
