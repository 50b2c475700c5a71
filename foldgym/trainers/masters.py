"""The copies that an optimiser moves, where the weights that act are too narrow or elsewhere.

In bf16 neighbouring numbers are 0.4 to 0.8 percent apart, so AdamW's steps would round to nothing:
masters in fp32 add them up, and the weights that act are the masters rounded. On another device
they keep the optimiser's state, twice the size of the weights, out of the accelerator's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Masters:
    """Copies of `acting` parameters in at least fp32, on `device` if one is given.

    Gradients go over as soon as backward has made them: micro-batches add up in fp32, and none
    stays with the parameter that acts.
    """

    def __init__(
        self, acting: Sequence[nn.Parameter], device: torch.device | str | None = None
    ) -> None:
        self.acting = list(acting)
        self.params = [nn.Parameter(_wide(p, device)) for p in self.acting]
        for p, master in zip(self.acting, self.params, strict=True):
            p.grad = None
            p.register_post_accumulate_grad_hook(_mover(master))

    @torch.no_grad()
    def publish(self) -> None:
        """The masters moved: round them into the parameters that act."""
        for p, master in zip(self.acting, self.params, strict=True):
            p.copy_(master)

    def state(self) -> list[Tensor]:
        """The copies, in order."""
        return [master.detach() for master in self.params]

    @torch.no_grad()
    def load(self, state: Sequence[Tensor]) -> None:
        """The inverse of `state`."""
        for master, value in zip(self.params, state, strict=True):
            master.copy_(value)
        self.publish()


def narrow(params: Sequence[nn.Parameter]) -> bool:
    """Whether some of these are narrower than fp32."""
    return any(torch.finfo(p.dtype).bits < 32 for p in params)


def _wide(values: Tensor, device: torch.device | str | None) -> Tensor:
    dtype = torch.promote_types(values.dtype, torch.float32)
    return values.detach().to(device=device or values.device, dtype=dtype, copy=True)


def _mover(master: nn.Parameter) -> Any:
    def move(p: Tensor) -> None:
        assert p.grad is not None
        grad = p.grad.to(device=master.device, dtype=master.dtype)
        master.grad = grad if master.grad is None else master.grad.add_(grad)
        p.grad = None

    return move
