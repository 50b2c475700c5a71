"""Reports: what is counted, what is kept apart, and comparisons on the same tasks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.evaluate import Report, compare, evaluate, report, succeeded, tasks
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout
from foldgym.errors import DataError, EnvCrashed
from foldgym.memory import FullHistory
from foldgym.rewards import make_rubric
from foldgym.testing.doubles import ByteTokenizer
from foldgym.types import (
    Group,
    Message,
    Opening,
    Request,
    Reward,
    Step,
    Stop,
    Task,
    Trajectory,
    Turn,
)


def episode(success: bool, turns: int = 2, stop: Stop = Stop.DONE, **facts: Any) -> Trajectory:
    played = [Turn(index, Message("assistant")) for index in range(turns)]
    played.append(Turn(turns, Message("assistant"), purpose="fold"))
    return Trajectory(
        "t",
        "w",
        Task("q", (), metadata={"split": "test"}),
        0,
        tuple(played),
        (),
        stop,
        {"score": float(success) / 2, "success": success, **facts},
        counters={"sampled_tokens": 10.0, "prompt_tokens": 50.0},
        seconds=0.5,
    )


def failure(error: str = "EnvTimeout: 5 s") -> Trajectory:
    return Trajectory("f", "w", Task("q", ()), 0, (), (), Stop.ERROR, error=error)


def group(seed: int, *played: Trajectory, failures: int = 0, seats: int | None = None) -> Group:
    return Group(
        Request("w", seed, seats or len(played)),
        played,
        tuple(Reward(3.0 * trajectory.facts["score"], 0.0) for trajectory in played),
        tuple(failure() for _ in range(failures)),
    )


def test_a_report_by_hand() -> None:
    made = report(
        [
            group(1, episode(True, hops=1), episode(True, hops=1)),
            group(2, episode(True, 4, hops=2), episode(False, 6, Stop.MAX_TURNS, hops=2)),
            group(3, episode(False, 4, hops=2), seats=2, failures=3),
        ],
        seed=0,
    ).envs["w"]
    assert (made.tasks, made.samples, made.episodes, made.failures, made.lost) == (3, 2, 5, 3, 1)
    assert made.success.mean == pytest.approx((1 + 0.5 + 0) / 3)
    assert made.success.n == 3
    assert made.score.mean == pytest.approx((0.5 + 0.25 + 0) / 3)
    assert made.reward.mean == pytest.approx((1.5 + 0.75 + 0) / 3)
    assert made.turns.mean == pytest.approx((2 + 5 + 4) / 3)  # folds are no turns of play
    assert made.pass_at == {1: pytest.approx(0.5), 2: pytest.approx((1 + 1) / 2)}
    assert made.pass_hat == {1: pytest.approx(0.5), 2: pytest.approx((1 + 0) / 2)}
    assert made.stops == {"done": 4, "max_turns": 1}
    assert made.errors == {"EnvTimeout": 3}
    assert made.tokens == {"sampled": 10.0, "prompt": 50.0}
    assert made.seconds == 0.5
    assert list(made.by) == ["hops"]  # `split` has one value only
    assert {hops: estimate.mean for hops, estimate in made.by["hops"].items()} == {
        "1": 1.0,
        "2": 0.25,
    }
    assert made.outcomes == {1: (1.0, 1.0), 2: (1.0, 0.0), 3: (0.0,)}


def test_failures_never_count_as_zero() -> None:
    lone = report([group(1, episode(True)), group(2, failures=2, seats=1)], seed=0).envs["w"]
    assert lone.success.mean == 1.0
    assert (lone.success.n, lone.failures, lone.lost) == (1, 2, 1)
    assert lone.pass_at == {}  # one sample a task


def test_nothing_but_failures_is_an_error() -> None:
    with pytest.raises(DataError, match="w: all 3 episodes failed, the last by EnvTimeout: 5 s"):
        report([group(1, failures=2, seats=3)], seed=0)


def test_facts_on_which_samples_disagree_are_no_breakdown() -> None:
    groups = [
        group(1, episode(True, path="a", hops=1), episode(True, path="b", hops=1)),
        group(2, episode(True, path="a", hops=2), episode(True, path="a", hops=2)),
    ]
    assert list(report(groups, 0).envs["w"].by) == ["hops"]
    chosen = report(groups, 0, by=["split"]).envs["w"].by
    assert {name: list(values) for name, values in chosen.items()} == {"split": ["test"]}


def test_success_without_the_fact_is_a_full_score() -> None:
    plain = Trajectory("t", "w", Task("q", ()), 0, (), (), Stop.DONE, {"score": 1.0})
    assert succeeded(plain)
    assert not succeeded(Trajectory("t", "w", Task("q", ()), 0, (), (), Stop.DONE, {"score": 0.9}))
    assert not succeeded(Trajectory("t", "w", Task("q", ()), 0, (), (), Stop.DONE))


def test_a_report_is_plain_json() -> None:
    made = report([group(1, episode(True, hops=1)), group(2, episode(False, hops=2))], 7, name="p")
    table = json.loads(json.dumps(made.to_table(), allow_nan=False))
    assert (table["schema"], table["policy"], table["seed"]) == (1, "p", 7)
    assert table["envs"]["w"]["success"]["mean"] == 0.5
    assert table["envs"]["w"]["by"]["hops"]["2"]["mean"] == 0.0
    assert table["envs"]["w"]["outcomes"] == {"1": [1.0], "2": [0.0]}


def test_tasks_are_the_same_for_every_policy_and_differ_by_seed() -> None:
    assert tasks("w", 3, 0, samples=2) == tasks("w", 5, 0, samples=2)[:3]
    seeds = [request.seed for env in "vw" for seed in (0, 1) for request in tasks(env, 4, seed)]
    assert len(set(seeds)) == 16


# ---------------------------------------------------------------- two policies


def outcomes(name: str, results: Mapping[int, list[bool]]) -> Report:
    groups = [group(seed, *map(episode, played)) for seed, played in results.items()]
    return report(groups, 0, name=name)


def test_comparison_pairs_on_tasks() -> None:
    a = outcomes("old", {1: [False], 2: [True], 3: [False], 4: [True]})
    b = outcomes("new", {4: [True], 3: [True], 2: [False], 1: [True], 9: [True]})
    made = compare(a, b)
    difference = made.envs["w"]
    assert (difference.wins, difference.losses, difference.n) == (2, 1, 4)
    assert difference.mean == 0.25
    assert (made.a, made.b, made.unpaired) == ("old", "new", {"w": 1})
    assert json.loads(json.dumps(made.to_table()))["envs"]["w"]["significant"] is False


def test_comparison_averages_the_samples_of_a_task() -> None:
    a = outcomes("old", {1: [False, True], 2: [False, False]})
    b = outcomes("new", {1: [True, True], 2: [False, True]})
    assert compare(a, b).envs["w"].mean == 0.5


def test_comparison_needs_common_tasks() -> None:
    with pytest.raises(DataError, match="w: old and new were not evaluated on the same tasks"):
        compare(outcomes("old", {1: [True]}), outcomes("new", {2: [True]}))


# ---------------------------------------------------------------- played


@dataclass
class Parity:
    """Asks for the parity of its seed. A seed divisible by 5 crashes at its first step."""

    crashes: int
    seed: int = 0
    score: float = 0.0
    log: list[str] = field(default_factory=list[str])

    async def reset(self, seed: int, options: Mapping[str, Any]) -> Opening:
        self.seed = seed
        return Opening(Task(f"q{seed}", (Message("user", f"parity {seed % 100}"),)), ())

    async def step(self, action: Message) -> Step:
        if self.seed % 5 == 0 and self.crashes:
            raise EnvCrashed("boom")
        self.score = float(action.text == ("odd" if self.seed % 2 else "even"))
        return Step((), self.score, True, False, {})

    async def expert(self, style: str, seed: int) -> Message:
        raise NotImplementedError

    async def measure(self) -> dict[str, Any]:
        return {"score": self.score, "success": self.score >= 1, "odd": bool(self.seed % 2)}

    async def close(self) -> None:
        self.log.append("closed")


def play(speak: Any, seeds: list[int], crashes: int = 0) -> Report:
    how = Rollout(CompactRenderer(ByteTokenizer()), FullHistory, limits=Limits(max_turns=2))
    seen: list[Trajectory] = []
    made, groups = asyncio.run(
        evaluate(
            [Request("w", seed) for seed in seeds],
            lambda request: Parity(crashes),
            FunctionPolicy(speak),
            how,
            0,
            make_rubric().score,
            name="scripted",
            progress=seen.append,
        )
    )
    assert len(seen) == sum(len(g.trajectories) + len(g.failures) for g in groups)
    return made


def test_evaluate_plays_and_reports() -> None:
    made = play(lambda prompt, rng: "odd", list(range(1, 9)), crashes=1).envs["w"]
    # seeds 1..8: 5 is lost twice (one retry); of 1 2 3 4 6 7 8 the odd ones 1 3 7 succeed
    assert (made.episodes, made.failures, made.lost) == (7, 2, 1)
    assert made.success.mean == pytest.approx(3 / 7)
    assert made.success.method == "wilson"
    assert made.reward == made.score
    assert {kind: estimate.mean for kind, estimate in made.by["odd"].items()} == {
        "False": 0.0,
        "True": 1.0,
    }
    assert made.errors == {"EnvCrashed": 2}


def test_the_same_evaluation_twice_is_equal_but_for_seconds() -> None:
    def guess(prompt: Any, rng: Any) -> str:
        return rng.choice(["odd", "even"])

    seeds = list(range(1, 20))
    one, two = play(guess, seeds).to_table(), play(guess, seeds).to_table()
    for table in (one, two):
        table["envs"]["w"].pop("seconds")
    assert one == two
