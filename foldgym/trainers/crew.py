"""Several processes that learn as one: rank 0 plays and gives orders, all compute their share.

Weights, gradients and the optimiser's state are sharded (FSDP2 through accelerate, see
`accelerated`). A step is that of one process over the whole batch: the weights of its tokens sum to
one, so gradients are added and not averaged.
Started by `foldgym train --processes N`, torchrun or `accelerate launch`.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from foldgym.errors import ConfigError, NotFinite, ProcessLost
from foldgym.trainers.accelerated import accelerator, shard

if TYPE_CHECKING:
    from foldgym.types import Floats

T = TypeVar("T")
_PATIENCE = timedelta(days=7)  # others wait while rank 0 plays
_STOP = "stop"
_GONE = re.compile(r"gloo|nccl|connection (reset|closed)|broken pipe", re.IGNORECASE)


class Crew:
    """The processes of a run. `Crew()` is one process alone, to whom all this is nothing."""

    def __init__(self, rank: int = 0, size: int = 1, accelerator: Any = None) -> None:
        self.rank, self.size, self._accelerator = rank, size, accelerator

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.size == 1

    def mine(self, parts: Sequence[T]) -> list[tuple[T, bool]]:
        """This rank's share, and whether each counts.

        Every rank gets equally many, for a forward pass is work of all of them: who would have
        fewer runs the last part once more, to no effect.
        """
        if not parts:
            return []
        rounds = -(-len(parts) // self.size)
        places = range(self.rank, rounds * self.size, self.size)
        return [(parts[min(at, len(parts) - 1)], at < len(parts)) for at in places]

    def agree(self, problem: NotFinite | None = None) -> None:
        """Goes on only if nobody has a problem; raises that of the lowest rank everywhere."""
        for found in self.gather(problem):
            if found is not None:
                raise found

    def attempt(self, act: Callable[[], T]) -> T:
        """What `act` returns, if it has no problem on any rank."""
        value: T | None = None
        problem: NotFinite | None = None
        try:
            value = act()
        except NotFinite as found:
            problem = found
        self.agree(problem)
        return cast("T", value)

    def gather(self, value: T) -> list[T]:
        """The value of every rank, in order."""
        if self.alone:
            return [value]
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def total(self, values: Floats) -> Floats:
        """The sum over ranks."""
        if self.alone:
            return values
        return np.sum(self.gather(values), axis=0)

    # ------------------------------------------------------------ orders

    def order(self, name: str, *values: object) -> None:
        """Rank 0 tells the others which method of the learner it calls, and with what."""
        if self.rank == 0 and not self.alone:
            torch.distributed.broadcast_object_list([(name, values)], src=0)

    def dismiss(self) -> None:
        """Rank 0 needs nobody any more."""
        if not self.alone:
            self.order(_STOP)
            torch.distributed.barrier()

    def serve(self, learner: Any) -> None:
        """What every other rank does: whatever rank 0 calls, until it is done."""
        while True:
            box: list[Any] = [None]
            torch.distributed.broadcast_object_list(box, src=0)
            name, values = box[0]
            if name == _STOP:
                torch.distributed.barrier()
                return
            try:
                getattr(learner, name)(*values)
            except NotFinite:  # rank 0 has the same, and decides what becomes of the run
                continue

    # ------------------------------------------------------------ weights

    def shard(self, scorer: nn.Module, layers: Sequence[nn.Module]) -> None:
        """Spreads the parameters of a module over all ranks (see `accelerated.shard`)."""
        shard(self._accelerator, scorer, layers)

    def whole(self, tree: Any) -> Any:
        """The same tables and lists with whole tensors in the place of shards; all ranks at once.

        Only rank 0 keeps them.
        """
        if isinstance(tree, dict):
            return {key: self.whole(value) for key, value in tree.items()}
        if isinstance(tree, list):
            return [self.whole(value) for value in tree]
        if hasattr(tree, "full_tensor"):
            full: Tensor = tree.detach().full_tensor()
            return full if self.rank == 0 else None
        return tree


def sharded_like(p: Tensor, full: Tensor) -> Tensor:
    """A whole tensor as the shards of a parameter of its shape; as it is beside whole ones."""
    shard: Any = p
    if not hasattr(shard, "placements") or full.shape != p.shape:
        return full
    from torch.distributed.tensor import distribute_tensor

    full = full.to(device=p.device, dtype=p.dtype)
    return distribute_tensor(full, shard.device_mesh, shard.placements, src_data_rank=None)


class Trainee:
    """What a crew trains, in shards; on rank 0 the policy `whole` plays with its weights."""

    def __init__(self, crew: Crew, model: Any, whole: Any) -> None:
        self.model, self.whole = model, whole
        self._crew = crew

    @property
    def version(self) -> int:
        """How many updates the weights have seen."""
        return self.whole.version

    @torch.no_grad()
    def advance(self) -> None:
        """Gathers what was trained, a parameter at a time, and gives it to the policy."""
        theirs = dict(self.whole.model.named_parameters()) if self._crew.rank == 0 else {}
        for name, p in self.model.named_parameters():
            if p.requires_grad:
                full = self._crew.whole(p)
                if full is not None:
                    theirs[name].copy_(full)
        if self._crew.rank == 0:
            self.whole.advance()


class Bystander:
    """The policy of a rank that does not play."""

    version = 0


@contextmanager
def together(how_on: str) -> Generator[None]:
    """Raises `ProcessLost`, which says `how_on`, where work of a crew ends for want of a rank."""
    try:
        yield
    except RuntimeError as problem:
        if not torch.distributed.is_initialized() or not _GONE.search(str(problem)):
            raise
        raise ProcessLost(
            f"another process of this run is gone, and said why if it could; {how_on}"
        ) from problem


def rank() -> int:
    """The number of this process in its crew, 0 if it is alone."""
    return int(os.environ.get("RANK", "0")) if os.environ.get("WORLD_SIZE", "1") != "1" else 0


def leave(code: int = 0) -> None:
    """Ends this process if it is one of several, at once.

    Threads of gloo that outlive the interpreter would now and then abort it on its way out.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def join(device: str) -> tuple[Crew, str]:
    """The crew that this process was started into, and the device of its own.

    Call it once the run file is known to be right: it waits for the others.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Crew(), device
    cuda = device.startswith("cuda")
    if cuda:
        local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= there:
            raise ConfigError(
                f"policy.device: every process needs a GPU of its own, and there are {there}; "
                f'start {there or "none"}, or choose device = "cpu"'
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    joined = accelerator(cuda, _PATIENCE)
    return Crew(joined.process_index, size, joined), device
