"""Our part of a vLLM server, found on its PYTHONPATH; of torch and vLLM, torch alone is needed.

`Receiver` is mixed into vLLM's workers (`--worker-extension-cls`) and takes weights from a process
group that learner and workers share: its methods are called by `/collective_rpc`, and what arrives
goes through the worker's own `reload_weights`. `sleep_to_wait` is a plugin of vLLM, named in the
`dist-info` folder beside this file; vLLM loads it in each of its processes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib import import_module
from typing import Any

import torch
import torch.distributed as dist

HOST = "127.0.0.1"  # servers of ours run beside us
PATIENCE = timedelta(seconds=120)


def opened(port: int, size: int, *, ours: bool) -> Any:
    """The store over which a group meets: the learner opens it, on any port if that is 0."""
    parts: Any = dist
    return parts.TCPStore(HOST, port, size, ours, PATIENCE, False)


def joined(use: str, store: Any, rank: int, size: int) -> Any:
    """A process group over `store`, apart from the default one; rank 0 has the weights."""
    parts: Any = dist
    if use == "nccl":
        options = parts.ProcessGroupNCCL.Options()
        options._timeout = PATIENCE
        return parts.ProcessGroupNCCL(store, rank, size, options)
    options = parts.ProcessGroupGloo._Options()
    options._devices = [parts.ProcessGroupGloo.create_device(hostname=HOST)]
    options._timeout = PATIENCE
    return parts.ProcessGroupGloo(store, rank, size, options)


def broadcast(group: Any, tensor: torch.Tensor) -> None:
    """From rank 0 to all; done when it returns."""
    how: Any = dist.BroadcastOptions()
    how.rootRank, how.rootTensor = 0, 0
    group.broadcast([tensor], how).wait()
    if tensor.is_cuda:
        torch.cuda.current_stream().synchronize()


class Receiver:
    """The methods of a worker; `rank`, `device` and `reload_weights` are vLLM's."""

    def foldgym_join(self: Any, use: str, port: int, size: int) -> None:
        """Joins the group of the learner, whose store listens on `port`."""
        self.foldgym_device = self.device if use == "nccl" else torch.device("cpu")
        self.foldgym_group = joined(use, opened(port, size, ours=False), 1 + self.rank, size)

    def foldgym_take(
        self: Any, names: Sequence[str], dtypes: Sequence[str], shapes: Sequence[Sequence[int]]
    ) -> None:
        """Loads tensors that are sent in this order."""

        def arriving() -> Iterator[tuple[str, torch.Tensor]]:
            for name, dtype, shape in zip(names, dtypes, shapes, strict=True):
                kind = getattr(torch, dtype)
                tensor = torch.empty(list(shape), dtype=kind, device=self.foldgym_device)
                broadcast(self.foldgym_group, tensor)
                yield name, tensor

        rest = arriving()
        try:
            self.reload_weights(weights_iterator=rest)
        finally:
            for _ in rest:  # who sends waits for all of them to be taken
                pass


def sleep_to_wait() -> None:
    """On a CPU, vLLM's processes wait for each other asleep, some 50 us longer.

    They wait awake otherwise, by `sched_yield`, and where they share cores that is nobody's gain:
    some kernels (seen: 6.18) then leave what else is ready to run there waiting for seconds.
    """
    platforms: Any = import_module("vllm.platforms")
    if platforms.current_platform.is_cpu():
        waiting: Any = import_module("vllm.distributed.utils")
        waiting.USE_SCHED_YIELD = False
        logging.getLogger("vllm.foldgym").info("sleeps to wait")
