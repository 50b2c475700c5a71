"""Small groups, trajectories and models by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from odd_runs import make_policy
from transformers import Qwen3Config, Qwen3ForCausalLM

from foldgym.types import Group, Message, Request, Reward, Segment, Stop, Task, Trajectory, Turn

VOCAB = 64


def segment(turn_ids: Sequence[int], logprob: float = -0.5, **more: object) -> Segment:
    """Ids that differ by position; sampled ones all have the same log-prob."""
    ids = tuple((7 * i + 3 * (turn + 2)) % VOCAB for i, turn in enumerate(turn_ids))
    logprobs = tuple(logprob if turn >= 0 else 0.0 for turn in turn_ids)
    versions = tuple(0 if turn >= 0 else -1 for turn in turn_ids)
    return Segment(ids, tuple(turn_ids), logprobs, versions, **more)  # pyright: ignore


def trajectory(
    *segments: Sequence[int] | Segment, name: str = "t", stop: Stop = Stop.DONE, **facts: float
) -> Trajectory:
    built = tuple(s if isinstance(s, Segment) else segment(s) for s in segments)
    last = max((turn for s in built for turn in s.turn_ids), default=-1)
    turns = tuple(Turn(k, Message("assistant", "x")) for k in range(last + 1))
    error = "EnvTimeout: late" if stop is Stop.ERROR else ""
    return Trajectory(name, "world", Task("q", ()), 0, turns, built, stop, facts, error)


def group(rewards: Sequence[float], *trajectories: Trajectory) -> Group:
    if not trajectories:
        trajectories = tuple(trajectory([-1, 0, 0], name=f"t{i}") for i in range(len(rewards)))
    return Group(
        Request("world", 1, len(rewards)), trajectories, tuple(Reward(r, r) for r in rewards)
    )


class Policy:
    """A model and its version: all that a learner needs of a policy."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model, self.version = model, 0

    def advance(self) -> None:
        self.version += 1


def tiny(seed: int = 0, dtype: torch.dtype = torch.float64) -> Policy:
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    return Policy(Qwen3ForCausalLM(config).to(dtype))


def weights(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in policy.model.named_parameters()}


@pytest.fixture(scope="session")
def by_hand() -> SimpleNamespace:
    torch.set_num_threads(1)
    make: dict[str, Callable[..., object]] = {
        "segment": segment,
        "trajectory": trajectory,
        "group": group,
        "tiny": tiny,
        "weights": weights,
        "policy": Policy,
    }
    return SimpleNamespace(**make)


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny policy (`sft`) and a reward for it (`odd.py`); to be read only."""
    folder = tmp_path_factory.mktemp("here")
    make_policy(folder)
    return folder
