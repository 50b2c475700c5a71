"""The options of `[engine] use = "vllm"`, and the server that they describe."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foldgym.agents.engines.engine import Trainee
from foldgym.agents.engines.vllm_push import EXTENSION, FOLDER, GROUPS, Push
from foldgym.agents.engines.vllm_python import find_python
from foldgym.agents.engines.vllm_server import Server
from foldgym.errors import ConfigError

_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1, "float16": 0.05}
_ON_CPU = {"VLLM_TARGET_DEVICE": "cpu", "TORCHDYNAMO_DISABLE": "1"}  # compiling takes half a minute
_WHOLE_PROMPTS = "--no-enable-chunked-prefill"  # a seeded one in pieces ends vLLM 0.32 on a CPU
_STARTING = ("python", "gpus", "tensor_parallel", "max_model_len", "eager", "args", "env")
_ON_GPU = ("gpu_memory_utilization", "gpus", "tensor_parallel")


@dataclass(frozen=True, slots=True)
class Options:
    """As written in the run file; None is what was left out."""

    url: str | list[str] | None = None
    weights: str | None = None
    python: str | None = None
    gpus: str | int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_gib: int | None = None
    tensor_parallel: int | None = None
    max_model_len: int | None = None
    eager: bool | None = None
    colocated: bool = False
    sleep: bool = False
    args: list[str] | None = None
    env: dict[str, str] | None = None
    tolerance: float | None = None
    timeout: float = 300.0
    start_seconds: float = 900.0
    restarts: int = 3
    transfer: str = "files"

    def check(self, trainee: Trainee) -> None:
        """Raises `ConfigError` for an option without effect, or one out of range."""
        for name, reason in self._inert(trainee):
            if getattr(self, name) is not None:
                raise ConfigError(f"engine.{name}: has no effect: {reason}; remove it")
        bounds = {
            "tensor_parallel": 1,
            "max_model_len": 2,
            "kv_cache_gib": 1,
            "restarts": 0,
            "timeout": 1,
            "start_seconds": 1,
            "tolerance": 0,
            "gpu_memory_utilization": 0,
        }
        for name, least in bounds.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"engine.{name}: {value!r} must be at least {least}")
        if self.colocated and importlib.util.find_spec("vllm") is None:
            raise ConfigError(
                "engine.colocated: vLLM must be installed beside foldgym for that, and this Python "
                "has none: pip install 'foldgym[vllm]', or leave engine.colocated out"
            )
        self._check_transfer(trainee)
        if self.url == []:
            raise ConfigError("engine.url: an empty list; name a server, or leave it out")

    def _check_transfer(self, trainee: Trainee) -> None:
        wish = f"engine.transfer: {self.transfer!r}"
        if self.transfer == "memory" and not self.colocated:
            raise ConfigError(
                f"{wish} is for vLLM in this process (engine.colocated); a server takes "
                '"files", "gloo" or "nccl"'
            )
        if self.transfer in GROUPS and self.colocated:
            raise ConfigError(f'{wish} is for a server; with engine.colocated use "memory"')
        if self.transfer in GROUPS and self.url is not None:
            raise ConfigError(
                f"{wish} needs a server that was started for it, and engine.url names servers that "
                'already run; use "files"'
            )
        if self.transfer == "nccl" and trainee.device == "cpu":
            raise ConfigError(
                f'{wish} sends from GPU to GPU, and policy.device is "cpu"; use "gloo" or "files"'
            )

    def _inert(self, trainee: Trainee) -> Iterator[tuple[str, str]]:
        if self.url is not None:
            for name in (*_STARTING, "gpu_memory_utilization", "kv_cache_gib"):
                yield name, "engine.url names servers that already run"
        if self.colocated:
            for name in ("url", "python", "gpus", "args", "tensor_parallel"):
                yield name, "engine.colocated is true: vLLM runs in this process"
        if trainee.device == "cpu":
            for name in _ON_GPU:
                yield name, 'policy.device is "cpu"'
        else:
            yield "kv_cache_gib", f"policy.device is {trainee.device!r}; it is for the CPU"

    @property
    def urls(self) -> Sequence[str]:
        """The servers that already run; none if we start one."""
        return [self.url] if isinstance(self.url, str) else self.url or []

    def push(self, trainee: Trainee) -> Push:
        """How weights get there."""
        return Push(trainee, self.transfer, self.tensor_parallel or 1)

    def folder(self, trainee: Trainee) -> Path:
        """Where weights are written for the server to read: a folder of its own."""
        return (Path(self.weights) if self.weights else trainee.folder) / "weights"

    def tolerance_of(self, trainee: Trainee) -> float:
        """How far log-probs may differ on average: as asked for, or by the type of the weights."""
        return _TOLERANCE[trainee.dtype] if self.tolerance is None else self.tolerance

    def server(self, trainee: Trainee, weights: Path) -> Server:
        """The server to start. Raises `ConfigError` if there is no vLLM."""
        flags = self._flags(trainee)
        python = find_python(self.python or "")
        variables = self._variables(trainee)
        paths = [str(FOLDER), *filter(None, [variables.get("PYTHONPATH")])]
        variables["PYTHONPATH"] = os.pathsep.join(paths)
        return Server(python, weights.absolute(), trainee.folder, flags, variables)

    def settings(self, trainee: Trainee, weights: Path) -> tuple[dict[str, Any], dict[str, str]]:
        """Arguments of vLLM's `LLM`, and variables of its environment."""
        settings: dict[str, Any] = {
            "model": str(weights.absolute()),
            "dtype": trainee.dtype,
            "logprobs_mode": "processed_logprobs",
            "max_logprobs": 1,
            "generation_config": "vllm",
            "enable_prefix_caching": True,
            "enforce_eager": self._eager(trainee),
        }
        if trainee.device == "cpu":
            settings["enable_chunked_prefill"] = False
        if (length := self._length(trainee)) is not None:
            settings["max_model_len"] = length
        if self.gpu_memory_utilization is not None:
            settings["gpu_memory_utilization"] = self.gpu_memory_utilization
        if self.sleep and trainee.device != "cpu":
            settings["enable_sleep_mode"] = True
        return settings, self._variables(trainee)

    def _eager(self, trainee: Trainee) -> bool:
        return trainee.device == "cpu" if self.eager is None else self.eager

    def _length(self, trainee: Trainee) -> int | None:
        if self.max_model_len is not None:
            return self.max_model_len
        most = trainee.policy.max_positions
        return int(most) if math.isfinite(most) else None

    def _flags(self, trainee: Trainee) -> list[str]:
        flags = {
            "--dtype": trainee.dtype,
            "--logprobs-mode": "processed_logprobs",
            "--max-logprobs": "1",
            "--generation-config": "vllm",
            "--uvicorn-log-level": "warning",
        }
        if (length := self._length(trainee)) is not None:
            flags["--max-model-len"] = str(length)
        if self.gpu_memory_utilization is not None:
            flags["--gpu-memory-utilization"] = str(self.gpu_memory_utilization)
        if self.tensor_parallel is not None:
            flags["--tensor-parallel-size"] = str(self.tensor_parallel)
        words = [word for pair in flags.items() for word in pair]
        words += ["--enable-prefix-caching", "--disable-log-stats"]
        if self._eager(trainee):
            words.append("--enforce-eager")
        if trainee.device == "cpu":
            words.append(_WHOLE_PROMPTS)
        if self.transfer in GROUPS:
            words += ["--worker-extension-cls", EXTENSION]
        if self.sleep and trainee.device != "cpu":
            words.append("--enable-sleep-mode")
        return [*words, *(self.args or [])]

    def _variables(self, trainee: Trainee) -> dict[str, str]:
        variables: dict[str, str] = {}
        if trainee.device == "cpu":
            variables = {**_ON_CPU, "VLLM_CPU_KVCACHE_SPACE": str(self.kv_cache_gib or 1)}
        elif self.gpus is not None:
            variables = {"CUDA_VISIBLE_DEVICES": str(self.gpus)}
        return {**variables, **(self.env or {})}
