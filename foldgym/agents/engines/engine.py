"""What stands between a policy that learns and the rollouts that it learns from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from foldgym.agents.renderers import Renderer
from foldgym.types import Ids, Policy, Scorer

ENGINES = {
    "torch": "foldgym.agents.engines.engine:in_process",
    "scripted": "foldgym.agents.engines.imitated:scripted",
    "vllm": "foldgym.agents.engines.vllm:vllm",
}


class Weights(Policy, Scorer, Protocol):
    """The policy that learns: it plays too, and reads log-probs of (prompt, target) pairs."""

    max_positions: float

    def score(  # noqa: D102
        self, pairs: Sequence[tuple[Ids, Ids]], temperature: float = 1.0
    ) -> list[tuple[float, ...]]: ...


@dataclass(frozen=True, slots=True)
class Trainee:
    """The policy that learns, as an engine sees it.

    `write(folder)` writes it into a new folder as a checkpoint would, `folder` is where the engine
    may keep files of its own. Rollouts are sampled at `temperature`, in `dtype` on `device`.
    `tensors()` are the weights as `write` would write them, most of them not copied.
    """

    policy: Weights
    renderer: Renderer
    write: Callable[[Path], None]
    folder: Path
    temperature: float = 1.0
    dtype: str = "float32"
    device: str = "cpu"
    tensors: Callable[[], Mapping[str, Any]] | None = None


class Engine(Protocol):
    """Who samples the rollouts of a run.

        await engine.start()  # with the weights as they are
        ...                   # engine.sampler plays
        await engine.rest()   # nobody plays for now: its memory may be had
        ...                   # the learner makes an update
        numbers = await engine.publish()  # from now on it samples with the new weights
        await engine.stop()   # always: nothing of it is left

    `judged` is whose success on held-out tasks counts, as a rule the sampler itself. A started
    engine raises `EngineError` in the sessions that it fails, and recovers by itself; `start` and
    `publish` raise `EngineDown` when it cannot, `publish` also `WeightsDiffer`.
    """

    @property
    def sampler(self) -> Policy: ...  # noqa: D102
    @property
    def judged(self) -> Policy: ...  # noqa: D102
    async def start(self) -> None: ...  # noqa: D102
    async def rest(self) -> None: ...  # noqa: D102
    async def publish(self) -> dict[str, float]: ...  # noqa: D102
    async def stop(self) -> None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class InProcess:
    """The policy that learns also samples: there is nothing to publish."""

    sampler: Policy

    @property
    def judged(self) -> Policy:
        """The same."""
        return self.sampler

    async def start(self) -> None:
        """Nothing to start."""

    async def rest(self) -> None:
        """Nothing to lend."""

    async def publish(self) -> dict[str, float]:
        """The weights are there already."""
        return {}

    async def stop(self) -> None:
        """Nothing to stop."""


def in_process(trainee: Trainee) -> Engine:
    """`[engine] use = "torch"`."""
    return InProcess(trainee.policy)
