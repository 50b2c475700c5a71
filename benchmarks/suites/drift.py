"""Token drift by chat template: ids as sampled, and as a trainer gets them that works on text (B7).

    python -m benchmarks.suites.drift

A model of random weights (one layer, the vocabulary of the family) plays `EPISODES` episodes of at
most `TURNS` turns, at most `LENGTH` ids each: what it samples ("random"), or in its place a thought
and a call, with JSON as models often write it ("tight") and as templates do ("spaced"). For every
published template that TRL ships:

    ours       turns of which an id differs between what was sampled and what would be trained
    text       share of turns whose ids are others when their text is encoded again
    template   share of turns after which the prompt does not begin with the prompt before and what
               was sampled, when all messages are rendered by the template and encoded, as chat
               APIs and trainers on messages do
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import trl

from foldgym.agents.answering import moments
from foldgym.agents.engines.chat_template import ChatTemplate
from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.tokenizer import Tokenizer
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.agents.renderers import Renderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.envs import registry
from foldgym.envs.worker import open_worker
from foldgym.errors import ConfigError
from foldgym.memory import FullHistory
from foldgym.seeding import generator
from foldgym.testing.families import FAMILIES, Family, backend
from foldgym.types import (
    Budget,
    Completion,
    EnvHandle,
    Finish,
    Ids,
    Message,
    Policy,
    Prompt,
    Request,
    Reward,
    Sampling,
    Session,
    ToolCall,
    Trajectory,
)

KINDS = ("random", "tight", "spaced")
WORLD, EPISODES, TURNS, LENGTH = "foldgym/GuessNumber-v0", 16, 4, 24


@dataclass(slots=True)
class Listening:
    """A policy that counts what it was shown and what it sampled then, or said in its place."""

    policy: TorchPolicy
    renderer: Renderer
    kind: str = "random"
    heard: Counter[tuple[Ids, Ids]] = field(default_factory=Counter[tuple[Ids, Ids]])

    @property
    def version(self) -> int:
        return self.policy.version

    def open(self, seed: int, env: EnvHandle) -> Session:
        return _Ear(self, self.policy.open(seed, env), generator(seed, "drift"))


@dataclass(slots=True)
class _Ear:
    by: Listening
    inner: Session
    rng: random.Random

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        said = await self.inner.sample(prompt, sampling)
        if self.by.kind != "random":
            number, gap = self.rng.randrange(1, 50), " " if self.by.kind == "spaced" else ""
            call = ToolCall("guess", f'{{"number":{gap}{number}}}')
            message = Message("assistant", thinking=f"try {number}", tool_calls=(call,))
            ids = self.by.renderer.say(message, prompt.tools)
            said = replace(said, ids=ids, logprobs=(0.0,) * len(ids), finish=Finish.STOP)
        self.by.heard[prompt.ids, said.ids] += 1
        return said

    def close(self) -> None:
        self.inner.close()


def play(renderer: Renderer, policy: Policy, seed: int) -> list[Trajectory]:
    """`EPISODES` episodes."""
    sampling = Sampling(max_tokens=LENGTH)
    limits = Limits(max_turns=TURNS, max_parse_errors=TURNS + 1)
    how = Rollout(renderer, FullHistory, sampling, Budget(8192), limits)
    (group,) = asyncio.run(
        rollout(
            [Request(WORLD, 0, EPISODES)],
            lambda request: open_worker(registry.maker(WORLD), "inline", 30.0),
            policy,
            how,
            seed,
            lambda trajectory: Reward(0.0, 0.0),
        )
    )
    return list(group.trajectories)


def measure(family: Family, kind: str, seed: int = 0) -> dict[str, float | None]:
    """Counts over all turns of one family."""
    torch.set_num_threads(1)
    settings = {"bos_token": family.bos, "eos_token": family.eos}
    tokenizer = Tokenizer(backend(family), template_text(family), settings)
    renderer = family.make()
    model = init_model(vocab_size=tokenizer.vocab_size, hidden=32, layers=1, heads=2, seed=seed)
    model.config.max_position_embeddings = 8192
    listening = Listening(TorchPolicy(model, renderer.stop_ids, pad_id=0), renderer, kind)
    counts: Counter[str] = Counter()
    tools = registry.make(WORLD).get_wrapper_attr("tools")
    template = ChatTemplate(tokenizer.template, settings, family.kwargs)
    trained: Counter[tuple[Ids, Ids]] = Counter()
    for trajectory in play(renderer, listening, seed):
        trained.update(pairs_of(trajectory))
        counts.update(_count(trajectory, renderer, family, template, tools))
    turns, shown = counts["turns"], counts["turns"] - counts["refused"]
    return {
        "turns": turns,
        "ids": counts["ids"],
        "ours": (listening.heard - trained).total(),
        "text": round(counts["text"] / turns, 3),
        "template": round(counts["template"] / shown, 3) if shown else None,
    }


def pairs_of(trajectory: Trajectory) -> list[tuple[Ids, Ids]]:
    """What a trainer sees: for each turn the context and the ids that were sampled in it."""
    pairs: list[tuple[Ids, Ids]] = []
    for place in moments(trajectory):
        segment = trajectory.segments[place.segment]
        mine = [n for n, owner in enumerate(segment.turn_ids) if owner == place.turn]
        pairs.append((segment.token_ids[: place.at], tuple(segment.token_ids[n] for n in mine)))
    return pairs


def _count(
    trajectory: Trajectory, renderer: Renderer, family: Family, template: ChatTemplate, tools: Any
) -> Counter[str]:
    counts: Counter[str] = Counter()
    whole = backend(family)  # control names in text become control ids, as everywhere else
    known: list[Message] = list(trajectory.task.prompt)
    for turn, (_, said) in zip(trajectory.turns, pairs_of(trajectory), strict=True):
        counts["turns"] += 1
        counts["ids"] += len(said)
        counts["text"] += encoded(whole, renderer.tokenizer.decode(said)) != said
        before = rendered(template, known, tools)
        known += [turn.message, *turn.observation]
        after = rendered(template, known, tools)
        if before is None or after is None:
            counts["refused"] += 1
        else:
            now = (*encoded(whole, before), *said)
            counts["template"] += encoded(whole, after)[: len(now)] != now
    return counts


def encoded(whole: Any, text: str) -> Ids:
    """All of a text at once."""
    return tuple(whole.encode(text, add_special_tokens=False).ids)


def rendered(template: ChatTemplate, messages: Sequence[Message], tools: Any) -> str | None:
    """The prompt that a template makes of messages; None where it refuses them."""
    try:
        return template(messages, tools)
    except ConfigError:
        return None


def template_text(family: Family) -> str:
    """The published template."""
    folder = Path(trl.__file__).parent / "chat_templates"
    return (folder / f"{family.template}.jinja").read_text("utf-8")


def run() -> dict[str, Any]:
    """Every family with a published template, every kind of turn."""
    named = {name: family for name, family in FAMILIES.items() if family.template}
    return {name: {kind: measure(family, kind) for kind in KINDS} for name, family in named.items()}


if __name__ == "__main__":
    from benchmarks.run import main

    raise SystemExit(main(["drift"]))
