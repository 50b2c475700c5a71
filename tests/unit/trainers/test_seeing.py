"""Models that see, from rollout to update: sampler and learner look at the same pictures."""

from __future__ import annotations

import asyncio
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from seeing import picture, seeing_model, tokenizer

from foldgym.agents.engines.models import load_policy, save_policy
from foldgym.agents.engines.vision import format_of
from foldgym.agents.pictures import runs
from foldgym.agents.rollout import Rollout, rollout
from foldgym.config import TrainRun, parse
from foldgym.envs.base import ToolEnv
from foldgym.envs.worker import open_worker
from foldgym.errors import ConfigError
from foldgym.memory import FullHistory
from foldgym.records import JsonlReader, RecordReader
from foldgym.rewards import make_rubric
from foldgym.trainers.advantages import grpo
from foldgym.trainers.batch import make_batch, split, take
from foldgym.trainers.checkpoint import latest
from foldgym.trainers.layout import Padded, layout_of
from foldgym.trainers.learner import TorchLearner
from foldgym.trainers.losses import ppo_clip
from foldgym.trainers.optim import Optim
from foldgym.trainers.reading import Reader
from foldgym.trainers.train import resume, train
from foldgym.trainers.values import ValueHead
from foldgym.trainers.wiring import Actor, make_actor
from foldgym.types import Batch, Budget, Group, Message, Picture, Prompt, Request, Sampling, Step

TEMPERATURE = 0.8


class Gallery(ToolEnv):
    """Two turns of looking, a picture each; tasks of odd seeds are told in words."""

    max_turns = 3

    def setup(self, rng: random.Random) -> Any:
        self.seen = rng.random() < 0.5
        self.number = rng.randrange(1000)
        words = "look the picture"
        image = picture(self.number, 24, 16)
        return Message("user", (words, image, "what is it ?") if self.seen else words)

    def step(self, action: Any) -> Step:
        step = super().step(action)
        if not self.seen or step.terminated:
            return step
        shown = Message("user", ("left ?", picture(self.number + 1, 16, 16)))
        return step._replace(observation=(shown,))

    def respond(self, message: Message) -> str:
        self.turns_left = getattr(self, "turns_left", 2) - 1
        if not self.turns_left:
            self.finish(float(len(message.text) % 2))
        return "right ?"


def play(actor: Actor, seeds: tuple[int, ...] = (0, 1, 2, 3), n: int = 4) -> list[Group]:
    how = Rollout(actor.renderer, FullHistory, Sampling(TEMPERATURE, 8), Budget(2048, 8), retries=0)
    return asyncio.run(
        rollout(
            [Request("gallery", seed, n) for seed in seeds],
            lambda request: open_worker(Gallery, "inline"),
            actor.policy,
            how,
            1,
            make_rubric().score,
        )
    )


def the_actor(family: str = "qwen2_vl") -> Actor:
    torch.set_num_threads(1)
    return make_actor(seeing_model(family), tokenizer(), "compact")


def the_batch(groups: list[Group]) -> Batch:
    return make_batch(groups, grpo(groups))


def gap(reader: Reader, batch: Batch) -> float:
    own_BT = reader.logprobs(batch, 10**6)
    return float(np.abs(own_BT - batch.logprob_BT)[batch.turn_BT >= 0].max())


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_sampler_and_learner_agree_on_what_was_said_about_pictures(family: str) -> None:
    actor = the_actor(family)
    groups = play(actor)
    batch = the_batch(groups)
    trajectories = [t for group in groups for t in group.trajectories]
    assert len(trajectories) == 16
    assert not any(group.failures for group in groups)
    counts = [len(pictures) for pictures in batch.pictures]
    assert set(counts) == {0, 2}
    form = format_of(actor.policy.model)
    assert form is not None
    reader = Reader(actor.policy.model, TEMPERATURE)
    assert gap(reader, batch) < 1e-4
    for row, pictures in enumerate(batch.pictures):  # micro-batches of single rows say the same
        one = take(batch, [row])
        assert (one.pictures or ((),))[0] == pictures
        assert gap(reader, one) < 1e-4
    sampled = sum(turn.sampled_tokens for t in trajectories for turn in t.turns)
    assert (batch.turn_BT >= 0).sum() == (batch.weight_BT > 0).sum() == sampled
    for pictures, ids, turns in zip(batch.pictures, batch.ids_BT, batch.turn_BT, strict=True):
        for each in pictures:
            count = form.count(each.image)
            assert set(ids[each.at : each.at + count]) == {form.pad}
            assert set(turns[each.at - 1 : each.at + count + 1]) == {-1}


