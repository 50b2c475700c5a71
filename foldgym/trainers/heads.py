"""Log-probs and entropy from hidden states, with logits of a chunk of tokens at a time.

Logits are the largest thing that a training step holds: 32,768 tokens of a vocabulary of 150,000
are 18 GiB in fp32, and plain autograd keeps several arrays of that size. Here a chunk's logits
live until its log-probs are read off, and are computed again when the gradient comes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# what configs of transformers call the factor on, or the bound of, what the head returns
_SCALES = {"logit_scale": 1, "lm_head_multiplier": 1, "logits_scaling": -1}  # name: its power
_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")


@dataclass(frozen=True, slots=True)
class Form:
    """What a model does to the numbers of its head: `cap * tanh(scale * x / cap)`, cap 0: none."""

    scale: float = 1.0
    cap: float = 0.0

    def __call__(self, logits_NV: Tensor) -> Tensor:
        """The model's logits, in at least fp32, from its head's."""
        wide_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
        if self.scale != 1.0:
            wide_NV = wide_NV * self.scale
        if not self.cap:
            return wide_NV
        wide_NV = wide_NV / self.cap
        wide_NV = torch.tanh(wide_NV)
        return self.cap * wide_NV

    def slope(self, logits_NV: Tensor) -> Tensor | float:
        """The derivative by the head's numbers, where the model's logits are these."""
        if not self.cap:
            return self.scale
        return self.scale * (1 - (logits_NV / self.cap) ** 2)


@torch.no_grad()
def form_of(model: Any) -> Form | None:
    """The form of a model's head, tried on a few ids; None if it is none that we know.

    Known is a linear head whose numbers are scaled or capped as the config says. What the config
    names is tried first: near 0 a cap hardly shows.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        return None
    config: Any = model.config.get_text_config()
    ids = torch.arange(4, device=model.device)[None] % config.vocab_size
    hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    theirs = model(input_ids=ids, use_cache=False).logits
    ours = functional.linear(hidden, head.weight, head.bias)  # a patched head is none of ours
    tolerance = 1e-5 if torch.finfo(theirs.dtype).bits >= 32 else 2e-2
    for form in _forms(config):
        mine = form(ours)
        if torch.allclose(mine, theirs.to(mine.dtype), rtol=tolerance, atol=1e-8):
            return form
    return None


def _forms(config: Any) -> Iterator[Form]:
    scales = [float(x) ** power for name, power in _SCALES.items() if (x := _get(config, name))]
    caps = [float(x) for name in _CAPS if (x := _get(config, name))]
    for scale, cap in product((*scales, 1.0), (*caps, 0.0)):
        yield Form(scale, cap)


def _get(config: Any, name: str) -> Any:
    return getattr(config, name, None)


def read_logits(
    logits_NV: Tensor, ids_N: Tensor, temperature: float, entropy_gradient: bool
) -> tuple[Tensor, Tensor]:
    """Log-probs of `ids_N` and entropies [N] under a model's logits, of which autograd keeps one
    array. If nobody else holds the logits, no more than two arrays of their size are ever there.
    """
    logits_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32))
    logits_NV = logits_NV / temperature
    all_NV = torch.log_softmax(logits_NV, dim=-1)
    del logits_NV
    logp_N = all_NV.gather(1, ids_N.unsqueeze(1)).squeeze(1).clone()  # FSDP hooks no views
    differentiable = entropy_gradient and torch.is_grad_enabled()
    with torch.set_grad_enabled(differentiable):
        p_NV = all_NV.exp()
        entropy_N = -(p_NV * all_NV if differentiable else p_NV.mul_(all_NV)).sum(-1)
    return logp_N, entropy_N


