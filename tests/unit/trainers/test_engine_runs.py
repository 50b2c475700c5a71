"""One run file, several engines: who samples may change, what is learned from stays true."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foldgym.config import SftRun, TrainRun, load_module, parse
from foldgym.errors import ConfigError, UnknownName
from foldgym.records import JsonlReader, RecordReader
from foldgym.trainers.sft import sft
from foldgym.trainers.train import build, train

WORLD = 'name = "foldgym/GuessNumber-v0"\n'
WATCHED = '''
from dataclasses import dataclass

CALLS = []


@dataclass
class Watched:
    """The policy itself, and a note of everything that its engine is told."""

    sampler: object
    judged: object

    async def start(self):
        CALLS.append("start")

    async def rest(self):
        CALLS.append("rest")

    async def publish(self):
        CALLS.append(f"publish {self.sampler.version}")
        return {"pushed": 7.0}

    async def stop(self):
        CALLS.append("stop")


def paid(trajectory):
    return 1.0


def engine(trainee, *, faulty: bool = False):
    CALLS.clear()
    return Watched(None if faulty else trainee.policy, trainee.policy)
'''


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> Path:
    """A run folder of `sft` whose model has seen next to nothing."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("policy")
    text = f"""
    output = "{folder / "sft"}"
    [[envs]]
    {WORLD}
    [model]
    hidden = 32
    layers = 1
    heads = 2
    head_dim = 16
    mlp = 32
    [tokenizer]
    vocab_size = 290
    episodes = 10
    [sft]
    steps = 2
    batch = 2
    warmup = 0
    """
    sft(parse(SftRun, text))
    (folder / "watched.py").write_text(WATCHED)
    return folder / "sft"


def run_file(policy: Path, output: Path, *overrides: str) -> TrainRun:
    text = f"""
    output = "{output}"
    [policy]
    path = "{policy}"
    [[envs]]
    {WORLD}
    [rollout]
    max_tokens = 64
    max_turns = 6
    [optim]
    lr = 1e-2
    warmup = 2
    [train]
    steps = 2
    groups = 4
    group_size = 1
    checkpoint_every = 0
    [algorithm.advantage]
    singleton = "raw"
    """
    return parse(TrainRun, text, overrides)


def test_a_script_plays_and_the_policy_learns_what_it_said(policy, tmp_path):
    """Rewarded without a baseline, the expert's words become likelier: behaviour cloning."""
    folder = train(run_file(policy, tmp_path / "run", "engine=scripted", "train.steps=6"))
    rows = list(JsonlReader(folder / "metrics.jsonl"))
    assert min(row["reward"] for row in rows) > 0
    assert rows[-1]["nll"] < rows[0]["nll"] - 1
    assert max(row["logprob_gap_max"] for row in rows) <= 1e-5
    played = [record.trajectory for record in RecordReader(folder / "trajectories.jsonl")]
    assert not any(turn.problem for trajectory in played for turn in trajectory.turns)
    versions = [set(s.versions) for trajectory in played for s in trajectory.segments]
    assert versions == [{-1, step} for step in range(6) for _ in range(4)]


def test_held_out_success_is_that_of_the_policy_not_of_the_script(policy, tmp_path):
    more = ("train.eval_every=1", "train.eval_episodes=2", "rollout.max_parse_errors=1")
    folder = train(run_file(policy, tmp_path / "run", "engine=scripted", *more))
    rows = list(JsonlReader(folder / "metrics.jsonl"))
    assert min(row["reward"] for row in rows) > 0
    assert [row["eval/foldgym/GuessNumber-v0/success"] for row in rows] == [0.0, 0.0]


def test_a_script_is_cut_where_the_policy_would_have_to_stop(policy, tmp_path):
    folder = train(run_file(policy, tmp_path / "run", "engine=scripted", "rollout.max_tokens=3"))
    played = [record.trajectory for record in RecordReader(folder / "trajectories.jsonl")]
    assert {turn.finish.value for t in played for turn in t.turns} == {"length"}
    assert {turn.sampled_tokens for t in played for turn in t.turns} == {3}


def test_log_probs_of_a_script_are_those_at_the_temperature_of_the_run(policy, tmp_path):
    run = run_file(policy, tmp_path / "run", "engine=scripted", "rollout.temperature=0.5")
    rows = list(JsonlReader(train(run) / "metrics.jsonl"))
    assert max(row["logprob_gap_max"] for row in rows) <= 1e-5


def test_an_engine_of_ones_own_hears_of_every_update(policy, tmp_path):
    source = policy.parent / "watched.py"
    more = (
        f"engine={source}:engine",
        "reward.terms.0.name=paid",
        f"reward.terms.0.use={source}:paid",
    )
    folder = train(run_file(policy, tmp_path / "run", *more))
    calls = load_module(str(source)).CALLS
    assert calls == ["start", "rest", "publish 1", "rest", "publish 2", "stop"]
    assert [row["pushed"] for row in JsonlReader(folder / "metrics.jsonl")] == [7.0, 7.0]


def test_a_run_that_fails_stops_its_engine(policy, tmp_path):
    source = policy.parent / "watched.py"
    more = (f"engine={source}:engine", "engine.faulty=true")
    with pytest.raises(AttributeError):
        train(run_file(policy, tmp_path / "run", *more))
    assert load_module(str(source)).CALLS == ["start", "stop"]


@pytest.mark.parametrize(
    ("override", "problem", "says"),
    [
        ("engine=vlm", UnknownName, "unknown engine 'vlm'"),
        ("engine.speed=9", ConfigError, "engine.speed: unknown option of in_process"),
        ("engine.player=expert", ConfigError, "engine.player: unknown option of in_process"),
    ],
)
def test_a_wrong_engine_is_refused_before_anything_is_written(
    policy, tmp_path, override, problem, says
):
    with pytest.raises(problem) as caught:
        train(run_file(policy, tmp_path / "run", override))
    assert str(caught.value).startswith(says)
    assert not (tmp_path / "run").exists()


def test_a_script_that_nobody_knows_is_refused(policy, tmp_path):
    run = run_file(policy, tmp_path / "run", "engine=scripted", "engine.player=oracle")
    with pytest.raises(UnknownName, match="unknown scripted policy 'oracle'"):
        build(run, tmp_path / "run")