def test_another_picture_changes_its_own_row_and_no_other() -> None:
    actor = the_actor()
    batch = the_batch(play(actor, n=2))
    reader = Reader(actor.policy.model, TEMPERATURE)
    before_BT = reader.logprobs(batch, 10**6)
    row = next(row for row, pictures in enumerate(batch.pictures) if pictures)
    first, second = batch.pictures[row]
    changed = (Picture(first.at, picture(77, 24, 16)), second)
    pictures = tuple(changed if i == row else seen for i, seen in enumerate(batch.pictures))
    after_BT = reader.logprobs(replace(batch, pictures=pictures), 10**6)
    moved_B = np.abs(after_BT - before_BT).max(axis=1)
    assert moved_B[row] > 1e-3
    assert np.delete(moved_B, row).max() < 1e-6
    late = replace(first, image=first.image)
    later = (late, Picture(second.at, picture(78, 16, 16)))
    pictures = tuple(later if i == row else seen for i, seen in enumerate(batch.pictures))
    after_BT = reader.logprobs(replace(batch, pictures=pictures), 10**6)
    early_T = np.arange(batch.ids_BT.shape[1]) < second.at
    assert np.abs(after_BT - before_BT)[row][early_T].max() < 1e-6
    assert np.abs(after_BT - before_BT)[row].max() > 1e-3


def test_one_update_moves_the_towers_and_comes_out_the_same_in_micro_batches() -> None:
    seen: list[dict[str, float]] = []
    for limit in (10**6, 1):
        actor = the_actor()
        batch = the_batch(play(actor))
        assert np.abs(batch.advantage_BT).max() > 0
        before = {name: x.clone() for name, x in actor.policy.model.state_dict().items()}
        optim = Optim(lr=1e-3, warmup=0, microbatch_tokens=limit)
        learner = TorchLearner(actor.policy, ppo_clip, optim, temperature=TEMPERATURE)
        metrics = learner.update(batch)
        assert math.isfinite(metrics["loss"])
        assert metrics["logprob_gap_max"] < 1e-4
        after = actor.policy.model.state_dict()
        moved = [name for name, x in after.items() if not torch.equal(x, before[name])]
        assert any("visual" in name for name in moved)
        assert any("language_model" in name for name in moved)
        seen.append(metrics)
        assert gap(Reader(actor.policy.model, TEMPERATURE), batch) > 1e-4
        assert gap(Reader(actor.policy.model, TEMPERATURE), the_batch(play(actor))) < 1e-4
    assert len(split(batch, 1)) == batch.rows
    for name in ("grad_norm", "entropy", "nll", "tokens"):
        assert seen[0][name] == pytest.approx(seen[1][name], rel=1e-4), name


def test_cloning_with_context_weight_foretells_no_placeholder() -> None:
    actor = the_actor()
    form = format_of(actor.policy.model)
    assert form is not None
    batch = make_batch(play(actor, n=1), context_weight=0.5)
    assert any(batch.pictures)
    context_BT = batch.turn_BT < 0
    assert batch.weight_BT[context_BT & (batch.ids_BT == form.end)].min() > 0
    assert batch.weight_BT[context_BT & (batch.ids_BT == form.pad)].max() == 0


