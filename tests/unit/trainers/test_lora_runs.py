"""Whole runs with adapters: the base stays, checkpoints serve everybody, resuming is bit-equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from odd_runs import make_policy, metrics, run_file, stopped_and_resumed, weights

from foldgym.agents.engines.models import load_policy, save_policy
from foldgym.config import SftRun, parse
from foldgym.errors import CheckpointError, ConfigError
from foldgym.trainers.batch import make_batch
from foldgym.trainers.checkpoint import latest
from foldgym.trainers.sft import sft
from foldgym.trainers.train import build, resume, train
from foldgym.types import Group, Request, Reward, Segment, Stop, Task, Trajectory

LORA = ("lora.rank=4", "optim.lr=3e-2")


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("here")
    make_policy(folder, "model.layers=2")
    return folder


def test_adapters_learn_and_their_base_stays(tmp_path):
    make_policy(tmp_path, "model.layers=2", "model.tie=false")
    saved = load_policy(latest(tmp_path / "sft"))
    saved.model.lm_head.weight.data.mul_(10)  # an untrained head cannot say much, and is frozen
    base = save_policy(tmp_path / "base", saved.model, saved.tokenizer, saved.renderer)
    before = (base / "model.safetensors").read_bytes()
    more = ("train.steps=20", "train.checkpoint_every=0", f"policy.path={base}")
    folder = train(run_file(tmp_path, tmp_path / "run", *LORA, *more))
    found = metrics(folder)
    gained = sum(r["reward"] for r in found[-5:]) - sum(r["reward"] for r in found[:5])
    assert gained > 0.5
    assert max(r["logprob_gap_max"] for r in found) <= 1e-5
    assert (base / "model.safetensors").read_bytes() == before
    merged, old = (load_policy(f).model.state_dict() for f in (latest(folder), base))
    moved = {name for name in old if not torch.equal(old[name], merged[name])}
    assert moved == {name for name in old if name.endswith("proj.weight")}


@pytest.mark.parametrize("more", [(), ("policy.dtype=bfloat16", "optim.checkpointing=true")])
def test_a_stopped_run_resumes_bit_equal(here, tmp_path, more):
    whole = train(run_file(here, tmp_path / "whole", *LORA, *more))
    broken = stopped_and_resumed(here, tmp_path / "broken", 3, *LORA, *more)
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert weights(whole, name) == weights(broken, name)
    assert (whole / "metrics.jsonl").read_bytes() == (broken / "metrics.jsonl").read_bytes()


def test_the_reference_is_the_base_without_a_second_model(here, tmp_path):
    kl = ("algorithm.kl.use=k3", "algorithm.kl.coef=0.1", "train.checkpoint_every=0")
    job = build(run_file(here, tmp_path / "run", *LORA, *kl), tmp_path / "run")
    assert job.learner.reference is not None
    assert job.learner.reference.model is job.actor.policy.model
    found = metrics(train(run_file(here, tmp_path / "again", *LORA, *kl)))
    assert found[0]["kl"] == pytest.approx(0, abs=1e-9)  # adapters begin without effect
    assert found[-1]["kl"] > 1e-5

    # the same numbers as those of the base, loaded as a second model
    plain = build(run_file(here, tmp_path / "two", *kl), tmp_path / "two")
    assert plain.learner.reference is not None
    with torch.no_grad():
        for name, p in job.actor.policy.model.named_parameters():
            if "lora_B" in name:
                p.fill_(0.1)
    segment = Segment((5, 6, 7, 8), (-1, -1, 0, 0), (0.0, 0.0, -1.0, -1.0), (-1, -1, 0, 0))
    one = Trajectory("t", "world", Task("q", ()), 0, (), (segment,), Stop.DONE)
    batch = make_batch([Group(Request("world", 0), (one,), (Reward(1.0, 1.0),))])
    a, b = (j.learner.reference.logprobs(batch, 100) for j in (job, plain))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, job.learner.reader.logprobs(batch, 100))


def test_a_base_that_changed_and_a_rank_that_changed_are_refused(here, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    make_policy(own, "model.layers=2")
    folder = train(run_file(own, tmp_path / "run", *LORA, "train.steps=2"))
    file = folder / "run.toml"
    text = file.read_text()
    start = text.index("[lora]")
    file.write_text(text[:start] + text[text.index("\n[", start) :])
    with pytest.raises(CheckpointError, match=r"holds adapters; leave lora\.rank as it was"):
        resume(folder)
    file.write_text(text)
    with pytest.raises(CheckpointError, match="adapter"):
        resume(folder, overrides=["lora.rank=2"])
    place = latest(own / "sft") / "model.safetensors"
    place.write_bytes(place.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(CheckpointError, match="which is not the model it was"):
        resume(folder)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["lora.alpha=8"], "lora.alpha: has no effect: lora.rank is 0"),
        (["lora.dropout=0.1", "lora.rank=2"], r"lora.dropout: unknown key"),
        (["lora.rank=2", 'algorithm.loss={use="remix"}', 'replay.use="remix"',
          'algorithm.old="recompute"'], "lora.rank: 'remix' moves its reference along"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_meant_are_refused(here, tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=message):
        build(run_file(here, tmp_path / "run", *overrides), tmp_path / "run")


def test_cloning_trains_adapters_too(here, tmp_path):
    text = f"""
    output = "{tmp_path / "clone"}"
    [policy]
    path = "{here / "sft"}"
    [lora]
    rank = 2
    [[envs]]
    name = "foldgym/GuessNumber-v0"
    [sft]
    steps = 2
    batch = 2
    """
    folder = sft(parse(SftRun, text))
    assert (folder / "adapter" / "adapter_model.safetensors").is_file()
    merged, base = (load_policy(f).model.state_dict() for f in (folder, latest(here / "sft")))
    moved = {name for name in base if not torch.equal(base[name], merged[name])}
    assert moved
    assert all(name.endswith("proj.weight") for name in moved)
    with pytest.raises(ConfigError, match="adapters need a trained base"):
        parse(SftRun, text.replace("[policy]", "[model]").replace("path", "#"))
