"""A policy that knows how to write a tool call and not much else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from foldgym.config import SftRun, parse
from foldgym.trainers.sft import sft

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy folder whose model calls `guess` with some number in nearly every message."""
    folder = tmp_path_factory.mktemp("start")
    text = f"""
    output = "{folder / "run"}"
    renderer = "chatml"
    [[envs]]
    name = "foldgym/GuessNumber-v0"
    kwargs = {{low = 1, high = 8}}
    [model]
    hidden = 32
    heads = 2
    head_dim = 16
    mlp = 64
    window = 4
    max_positions = 1024
    [tokenizer]
    episodes = 50
    [sft]
    steps = 110
    batch = 4
    expert = "hasty"
    lr = 1e-2
    warmup = 5
    context_weight = 0.0
    """
    return sft(parse(SftRun, text))
