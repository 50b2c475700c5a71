"""Whole runs, tiny: a policy of random weights that is paid for ids of odd number."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import odd_runs
import pytest
import torch
from odd_runs import metrics, stopped, weights

from foldgym.config import SftRun, TrainRun, parse
from foldgym.errors import CheckpointError, ConfigError, DataError, NotFinite, UnknownName
from foldgym.records import JsonlReader, RecordReader
from foldgym.trainers.batch import make_batch
from foldgym.trainers.checkpoint import latest
from foldgym.trainers.sft import recorded, sft
from foldgym.trainers.train import build, resume, train
from foldgym.types import Group, Request, Reward, Segment, Stop, Task, Trajectory

WORLD = 'name = "foldgym/GuessNumber-v0"\n'


def run_file(here: Path, output: Path, *overrides: str) -> TrainRun:
    return odd_runs.run_file(here, output, "train.steps=6", *overrides)


def test_a_run_learns_and_writes_down_what_it_did(here, tmp_path):
    folder = train(run_file(here, tmp_path / "run", "train.steps=30", "train.checkpoint_every=0"))
    rows = metrics(folder)
    assert [row["step"] for row in rows] == list(range(1, 31))
    assert sum(row["reward"] for row in rows[-5:]) > sum(row["reward"] for row in rows[:5]) + 0.5
    assert max(row["logprob_gap_max"] for row in rows) <= 1e-5
    assert all(row["episodes"] == 8 for row in rows)
    assert {"rollout", "update"} <= metrics(folder, "timings.jsonl")[0].keys()
    records = list(RecordReader(folder / "trajectories.jsonl"))
    assert len(records) == 30 * 8
    assert records[-1].notes["step"] == 30
    assert records[0].reward is not None
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == ["step-000030"]
    assert parse(TrainRun, (folder / "run.toml").read_text()).train.steps == 30


def test_sampler_and_learner_agree_across_folds(here, tmp_path):
    """Every turn is folded into notes that the policy writes and is trained on."""
    folding = ("memory.use=summarise", 'memory.trigger="turns"', "memory.every=1")
    run = run_file(here, tmp_path / "run", "train.steps=3", "memory.max_tokens=6", *folding)
    rows = metrics(train(run))
    assert min(row["segments"] for row in rows) >= 2
    assert max(row["logprob_gap_max"] for row in rows) <= 1e-5
    assert min(row["tokens"] for row in rows) > 8 * 6


def test_the_same_seed_gives_the_same_run_and_another_seed_another(here, tmp_path):
    runs = [
        train(run_file(here, tmp_path / name, f"seed={seed}", "train.steps=2"))
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    a, b, c = ((r / "metrics.jsonl").read_bytes() for r in runs)
    assert a == b != c
    assert weights(runs[0]) == weights(runs[1]) != weights(runs[2])


@pytest.mark.parametrize("at", [1, 3, 4])
@pytest.mark.parametrize(
    "more",
    [
        (),
        ("optim.epochs=2", "optim.minibatches=2", 'optim.schedule="cosine"', "algorithm.zero=keep"),
    ],
)
def test_a_stopped_run_resumes_bit_equal(here, tmp_path, at, more):
    whole = train(run_file(here, tmp_path / "whole", *more))
    broken = stopped(run_file(here, tmp_path / "broken", *more), at)
    with (broken / "trajectories.jsonl").open("ab") as file:
        file.write(b'{"schema": 1, "id": "torn')
    resume(broken)
    assert (whole / "metrics.jsonl").read_bytes() == (broken / "metrics.jsonl").read_bytes()
    assert weights(whole) == weights(broken)
    a, b = ([r.trajectory for r in RecordReader(f / "trajectories.jsonl")] for f in (whole, broken))
    assert a == b
    assert json.loads((latest(broken) / "state.json").read_text())["version"] == 6


def test_a_run_without_a_checkpoint_yet_starts_again(here, tmp_path):
    options = ("train.checkpoint_every=0", "train.steps=2")
    whole = train(run_file(here, tmp_path / "whole", *options))
    broken = stopped(run_file(here, tmp_path / "broken", *options), 1)
    assert weights(resume(broken)) == weights(whole)


def test_a_resumed_run_can_be_made_longer(here, tmp_path):
    long = train(run_file(here, tmp_path / "long"))
    train(run_file(here, tmp_path / "short", "train.steps=4"))
    longer = resume(tmp_path / "short", overrides=["train.steps=6"])
    assert weights(longer) == weights(long)
    assert parse(TrainRun, (longer / "run.toml").read_text()).train.steps == 6


def test_a_finished_run_stays_as_it_is(here, tmp_path):
    folder = train(run_file(here, tmp_path / "run", "train.steps=2"))
    before = (folder / "metrics.jsonl").read_bytes()
    resume(folder)
    assert (folder / "metrics.jsonl").read_bytes() == before


def test_a_folder_with_a_run_is_not_overwritten(here, tmp_path):
    run = run_file(here, tmp_path / "run", "train.steps=1", "train.checkpoint_every=1")
    train(run)
    with pytest.raises(ConfigError, match=r"already holds a run; continue it with --resume"):
        train(run)


def test_a_damaged_checkpoint_is_named_and_nothing_is_lost(here, tmp_path):
    folder = train(run_file(here, tmp_path / "run", "train.steps=2"))
    before = (folder / "metrics.jsonl").read_bytes()
    (latest(folder) / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged"):
        resume(folder)
    assert (folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("envs.0.name=foldgym/GuessNumbr-v0", UnknownName, "did you mean"),
        ("envs.0.kwargs.size=3", UnknownName, "option of foldgym/GuessNumber-v0"),
        ("policy.path=nowhere", CheckpointError, "nowhere is no folder"),
        ("algorithm.advantage.use=grpoo", UnknownName, "did you mean 'grpo'"),
        ("algorithm.advantage.dof=1", ConfigError, "algorithm.advantage.dof"),
        ("algorithm.loss.use=ppo_clp", UnknownName, "did you mean 'ppo_clip'"),
        ("algorithm.aggregation=dr-grpo", ConfigError, "needs the constant"),
        ("sampler.use=dappo", UnknownName, "did you mean 'dapo'"),
        ("memory.use=summarize", UnknownName, "did you mean 'summarise'"),
    ],
)
def test_a_wrong_part_is_refused_before_anything_is_written(
    here, tmp_path, override, error, message
):
    with pytest.raises(error, match=message):
        train(run_file(here, tmp_path / "run", override))
    assert not (tmp_path / "run").exists()


def test_kl_in_the_reward_and_in_the_loss(here, tmp_path):
    """k1 becomes a part of the reward, k2 of the loss. Both are 0 until the policy has moved."""
    k1, k2 = (
        metrics(
            train(
                run_file(
                    here,
                    tmp_path / use,
                    "train.steps=3",
                    f"algorithm.kl.use={use}",
                    "algorithm.kl.coef=0.1",
                )
            )
        )
        for use in ("k1", "k2")
    )
    assert k2[0]["kl"] == pytest.approx(0, abs=1e-10)
    assert k2[2]["kl"] > 1e-6
    assert k1[0]["kl"] == pytest.approx(0, abs=1e-6)  # the sampler's log-probs, by another pass
    assert abs(k1[2]["kl"]) > 1e-5


def test_evaluation_is_part_of_the_metrics(here, tmp_path):
    options = ("train.steps=3", "train.eval_every=2", "train.eval_episodes=2")
    rows = metrics(train(run_file(here, tmp_path / "run", *options)))
    name = "eval/foldgym/GuessNumber-v0/success"
    assert [name in row for row in rows] == [False, True, True]


def test_dynamic_sampling_reports_an_impossible_task_set(here, tmp_path):
    run = run_file(here, tmp_path / "run", "sampler.use=dapo", "sampler.max_rounds=2")
    with pytest.raises(ConfigError, match=r"step 1 still lacks 2 .*4 x all have score 0"):
        train(run)
    kept = [r.notes["kept"] for r in RecordReader(tmp_path / "run" / "trajectories.jsonl")]
    assert kept == [False] * 16


SHAKY = """
from foldgym.envs.games import GuessNumber

