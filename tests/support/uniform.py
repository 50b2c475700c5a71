"""The trainee of `vllm_double`, and engines between the two."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from vllm_double import STOP, VOCAB

from foldgym.agents.engines.engine import Trainee
from foldgym.agents.engines.vllm import VllmEngine, vllm
from foldgym.agents.renderers import CompactRenderer
from foldgym.testing.doubles import ByteTokenizer

EVEN = -math.log(VOCAB)


class Uniform:
    """The trainee of the double: all ids alike, and a `shift` in the place of weights."""

    def __init__(self) -> None:
        self.version, self.shift, self.max_positions = 0, 0.0, 200.0

    def open(self, seed: int, env: object) -> Any:
        raise NotImplementedError

    def update(self, shift: float) -> None:
        self.version, self.shift = self.version + 1, shift

    def logprobs(self, prompt: Any, target: Any) -> tuple[float, ...]:
        return self.score([(prompt, target)])[0]

    def score(self, pairs: Any, temperature: float = 1.0) -> list[tuple[float, ...]]:
        return [(EVEN - self.shift,) * len(target) for _, target in pairs]

    def write(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "shift.json").write_text(json.dumps(self.shift))
        save_file(self.tensors(), folder / "model.safetensors")
        (folder / "config.json").write_text('{"tie_word_embeddings": false}')

    def tensors(self) -> dict[str, torch.Tensor]:
        return {"shift": torch.tensor(self.shift, dtype=torch.float64)}


def engine_of(trained: Uniform, folder: Path, **options: Any) -> VllmEngine:
    renderer = CompactRenderer(ByteTokenizer())
    renderer.stop_ids = (STOP,)
    trainee = Trainee(trained, renderer, trained.write, folder, tensors=trained.tensors)
    engine = vllm(trainee, **options)
    assert isinstance(engine, VllmEngine)
    return engine
