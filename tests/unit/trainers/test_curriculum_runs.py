"""Curricula in whole runs: written in a run file, trained, stopped and resumed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import odd_runs
import pytest
from odd_runs import metrics, stopped, weights

from foldgym.agents.rollout import rollout
from foldgym.config import TrainRun
from foldgym.envs.base import Env
from foldgym.envs.worker import open_worker
from foldgym.records import RecordReader
from foldgym.trainers.checkpoint import latest, load
from foldgym.trainers.openings import Openings
from foldgym.trainers.train import build, resume, train
from foldgym.types import EnvHandle, Group, Ids, Request

pytestmark = pytest.mark.slow  # trains a policy first

SLOTS = """
[sampler]
use = "curriculum"
arms = [
  {name = "easy", kwargs = {high = 4}},
  {name = "hard", kwargs = {high = 60}},
]
selector = {use = "sec", tau = 0.3}
schedule = [{use = "context", start = 600, end = 200, every = 2}, {use = "tti", every = 2, low = 2}]
allocator = {use = "knapsack", by = "arm", least = 2}
rescue = {use = "scaf", guide = "expert", leads = 2, warmup = 1}
rescue_share = 0.5
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy that mostly writes a readable call."""
    folder = tmp_path_factory.mktemp("here")
    clone = ("tokenizer.episodes=30", "sft.steps=150", "sft.batch=16", "envs.0.kwargs.high=4")
    odd_runs.make_policy(folder, *clone)
    return folder


def run_file(here: Path, output: Path, slots: str = SLOTS) -> TrainRun:
    own = ("memory.max_context=700", "rollout.max_tokens=8", "rollout.max_turns=4")
    more = ("train.steps=5", "train.groups=4", "optim.lr=5e-4", "optim.warmup=5")
    return odd_runs.run_file(here, output, *own, *more, sections=slots)


def test_a_run_with_every_slot_trains_and_resumes_bit_equal(here: Path, tmp_path: Path) -> None:
    whole = train(run_file(here, tmp_path / "whole"))
    rows = metrics(whole)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert {"sampler/q/easy", "sampler/q/hard", "sampler/entropy"} <= rows[-1].keys()
    gaps = [row["logprob_gap_max"] for row in rows if "logprob_gap_max" in row]
    assert len(gaps) > 0  # a step without any credit makes no update
    assert max(gaps) <= 1e-5
    records = list(RecordReader(whole / "trajectories.jsonl"))
    prompts = {message.text for r in records for message in r.trajectory.task.prompt}
    assert any("from 1 to 4 " in text for text in prompts)
    assert any("from 1 to 60 " in text for text in prompts)
    by_step = {step: [r for r in records if r.notes["step"] == step] for step in range(1, 6)}
    assert not any(r.trajectory.counters.get("guided") for r in by_step[1])  # warm-up
    assert any(r.trajectory.counters.get("guided") for r in records)
    assert max(len(r.trajectory.turns) for r in by_step[1]) <= 2  # the horizon of iteration 1
    assert max(len(r.trajectory.turns) for r in by_step[5]) == 4
    broken = resume(stopped(run_file(here, tmp_path / "broken"), 3))
    assert (whole / "metrics.jsonl").read_bytes() == (broken / "metrics.jsonl").read_bytes()
    assert weights(whole) == weights(broken)


def test_recovery_groups_train_in_a_run(here: Path, tmp_path: Path) -> None:
    slots = """
    [sampler]
    use = "curriculum"
    rescue = {use = "fission", n = 2, members = 1}
    rescue_share = 1.0
    """
    folder = train(run_file(here, tmp_path / "run", slots))
    records = list(RecordReader(folder / "trajectories.jsonl"))
    recoveries = [r for r in records if "(recovery)" in r.trajectory.id]
    assert recoveries
    for record in recoveries:
        trajectory = record.trajectory
        assert not trajectory.failed
        replayed = {turn.index for turn in trajectory.turns if turn.purpose == "replay"}
        sampled = {k for s in trajectory.segments for k in s.turn_ids}
        assert replayed
        assert not replayed & sampled


BY_VALUE = """
[sampler]
use = "curriculum"
arms = [
  {name = "easy", kwargs = {high = 4}},
  {name = "hard", kwargs = {high = 60}},
]
selector = {use = "pcl", predictor = "value", window = 2, trust = -1.0}
[value]
use = "linear"
warmup = 1
"""


def test_pcl_reads_the_value_head_and_resumes_bit_equal(here: Path, tmp_path: Path) -> None:
    whole = train(run_file(here, tmp_path / "whole", BY_VALUE))
    rows = metrics(whole)
    assert len({row["sampler/pcl/brier"] for row in rows}) == 5  # V moves
    broken = resume(stopped(run_file(here, tmp_path / "broken", BY_VALUE), 3))
    assert (whole / "metrics.jsonl").read_bytes() == (broken / "metrics.jsonl").read_bytes()
    state = [(load(latest(folder / "checkpoints")).state["sampler"]) for folder in (whole, broken)]
    assert state[0] == state[1]
    assert any(state[0]["selector"]["v"]["layer"]["weight"][0])


def test_openings_are_what_the_policy_was_shown(here: Path, tmp_path: Path) -> None:
    run = run_file(here, tmp_path / "run", BY_VALUE)
    job = build(run, tmp_path / "run")
    prompts = Openings(job.mix.open, job.how)
    requests = [
        Request("foldgym/GuessNumber-v0", seed, 1, kwargs={"high": high})
        for seed, high in ((1, 4), (2, 60), (1, 4))
    ]

    async def step() -> tuple[list[Ids], list[Group]]:
        told = prompts(requests)  # inside a running loop, as a plan is
        return told, await rollout(requests, job.mix.open, job.actor.policy, job.how, 0, job.score)

    told, groups = asyncio.run(step())
    for ids, group in zip(told, groups, strict=True):
        segment = group.trajectories[0].segments[0]
        first = segment.turn_ids.index(0)
        assert ids == tuple(segment.token_ids[:first])
    assert told[0] != told[1]
    job.log.close()

    def crash() -> Env:
        raise RuntimeError("the world is on fire")

    opened: list[int] = []

    def open_env(request: Request) -> EnvHandle:
        opened.append(request.seed)
        return open_worker(crash) if request.seed == 2 else job.mix.open(request)

    prompts = Openings(open_env, job.how)
    for _ in range(2):
        assert prompts(requests) == [told[0], (), told[0]]
    assert opened == [1, 2, 2]  # each task once; a failure is tried again