def test_a_sampled_placeholder_is_no_picture_and_does_no_harm() -> None:
    actor = the_actor()
    form = format_of(actor.policy.model)
    assert form is not None
    image = picture(5, 16, 16)
    message = Message("user", ("what is it ?", image))
    ids = actor.renderer.open([message], ())
    (at, _) = runs(ids, form)[0]
    fakes = (*form.ids(2), form.video, form.pad)
    prompt = Prompt((*ids, *fakes, *actor.renderer.header()), pictures=(Picture(at, image),))
    session = actor.policy.open(3)
    said = asyncio.run(session.sample(prompt, Sampling(1.0, 6)))
    again = asyncio.run(actor.policy.open(3).sample(prompt, Sampling(1.0, 6)))
    session.close()
    assert said == again
    assert len(said.ids) == len(said.logprobs) <= 6


def test_what_does_not_go_with_pictures_says_so() -> None:
    actor = the_actor()
    seen = actor.renderer.open([Message("user", (picture(1, 16, 16),))], ())
    with pytest.raises(ConfigError, match="worlds without pictures"):
        actor.policy.logprobs(seen, (5, 6))
    blind = actor.renderer.open([Message("user", "what is it ?")], ())
    assert len(actor.policy.logprobs(blind, (5, 6))) == 2

    class Odd(Padded):
        pass

    assert type(layout_of("auto", actor.policy.model)) is Padded
    with pytest.raises(ConfigError, match="it sees pictures"):
        layout_of("packed", actor.policy.model)
    with pytest.raises(ConfigError, match="odd rows do not go with a model that sees"):
        Reader(actor.policy.model, 1.0, Odd())


WORLD = """
import io
import random

from PIL import Image as Pillow

from foldgym import ToolEnv
from foldgym.types import Image, Message


class Dots(ToolEnv):
    max_turns = 2

    def setup(self, rng):
        file = io.BytesIO()
        Pillow.frombytes("RGB", (16, 16), rng.randbytes(768)).save(file, "PNG")
        return Message("user", ("look", Image(file.getvalue()), "what is it ?"))

    def respond(self, message):
        self.finish(float(len(message.text) % 2))
        return "right"
"""


def test_a_run_on_pictures_is_written_down_and_resumed(tmp_path: Path) -> None:
    (tmp_path / "dots.py").write_text(WORLD)
    model = seeing_model()
    save_policy(tmp_path / "policy", model, tokenizer(), "compact")
    text = f"""
        output = "{tmp_path}/run"
        [policy]
        path = "{tmp_path}/policy"
        threads = 1
        [[envs]]
        name = "{tmp_path}/dots.py:Dots"
        isolation = "inline"
        [rollout]
        max_tokens = 6
        [train]
        steps = 2
        groups = 2
        group_size = 3
        checkpoint_every = 1
    """
    run = parse(TrainRun, text, ["train.steps=1"])
    folder = train(run)
    resume(folder, overrides=["train.steps=2"])
    records = [record.trajectory for record in RecordReader(folder / "trajectories.jsonl")]
    assert len(records) == 12
    assert all(len(segment.pictures) == 1 for t in records for segment in t.segments)
    lines = list(JsonlReader(folder / "metrics.jsonl"))
    assert [line["step"] for line in lines] == [1, 2]
    assert max(line["logprob_gap_max"] for line in lines) < 1e-4
    whole = train(parse(TrainRun, text, [f"output={tmp_path}/whole"]))
    ends = [
        load_policy(latest(each / "checkpoints")).model.state_dict() for each in (folder, whole)
    ]
    assert all(torch.equal(x, ends[1][name]) for name, x in ends[0].items())
    assert format_of(load_policy(latest(folder / "checkpoints")).model) == format_of(model)
    vllm = parse(TrainRun, text, [f"output={tmp_path}/other", "engine.use=vllm"])
    with pytest.raises(ConfigError, match="sees pictures"):
        train(vllm)


def test_a_value_head_reads_a_model_that_sees() -> None:
    actor = the_actor()
    batch = the_batch(play(actor, n=2))
    head = ValueHead(Reader(actor.policy.model, TEMPERATURE))
    with torch.no_grad():
        head.layer.bias.fill_(0.25)
    assert np.array_equal(head.values(batch), np.where(batch.weight_BT != 0, 0.25, 0.0))
