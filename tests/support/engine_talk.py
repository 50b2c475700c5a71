"""Small models and conversations with the torch engine, for its tests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from foldgym.agents.engines.models import init_model
from foldgym.agents.engines.torch_engine import TorchPolicy
from foldgym.types import Completion, Ids, Prompt, Sampling

VOCAB = 61
STOPS = (1, 2, 3, 4)
BATCHING = ("rounds", "dynamic")
SIX = Sampling(1.0, 6)


def sharp(model: nn.Module, by: float = 6.0) -> Any:
    """Fresh weights give nearly even odds; larger ones make every prefix matter."""
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight *= by
    return model


def qwen(seed: int = 0, kv_heads: int = 1, max_positions: int = 256) -> Any:
    model = init_model(
        vocab_size=VOCAB,
        hidden=32,
        layers=2,
        heads=2,
        kv_heads=kv_heads,
        mlp=48,
        max_positions=max_positions,
        seed=seed,
    )
    return sharp(model)


def windowed() -> Any:
    """Its first layer sees three tokens only, the others everything."""
    return sharp(init_model(vocab_size=VOCAB, hidden=32, heads=2, mlp=48, window=3))


def mistral() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = MistralConfig(
            vocab_size=VOCAB,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            sliding_window=8,
            max_position_embeddings=256,
        )
        return sharp(MistralForCausalLM(config))


def gpt2() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=2, n_positions=256)
        return sharp(GPT2LMHeadModel(config), 3.0).eval()


def engine(model: Any, batching: str = "rounds", **more: Any) -> TorchPolicy:
    return TorchPolicy(model, STOPS, pad_id=0, batching=batching, **more)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Talk:
    """A conversation: what was shown and what came back, turn by turn."""

    prompts: tuple[Ids, ...]
    completions: tuple[Completion, ...]


async def converse(
    policy: TorchPolicy,
    number: int,
    *,
    turns: int = 5,
    sampling: Sampling = SIX,
    delay: Callable[[], float] | None = None,
    fresh_sessions: bool = False,
) -> Talk:
    """Random observations; now and then the past is folded away, cut in the middle or repeated."""
    rng = random.Random(number)

    def some(low: int, high: int) -> Ids:
        return tuple(rng.randrange(5, VOCAB) for _ in range(rng.randrange(low, high)))

    ids = some(1, 30)
    session = policy.open(number)
    prompts, completions = [], []
    for _ in range(turns):
        if delay is not None:
            await asyncio.sleep(delay())
        said = await session.sample(Prompt(ids), sampling)
        prompts.append(ids)
        completions.append(said)
        kind = rng.random()
        if kind < 0.6:
            ids = ids + said.ids + some(1, 12)
        elif kind < 0.75:
            ids = ids[: rng.randrange(1, len(ids) + 1)] + some(0, 4)
        elif kind < 0.9:
            ids = some(1, 40)
        if fresh_sessions:
            policy.advance()
    if delay is not None:
        await asyncio.sleep(delay())  # an episode is measured before its session closes
    session.close()
    return Talk(tuple(prompts), tuple(completions))


def together(policy: TorchPolicy, numbers: Sequence[int], **how: Any) -> list[Talk]:
    async def all_of_them() -> list[Talk]:
        return await asyncio.gather(*(converse(policy, number, **how) for number in numbers))

    return asyncio.run(asyncio.wait_for(all_of_them(), 60))


def ids_of(talks: Sequence[Talk]) -> list[list[Ids]]:
    return [[said.ids for said in talk.completions] for talk in talks]


def reference(model: Any, prompt: Ids, ids: Ids, temperature: float) -> np.ndarray:
    """Log-probs from one plain forward pass over prompt and completion."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + ids])).logits[0].double()
    logprobs = torch.log_softmax(logits / temperature, dim=-1)[len(prompt) - 1 : -1]
    return logprobs.gather(1, torch.tensor(ids)[:, None]).squeeze(1).numpy()
