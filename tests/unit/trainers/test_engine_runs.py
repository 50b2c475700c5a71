"""One run file, several engines: who samples may change, what is learned from stays true."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import odd_runs
import pytest
import torch
from odd_runs import metrics
from safetensors.torch import load_file

from foldgym.agents.engines.vllm_weights import names_in
from foldgym.config import LoraSection, PolicySection, TrainRun, load_module
from foldgym.errors import ConfigError, UnknownName
from foldgym.records import RecordReader
from foldgym.trainers.train import build, train
from foldgym.trainers.wiring import load_actor, policy_folder

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
def watched(tmp_path_factory) -> Path:
    source = tmp_path_factory.mktemp("watched") / "watched.py"
    source.write_text(WATCHED)
    return source


def run_file(here: Path, output: Path, *overrides: str) -> TrainRun:
    own = ("rollout.max_tokens=64", "rollout.max_turns=6", "train.groups=4", "train.group_size=1")
    more = ("train.steps=2", "train.checkpoint_every=0", "algorithm.advantage.singleton=raw")
    return odd_runs.run_file(here, output, *own, *more, *overrides, sections="")


def test_a_script_plays_and_the_policy_learns_what_it_said(here, tmp_path):
    """Rewarded without a baseline, the expert's words become likelier: behaviour cloning."""
    folder = train(run_file(here, tmp_path / "run", "engine=scripted", "train.steps=6"))
    rows = metrics(folder)
    assert min(row["reward"] for row in rows) > 0
    assert rows[-1]["nll"] < rows[0]["nll"] - 1
    assert max(row["logprob_gap_max"] for row in rows) <= 1e-5
    played = [record.trajectory for record in RecordReader(folder / "trajectories.jsonl")]
    assert not any(turn.problem for trajectory in played for turn in trajectory.turns)
    versions = [set(s.versions) for trajectory in played for s in trajectory.segments]
    assert versions == [{-1, step} for step in range(6) for _ in range(4)]


def test_held_out_success_is_that_of_the_policy_not_of_the_script(here, tmp_path):
    more = ("train.eval_every=1", "train.eval_episodes=2", "rollout.max_parse_errors=1")
    folder = train(run_file(here, tmp_path / "run", "engine=scripted", *more))
    rows = metrics(folder)
    assert min(row["reward"] for row in rows) > 0
    assert [row["eval/foldgym/GuessNumber-v0/success"] for row in rows] == [0.0, 0.0]


def test_a_script_is_cut_where_the_policy_would_have_to_stop(here, tmp_path):
    folder = train(run_file(here, tmp_path / "run", "engine=scripted", "rollout.max_tokens=3"))
    played = [record.trajectory for record in RecordReader(folder / "trajectories.jsonl")]
    assert {turn.finish.value for t in played for turn in t.turns} == {"length"}
    assert {turn.sampled_tokens for t in played for turn in t.turns} == {3}


@pytest.mark.parametrize("engine", ["torch", "scripted"])
def test_a_run_whose_model_is_too_short_for_its_memory_scores_what_was_played(
    here, tmp_path, engine
):
    """`max_context` promises more positions than there are: `Stop.MAX_CONTEXT`, no failure."""
    short = shutil.copytree(policy_folder(here / "sft"), tmp_path / "short")
    (short / "foldgym.json").unlink()
    config = json.loads((short / "config.json").read_text())
    (short / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 64}))
    more = (
        f"engine={engine}",
        f"policy.path={short}",
        "policy.renderer=compact",
        "memory.max_context=4096",
    )
    folder = train(run_file(here, tmp_path / "run", *more, "train.steps=1"))
    played = [record.trajectory for record in RecordReader(folder / "trajectories.jsonl")]
    stops = [trajectory.stop.value for trajectory in played]
    assert "max_context" in stops
    assert "error" not in stops


def test_log_probs_of_a_script_are_those_at_the_temperature_of_the_run(here, tmp_path):
    run = run_file(here, tmp_path / "run", "engine=scripted", "rollout.temperature=0.5")
    rows = metrics(train(run))
    assert max(row["logprob_gap_max"] for row in rows) <= 1e-5


def test_an_engine_of_ones_own_hears_of_every_update(here, watched, tmp_path):
    more = (
        f"engine={watched}:engine",
        "reward.terms.0.name=paid",
        f"reward.terms.0.use={watched}:paid",
    )
    folder = train(run_file(here, tmp_path / "run", *more))
    calls = load_module(str(watched)).CALLS
    assert calls == ["start", "rest", "publish 1", "rest", "publish 2", "stop"]
    assert [row["pushed"] for row in metrics(folder)] == [7.0, 7.0]


def test_a_run_that_fails_stops_its_engine(here, watched, tmp_path):
    more = (f"engine={watched}:engine", "engine.faulty=true")
    with pytest.raises(AttributeError):
        train(run_file(here, tmp_path / "run", *more))
    assert load_module(str(watched)).CALLS == ["start", "stop"]


@pytest.mark.parametrize(
    ("override", "problem", "says"),
    [
        ("engine=vlm", UnknownName, "unknown engine 'vlm'"),
        ("engine.speed=9", ConfigError, "engine.speed: unknown option of in_process"),
        ("engine.player=expert", ConfigError, "engine.player: unknown option of in_process"),
    ],
)
def test_a_wrong_engine_is_refused_before_anything_is_written(
    here, tmp_path, override, problem, says
):
    with pytest.raises(problem) as caught:
        train(run_file(here, tmp_path / "run", override))
    assert str(caught.value).startswith(says)
    assert not (tmp_path / "run").exists()


def test_weights_to_be_sent_are_those_that_would_be_written(here, tmp_path):
    """Adapters are merged into both."""
    for rank in (0, 2):
        actor = load_actor(PolicySection(path=str(here / "sft")), LoraSection(rank=rank))
        with torch.no_grad():
            for weight in actor.policy.model.parameters():
                weight += 0.1
        actor.write(tmp_path / str(rank))
        held = actor.tensors()
        written = load_file(tmp_path / str(rank) / "model.safetensors")
        assert names_in(tmp_path / str(rank)) == set(written) <= set(held)
        assert all(torch.equal(held[name], weight) for name, weight in written.items())


def test_weights_are_not_sent_to_a_server_that_learning_runs_ahead_of(here, tmp_path):
    more = ("engine=vllm", "engine.transfer=gloo", "train.mode=async", "train.staleness=1")
    run = run_file(here, tmp_path / "run", *more, "train.uncorrected=true")
    with pytest.raises(ConfigError, match=r"engine\.transfer: 'gloo' does not go with train\.mode"):
        build(run, tmp_path / "run")


def test_a_script_that_nobody_knows_is_refused(here, tmp_path):
    run = run_file(here, tmp_path / "run", "engine=scripted", "engine.player=oracle")
    with pytest.raises(UnknownName, match="unknown scripted policy 'oracle'"):
        build(run, tmp_path / "run")
