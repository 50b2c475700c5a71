"""How new weights reach vLLM: through files, a process group with its workers, or memory.

    push = Push(trainee, options)
    push.check(folder)              # the names that vLLM reads there are the policy's
    await push.meet(client)         # a server that has just started
    await push.send(client, folder) # paused, it takes the weights as they are

`receiver/foldgym_receiver.py` is the other side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from foldgym.agents.engines.engine import Trainee
from foldgym.agents.engines.receiver import foldgym_receiver as receiver
from foldgym.agents.engines.vllm_client import Calls, Unreachable
from foldgym.agents.engines.vllm_weights import names_in
from foldgym.agents.tasks import gather_or_cancel
from foldgym.errors import ConfigError

EXTENSION = "foldgym_receiver.Receiver"
FOLDER = Path(receiver.__file__).parent
GROUPS = ("gloo", "nccl")


@dataclass(slots=True)
class Push:
    """`use` is "files", "gloo", "nccl" or "memory"; `workers` are those of one server."""

    trainee: Trainee
    use: str = "files"
    workers: int = 1
    _names: tuple[str, ...] = ()
    _groups: dict[Calls, Any] = field(default_factory=dict["Calls", Any])

    @property
    def direct(self) -> bool:
        """Whether no file is read."""
        return self.use != "files"

    def check(self, folder: Path) -> None:
        """Learns what a checkpoint calls the weights. Raises `ConfigError` if the model does not.

        Some families are written under other names, or in other pieces, than they are held.
        """
        if not self.direct:
            return
        held = self._held()
        found = names_in(folder)
        strange = sorted(name for name in found if name not in held)
        if strange:
            raise ConfigError(
                f"engine.transfer: a checkpoint of this model has {strange[0]!r}, and the model in "
                'memory does not; use "files"'
            )
        self._names = tuple(name for name in held if name in found)

    async def meet(self, client: Calls) -> None:
        """Opens a process group with a server's workers. Raises `EngineError`."""
        if self.use not in GROUPS:
            return
        self.part()
        size = 1 + self.workers
        store = receiver.opened(0, size, ours=True)
        call = client.call("foldgym_join", use=self.use, port=store.port, size=size)
        ours = asyncio.to_thread(receiver.joined, self.use, store, 0, size)
        _, self._groups[client] = await _both(client, call, ours)

    def part(self) -> None:
        """Leaves all groups."""
        self._groups.clear()

    async def send(self, client: Calls, folder: str = "") -> None:
        """Gives a paused vLLM the weights as they are. Raises `EngineError`."""
        if self.use == "files":
            kwargs = {"weights_path": folder} if folder else {}
            await client.call("reload_weights", **kwargs)
        elif self.use == "memory":
            weights = self._weights()
            await client.call("reload_weights", weights_iterator=iter(weights.items()))
        else:
            await self._broadcast(client, self._weights())
        await client.forget()

    async def _broadcast(self, client: Calls, weights: Mapping[str, torch.Tensor]) -> None:
        group = self._groups.get(client)
        if group is None:
            raise Unreachable(f"{client.url} has not met the learner")

        def give() -> None:
            for weight in weights.values():
                here = weight.contiguous() if self.use == "nccl" else weight.cpu().contiguous()
                receiver.broadcast(group, here)

        call = client.call(
            "foldgym_take",
            names=list(weights),
            dtypes=[str(weight.dtype).removeprefix("torch.") for weight in weights.values()],
            shapes=[list(weight.shape) for weight in weights.values()],
        )
        await _both(client, call, asyncio.to_thread(give))

    def _weights(self) -> dict[str, torch.Tensor]:
        held = self._held()
        return {name: held[name].detach() for name in self._names}

    def _held(self) -> Mapping[str, Any]:
        if self.trainee.tensors is None:
            raise ConfigError(f'engine.transfer: {self.use!r} has no weights to send; use "files"')
        return self.trainee.tensors()


async def _both(client: Calls, call: Any, ours: Any) -> list[Any]:
    """The server's part and ours of one exchange."""
    try:
        return await gather_or_cancel([call, ours])
    except RuntimeError as problem:  # of torch, when the other side is gone
        line = " ".join(str(problem).split())[:300]
        raise Unreachable(f"{client.url} does not take weights: {line}") from problem
