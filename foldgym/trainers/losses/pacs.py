"""PACS: learn to tell right answers from wrong ones, with the log-ratio as the score."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from foldgym.trainers.losses.needs import Needs, needs
from foldgym.trainers.losses.sequences import firsts, live, total
from foldgym.trainers.losses.tokens import TokenLoss, Tokens

Baseline = Literal["rloo", "grpo", "none"]


@needs(Needs(whole="group", aggregations=("seq-mean-token-mean",), credit="label"))
def pacs(tokens: Tokens, *, beta: float = 1.0, baseline: Baseline = "rloo") -> TokenLoss:
    """`s_i = beta sum_t(logp - old)`, logit = s_i against its group, `l_i = w_i BCE(logit_i, y_i)`.

    The label `y_i` is 1 where the advantage column is above 0.5; this loss replaces advantages.
    `w_i = n / (k * members of the class)` with k classes in the group, so 1 in a unanimous one.
    Every token carries `l_i`, whose mean over trajectories is the paper's loss. Unlike the released
    code, tokens outside the mask never count. A group of one has logit 0 and learns nothing.

    With `q_i = w_i (sigmoid(logit_i) - y_i) / N` the gradient is
    `dL/ds_i = q_i - sum_{j != i} q_j / (n - 1)`; on-policy a unanimous group has none, though its
    loss is ln 2. Source: PACS (CODE; beta 1 or 2).
    """
    if not len(tokens.logp_N):
        return TokenLoss(tokens.logp_N, {})
    live_N = live(tokens)
    index_M, place_N = firsts(tokens.trajectory_N)
    score_M = beta * total((tokens.logp_N - tokens.old_N) * live_N, tokens.trajectory_N)[index_M]
    group_M = tokens.group_N[index_M]
    there_M = (total(live_N, tokens.trajectory_N)[index_M] > 0).to(score_M.dtype)
    label_M = (tokens.advantage_N[index_M] > 0.5).to(score_M.dtype)
    logit_M = logits(score_M, group_M, there_M, baseline)
    weight_M = balance(label_M, group_M, there_M)
    loss_M = weight_M * binary_cross_entropy_with_logits(logit_M, label_M, reduction="none")
    right_M = ((logit_M.detach() > 0) == (label_M > 0.5)).to(score_M.dtype)
    return TokenLoss(
        loss_M[place_N] * live_N,
        {"score": score_M.detach()[place_N], "told_apart": right_M[place_N]},
    )


def logits(score_M: Tensor, group_M: Tensor, there_M: Tensor, baseline: Baseline) -> Tensor:
    """Scores [M] against those of their group."""
    if baseline == "none":
        return score_M
    count_M = total(there_M, group_M)
    centred_M = score_M - total(score_M * there_M, group_M) / count_M.clamp(min=1)
    lone_M = count_M < 2
    if baseline == "rloo":
        return torch.where(lone_M, 0.0, centred_M * count_M / (count_M - 1).clamp(min=1))
    variance_M = total(centred_M**2 * there_M, group_M) / (count_M - 1).clamp(min=1)
    # the root of 0 has no finite gradient
    flat_M = lone_M | (variance_M == 0)
    std_M = torch.where(flat_M, 1.0, variance_M).sqrt() + 1e-6
    return torch.where(lone_M, 0.0, centred_M / std_M)


def balance(label_M: Tensor, group_M: Tensor, there_M: Tensor) -> Tensor:
    """Balanced class weights [M] within each group."""
    ones_M = total(label_M * there_M, group_M)
    all_M = total(there_M, group_M)
    zeros_M = all_M - ones_M
    classes_M = (ones_M > 0).to(all_M.dtype) + (zeros_M > 0).to(all_M.dtype)
    mine_M = torch.where(label_M > 0.5, ones_M, zeros_M)
    return all_M / (classes_M * mine_M).clamp(min=1)
