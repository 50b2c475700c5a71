"""How fast a run is: tokens per second, peak memory, and the share of the GPU's peak it uses (MFU).

FLOPs are those that the model's numbers need, not those that were spent: nothing that checkpointed
layers or chunked logits compute again. A product with a matrix of P entries is 2 P per token, and
as much again for each gradient that is wanted, by its input and by the matrix; of a layer's experts
those count that a token goes to. Attention is 4 per head dimension, head, layer and pair of tokens,
windows or not, and twice that for its gradient.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor, nn

# dense bf16, from the makers' data sheets; what a device's name must hold, the longest first
PEAK_FLOPS = {
    "H100 PCIe": 756e12,
    "RTX 4090": 165e12,
    "A100": 312e12,
    "B200": 2250e12,
    "H100": 989e12,
    "H200": 989e12,
    "L40S": 362e12,
    "A10": 125e12,
    "L4": 121e12,
}


@dataclass(slots=True)
class Work:
    """What forward passes read: ids, pairs of ids that attention compares, ids under the head.

    Once for passes without a gradient, and once for passes with one.
    """

    ids: int = 0
    pairs: int = 0
    scored: int = 0
    trained_ids: int = 0
    trained_pairs: int = 0
    trained_scored: int = 0

    def add(self, inputs: Mapping[str, Any], scored: int) -> None:
        """Counts one pass; padding is nothing."""
        ids_BT: Tensor = inputs["input_ids"]
        mask, depth = inputs.get("attention_mask"), inputs.get("position_ids")
        if isinstance(mask, Tensor) and mask.shape == ids_BT.shape:
            length_B = mask.sum(1)
            ids, pairs = int(length_B.sum()), int((length_B * (length_B + 1) // 2).sum())
        else:  # rows that share a head: an id compares with those on its own line
            assert isinstance(depth, Tensor)
            ids, pairs = ids_BT.numel(), int(depth.sum()) + ids_BT.numel()
        if torch.is_grad_enabled():
            self.trained_ids += ids
            self.trained_pairs += pairs
            self.trained_scored += scored
        else:
            self.ids += ids
            self.pairs += pairs
            self.scored += scored


def total(works: Iterable[Work]) -> Work:
    """What all of them read."""
    return Work(*map(sum, zip(*map(astuple, (Work(), *works)), strict=True)))


@dataclass(frozen=True, slots=True)
class Size:
    """What a model's FLOPs depend on: entries of matrices that a token meets, and heads."""

    body: int
    head: int
    trained_body: int
    trained_head: int
    attention: int  # layers * heads * dimensions of a head

    @classmethod
    def of(cls, model: Any) -> Size:
        """Counts a model's matrices; tables of ids or positions multiply nothing."""
        config = model.config.get_text_config()
        tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
        head = getattr(model.get_output_embeddings(), "weight", None)
        if head is None:  # a head that the model does not show is a part of the body
            head = torch.empty(0)
        tables.add(id(head))
        body = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in tables]
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        return cls(
            sum(_met(p, config) for p in body),
            head.numel(),
            sum(_met(p, config) for p in body if p.requires_grad),
            head.numel() if head.requires_grad else 0,
            config.num_hidden_layers * heads * width,
        )

    def flops(self, work: Work) -> float:
        """FLOPs of all passes counted."""
        ids, scored = work.ids + 2 * work.trained_ids, work.scored + 2 * work.trained_scored
        products = self.body * ids + self.head * scored
        products += self.trained_body * work.trained_ids + self.trained_head * work.trained_scored
        return 2.0 * products + 4.0 * self.attention * (work.pairs + 3 * work.trained_pairs)


class Meter:
    """Looks at a run after every step.

    `work` says what was read so far with the policy's architecture, on all of the `devices`; `peak`
    replaces the FLOPs per second of one of them, which are known of some GPUs only.
    """

    def __init__(
        self, model: Any, work: Callable[[], Work], peak: float | None = None, devices: int = 1
    ) -> None:
        self._size, self._work, self._device = Size.of(model), work, model.device
        one = peak or peak_flops(model.device)
        self._peak = one and one * devices
        self._seen = work()

    def __call__(self, sampled: float, seconds: Mapping[str, float]) -> dict[str, Any]:
        """What a step's timings are told by, `sampled` ids in its rollouts.

        `mfu` is None where no peak is known.
        """
        now = self._work()
        done, self._seen = _since(now, self._seen), now
        found: dict[str, Any] = {"at": time.time(), "memory_gib": self._memory()}
        if seconds.get("rollout") and sampled:
            found["sampled_per_second"] = sampled / seconds["rollout"]
        if seconds.get("update"):
            found["computed_per_second"] = (done.ids + done.trained_ids) / seconds["update"]
            found["flops_per_second"] = self._size.flops(done) / seconds["update"]
            found["mfu"] = self._peak and found["flops_per_second"] / self._peak
        return found

    def _memory(self) -> float:
        """GiB at the peak: of the GPU in this step, on a CPU of the process since its start."""
        if self._device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
            return peak / 2**30
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def peak_flops(device: torch.device) -> float | None:
    """Dense bf16 FLOPs per second of a GPU that we know, else None."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for known, peak in PEAK_FLOPS.items() if known in name), None)


def _met(p: nn.Parameter, config: Any) -> int:
    """How many entries of a parameter a token is multiplied with."""
    experts: int = getattr(config, "num_experts", 0) or getattr(config, "num_local_experts", 0)
    if p.ndim == 3 and p.shape[0] == experts:
        return p.numel() // experts * config.num_experts_per_tok
    return p.numel()


def _since(now: Work, then: Work) -> Work:
    return Work(*(a - b for a, b in zip(astuple(now), astuple(then), strict=True)))
