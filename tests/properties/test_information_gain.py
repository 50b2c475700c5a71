"""Gains are differences of what was shown: they telescope, whatever the memory did in between."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
import torch
from engine_talk import sharp
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.agents.answering import moments
from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.scoring import score
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.renderers import ChatMLRenderer, CompactRenderer, Renderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs import registry
from foldgym.envs.worker import open_worker
from foldgym.memory import MEMORIES
from foldgym.memory.folding import INSTRUCTION
from foldgym.rewards.information_gain import AnswerForm, information_gain
from foldgym.testing.doubles import ByteTokenizer, HashPolicy
from foldgym.trainers.answers import AnswerReader
from foldgym.types import (
    Budget,
    Completion,
    EnvHandle,
    Ids,
    Message,
    Policy,
    Prompt,
    Request,
    Reward,
    Sampling,
    Session,
    Trajectory,
)

WORLD = "foldgym/FictionalSearch-v0"
RENDERERS = {"compact": CompactRenderer, "chatml": ChatMLRenderer}


@dataclass
class Watched:
    """Any policy, with the prompt on which it began each turn."""

    inner: Policy
    prompts: dict[int, Prompt] = field(default_factory=dict)

    @property
    def version(self) -> int:
        return self.inner.version

    def open(self, seed: int, env: EnvHandle) -> Session:
        return _Session(self, self.inner.open(seed, env))


@dataclass
class _Session:
    policy: Watched
    inner: Session

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        self.policy.prompts.setdefault(prompt.turn, prompt)
        return await self.inner.sample(prompt, sampling)

    def close(self) -> None:
        self.inner.close()


def played(
    policy: Policy, renderer: Renderer, memory: str, seed: int, tokens: int, **options: object
) -> tuple[Trajectory, dict[int, Prompt]]:
    watched = Watched(policy)
    how = Rollout(
        renderer,
        lambda: MEMORIES[memory](**options),
        Sampling(max_tokens=tokens),
        Budget(3000, 120, 0.2),
        Limits(max_turns=7, max_parse_errors=99),
    )
    (group,) = asyncio.run(
        rollout(
            [Request(WORLD, seed)],
            lambda request: open_worker(registry.maker(WORLD, hops=2), "inline", 30.0),
            watched,
            how,
            seed,
            lambda trajectory: Reward(0.0, 0.0),
        )
    )
    return group.trajectories[0], watched.prompts


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6), renderer=st.sampled_from(sorted(RENDERERS)))
@pytest.mark.parametrize("memory", sorted(MEMORIES))
def test_every_sampled_turn_has_its_moment(memory: str, seed: int, renderer: str) -> None:
    """An act is asked where it was sampled; a memory's turn where an act would have been."""
    render = RENDERERS[renderer](ByteTokenizer())
    trajectory, prompts = played(HashPolicy(render), render, memory, seed, 120)
    places = moments(trajectory)
    assert [place.turn for place in places] == sorted(prompts)
    for place in places:
        shown = trajectory.segments[place.segment].token_ids[: place.at] + place.more
        if trajectory.turns[place.turn].purpose == "act":
            assert shown == prompts[place.turn].ids
        header = render.header()
        assert shown[-len(header) :] == header or memory == "delethink"


MODELS = {
    name: sharp(
        init_model(vocab_size=264, hidden=32, heads=2, mlp=32, window=window, max_positions=4096)
    )
    for name, window in (("plain", 0), ("windowed", 3))
}


def likelihood(model: object, shown: Ids, answers: list[Ids], first: int) -> float:
    """The likeliest answer's geometric mean probability, by a forward pass for it alone."""
    pairs = [(shown + ids[:first], ids[first:]) for ids in answers]
    return max(math.exp(sum(row) / len(row)) for row in score(model, pairs, 0))


@settings(max_examples=6)
@given(
    seed=st.integers(0, 10**6),
    model=st.sampled_from(sorted(MODELS)),
    renderer=st.sampled_from(sorted(RENDERERS)),
    every=st.integers(1, 3),
    keep=st.integers(0, 1),
)
def test_gains_telescope_over_folds(
    seed: int, model: str, renderer: str, every: int, keep: int
) -> None:
    """Each value is that of the prompt the policy was shown; a fold's is that before folding."""
    torch.set_num_threads(1)
    tokenizer = ByteTokenizer()
    render = RENDERERS[renderer](tokenizer)
    network = MODELS[model]
    policy = TorchPolicy(network, render.stop_ids, pad_id=256)
    options = {"trigger": "turns", "every": every, "keep": keep, "max_tokens": 10}
    trajectory, prompts = played(policy, render, "summarise", seed, 24, **options)
    env = registry.make(WORLD)
    read = AnswerReader(policy, render, {WORLD: env.tools})
    gains, logs = (
        information_gain(trajectory, lambda t, form: read.read([t], form)[0], kind=kind)
        for kind in ("prob_diff", "log_prob_diff")
    )

    written = [
        render.say(Message("assistant", f"answer {gold}"), ()) for gold in trajectory.task.answer
    ]
    if renderer == "chatml":
        writer = read.writer(WORLD, AnswerForm())
        written = [writer(gold).ids for gold in trajectory.task.answer]
    answer = read.writer(WORLD, AnswerForm())(trajectory.task.answer[0])
    asked = (*render.encode(Message("user", INSTRUCTION)), *render.header())
    values = []
    for turn, prompt in sorted(prompts.items()):
        shown = prompt.ids
        if trajectory.turns[turn].purpose == "fold":
            assert shown[-len(asked) :] == asked
            shown = shown[: -len(asked)] + render.header()
        cut = [ids[: answer.last] for ids in written]
        values.append(likelihood(network, shown, cut, answer.first))
    folds = [turn.index for turn in trajectory.turns if turn.purpose == "fold"]
    assert len(values) == len(trajectory.turns) == len(gains)
    assert folds or len(values) < 2 + every
    assert sum(gains) == pytest.approx(values[-1] - values[0], abs=1e-5)
    steps = [after - before for before, after in pairwise(values)]
    assert gains == pytest.approx([*steps, 0.0], abs=1e-5)
    heights = [math.log(value) for value in values]
    rises = [after - before for before, after in pairwise(heights)]
    assert logs == pytest.approx([*rises, 0.0], abs=2e-4)