def read_hidden(
    hidden_ND: Tensor,
    head: nn.Linear,
    ids_N: Tensor,
    form: Form,
    *,
    temperature: float = 1.0,
    chunk: int = 0,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """The same from the hidden states that the head reads, `chunk` tokens at a time (0: all).

    What differs from `read_logits` is rounding; the gradient reaches hidden states, weight and
    bias, and through the entropy only if that is asked for.
    """
    if not chunk or len(ids_N) <= chunk:
        return read_logits(
            form(functional.linear(hidden_ND, head.weight, head.bias)),
            ids_N,
            temperature,
            entropy_gradient,
        )
    out: Any = _Chunked.apply(
        hidden_ND, head.weight, head.bias, ids_N, form, temperature, chunk, entropy_gradient
    )
    return out


class _Chunked(torch.autograd.Function):
    """With p the tempered distribution and H its entropy, by logit z of a token whose id is y:
    d logp(y) / dz = [z is y's] - p,  dH / dz = -p (log p + H).
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        ids_N: Tensor,
        form: Form,
        temperature: float,
        chunk: int,
        entropy_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(hidden_ND, weight_VD, bias_V, ids_N)
        ctx.options = form, temperature, chunk, entropy_gradient
        parts = [
            read_logits(
                form(functional.linear(hidden_CD, weight_VD, bias_V)), ids_C, temperature, False
            )
            for hidden_CD, ids_C in zip(hidden_ND.split(chunk), ids_N.split(chunk), strict=True)
        ]
        logp_N, entropy_N = (torch.cat(values) for values in zip(*parts, strict=True))
        if not entropy_gradient:
            ctx.mark_non_differentiable(entropy_N)
        return logp_N, entropy_N

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        by_logp_N, by_entropy_N = grad_outputs
        hidden_ND, weight_VD, bias_V, ids_N = ctx.saved_tensors
        form, temperature, chunk, entropy_gradient = ctx.options
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        by_hidden_ND = torch.empty_like(hidden_ND) if wants_hidden else None
        # chunks add up in fp32, so that those of a model in bf16 do not round one another away
        by_weight_VD = torch.zeros_like(weight_VD, dtype=by_logp_N.dtype) if wants_weight else None
        by_bias_V = torch.zeros_like(bias_V, dtype=by_logp_N.dtype) if wants_bias else None
        for start in range(0, len(ids_N), chunk):
            part = slice(start, start + chunk)
            hidden_CD = hidden_ND[part]
            logits_CV = form(functional.linear(hidden_CD, weight_VD, bias_V))
            slope = form.slope(logits_CV)
            logits_CV = logits_CV / temperature
            all_CV = torch.log_softmax(logits_CV, dim=-1)
            del logits_CV
            by_C1 = by_logp_N[part].unsqueeze(1)
            by_CV = all_CV.exp() if entropy_gradient else all_CV.exp_()  # p, for now
            if entropy_gradient:
                entropy_C1 = -(by_CV * all_CV).sum(-1, keepdim=True)
                all_CV.add_(entropy_C1).mul_(by_CV).mul_(by_entropy_N[part].unsqueeze(1))
            by_CV.mul_(-by_C1).scatter_add_(1, ids_N[part].unsqueeze(1), by_C1)
            if entropy_gradient:
                by_CV -= all_CV
            del all_CV
            by_CV.mul_(slope).div_(temperature)
            if by_bias_V is not None:
                by_bias_V += by_CV.sum(0)
            by_CV = by_CV.to(weight_VD.dtype)
            if by_hidden_ND is not None:
                torch.mm(by_CV, weight_VD, out=by_hidden_ND[part])
            if by_weight_VD is not None:
                if by_weight_VD.dtype == by_CV.dtype:
                    by_weight_VD.addmm_(by_CV.t(), hidden_CD)
                else:
                    by_weight_VD += by_CV.t() @ hidden_CD
            del by_CV
        return (
            by_hidden_ND,
            None if by_weight_VD is None else by_weight_VD.to(weight_VD.dtype),
            None if by_bias_V is None else by_bias_V.to(weight_VD.dtype),
            *[None] * 5,
        )