class Shaky(GuessNumber):
    def setup(self, rng):
        if rng.random() < 0.5:
            raise ValueError("no number today")
        return super().setup(rng)
"""


def test_failures_of_groups_that_were_played_again_are_counted(here, tmp_path):
    """All members of a group meet the same task, so either all of them fail or none."""
    (tmp_path / "shaky.py").write_text(SHAKY)
    world = f'envs=[{{name="{tmp_path / "shaky.py"}:Shaky"}}]'
    folder = train(run_file(here, tmp_path / "run", world, "rollout.retries=0"))
    failed, sampled = Counter[int](), Counter[int]()
    for record in RecordReader(folder / "trajectories.jsonl"):
        failed[record.notes["step"]] += record.trajectory.failed
        sampled[record.notes["step"]] += record.trajectory.counters.get("sampled_tokens", 0)
    assert failed.total() > 0
    rows = metrics(folder)
    assert [row["failures"] for row in rows] == [failed[row["step"]] for row in rows]
    assert all(row["episodes"] == 8 for row in rows)
    for row in JsonlReader(folder / "timings.jsonl"):
        speed = sampled[row["step"]] / row["rollout"]
        assert row["sampled_per_second"] == pytest.approx(speed)


def test_weights_that_are_not_finite_stop_the_run(here, tmp_path):
    run = run_file(here, tmp_path / "run")
    job = build(run, tmp_path / "run")
    try:
        with torch.no_grad():
            job.actor.policy.model.model.norm.weight.fill_(torch.inf)
        before = {n: p.clone() for n, p in job.actor.policy.model.named_parameters()}
        segment = Segment((1, 2, 3), (-1, 0, 0), (0.0, -1.0, -1.0), (0, 0, 0))
        one = Trajectory("t0", "world", Task("q", ()), 0, (), (segment,), Stop.DONE)
        with pytest.raises(NotFinite, match="in trajectory t0"):
            job.learner.update(
                make_batch([Group(Request("world", 0), (one,), (Reward(1.0, 1.0),))])
            )
        after = dict(job.actor.policy.model.named_parameters())
        assert all(torch.equal(before[name], after[name]) for name in before)
    finally:
        job.log.close()


# ---------------------------------------------------------------- cloning


def test_cloning_learns_what_the_expert_says(here, tmp_path):
    text = f"""
    output = "{tmp_path / "more"}"
    [policy]
    path = "{here / "sft"}"
    [[envs]]
    {WORLD}
    [sft]
    steps = 25
    batch = 4
    lr = 1e-2
    warmup = 2
    """
    folder = sft(parse(SftRun, text))
    rows = metrics(tmp_path / "more")
    assert folder == tmp_path / "more" / "checkpoints" / "step-000025"
    assert rows[0]["nll"] > 4.5
    assert rows[-1]["nll"] < 3.0
    assert rows[-1]["demonstrated"] == 1.0


def test_recorded_trajectories_are_chosen_by_reward_and_shuffled_each_lap(here, tmp_path):
    folder = train(run_file(here, tmp_path / "run", "train.steps=1", "train.checkpoint_every=0"))
    path = folder / "trajectories.jsonl"
    rewards = sorted(r.reward.total for r in RecordReader(path))
    show = recorded(path, 4, seed=0, least=rewards[4])
    good = {r.trajectory.id for r in RecordReader(path) if r.reward.total >= rewards[4]}
    laps = [[g.trajectories[0].id for g in show(step)] for step in range(1, 1 + 2 * len(good))]
    flat = [name for lap in laps for name in lap]
    assert set(flat) == good
    assert all(flat.count(name) == 8 for name in good)
    assert laps[0] == [g.trajectories[0].id for g in show(1)]
    with pytest.raises(DataError, match="no trajectory with a reward of at least 2"):
        recorded(path, 4, seed=0, least=2.0)


def test_recorded_ids_do_not_go_into_a_new_vocabulary(tmp_path):
    text = f'output = "{tmp_path / "new"}"\n[[envs]]\n{WORLD}'
    with pytest.raises(ConfigError, match=r"give the \[policy\] they come from"):
        sft(parse(SftRun, text), demonstrations=lambda step: [])
    assert not (tmp_path / "new").exists()


def test_recorded_trajectories_are_cloned(here, tmp_path):
    folder = train(run_file(here, tmp_path / "run", "train.steps=1", "train.checkpoint_every=1"))
    text = f"""
    output = "{tmp_path / "clone"}"
    [policy]
    path = "{folder}"
    [[envs]]
    {WORLD}
    [sft]
    steps = 20
    batch = 8
    lr = 1e-2
    warmup = 2
    context_weight = 0.0
    """
    show = recorded(folder / "trajectories.jsonl", 8, seed=0)
    sft(parse(SftRun, text), demonstrations=show)
    nll = [row["nll"] for row in metrics(tmp_path / "clone")]
    assert nll[-1] < nll[0] - 1


def test_a_reward_may_look_at_the_step_and_at_the_whole_group(here, tmp_path):
    source = tmp_path / "mine.py"
    source.write_text("def late(trajectory, step):\n    return float(step)\n")
    terms = f'reward.terms=[{{name = "late", use = "{source}:late"}}]'
    train(run_file(here, tmp_path / "run", terms, "train.steps=3"))
    assert [row["reward"] for row in metrics(tmp_path / "run")] == [0.0, 1.0, 2.0]


def test_episodes_left_out_of_the_loss_stay_in_the_statistics(here, tmp_path):
    """Every episode of this policy is cut off by a limit, so nothing is left to train."""
    run = run_file(here, tmp_path / "run", 'algorithm.without=["truncated"]', "train.steps=2")
    train(run)
    rows = metrics(tmp_path / "run")
    assert [row["skipped_updates"] for row in rows] == [1.0, 2.0]
    assert all(row["reward"] > 0 for row in rows)
    with pytest.raises(UnknownName, match="did you mean 'truncated'"):
        train(run_file(here, tmp_path / "wrong", 'algorithm.without=["truncate"]'))
    assert not (tmp_path / "wrong").exists()
