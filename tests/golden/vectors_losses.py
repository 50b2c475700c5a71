"""Adapters from the vectors' loss and replay suites to our functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from foldgym.trainers.losses import cispo, decoupled, gppo, gspo, mix_ppg, pacs
from foldgym.trainers.losses.bapo import Range, bounds_code, bounds_paper
from foldgym.trainers.losses.clip_cov import covariance
from foldgym.trainers.losses.decoupled import loglinear
from foldgym.trainers.losses.mix_ppg import convexity
from foldgym.trainers.losses.pacs import balance, logits
from foldgym.trainers.losses.sequences import total
from foldgym.trainers.losses.tokens import Tokens
from foldgym.trainers.mismatch import MISMATCHES, Gap
from foldgym.trainers.replay import capacity, recalibrated, replay_coef
from foldgym.trainers.selection import top_percent

Row = Mapping[str, Any]
Column = Sequence[float]


def tokens(
    logp: Column,
    old: Column,
    advantage: Column,
    mask: Column | None = None,
    trajectory: Sequence[int] | None = None,
    group: Sequence[int] | None = None,
    **extra: Column,
) -> Tokens:
    """A micro-batch whose weights are the mask and whose log-probs have a gradient."""

    def column(values: Any) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64)

    size = len(logp)
    zeros = torch.zeros(size, dtype=torch.int64)
    at = Tokens(
        column(logp).requires_grad_(),
        column(old),
        column(advantage),
        column([1.0] * size if mask is None else mask),
        zeros,
        zeros,
        zeros if trajectory is None else torch.tensor(trajectory),
        zeros if group is None else torch.tensor(group),
    )
    return replace(at, extra={name: column(values) for name, values in extra.items()})


def gradient(value: torch.Tensor, at: Tokens) -> list[float]:
    value.backward()
    assert at.logp_N.grad is not None
    return at.logp_N.grad.tolist()


def cispo_token_loss(
    logp: float, old_logp: float, A: float, eps_high: float, eps_low: float | None = None
) -> Row:
    at = tokens([logp], [old_logp], [A])
    loss_N, metrics = cispo(at, form="verl", eps_high=eps_high, eps_low=eps_low)
    return {
        "weight": metrics["importance"].item(),
        "loss": loss_N.item(),
        "grad_logp": gradient(loss_N.sum(), at)[0],
    }


def gppo_token_loss(logp: float, old_logp: float, A: float, eps_low: float, eps_high: float) -> Row:
    at = tokens([logp], [old_logp], [A])
    loss_N, _ = gppo(at, eps_low=eps_low, eps_high=eps_high)
    return {"loss": loss_N.item(), "grad_logp": gradient(loss_N.sum(), at)[0]}


def gspo_sequence_loss(
    logp: Column, old_logp: Column, A: float, mask: Column, eps_low: float, eps_high: float
) -> Row:
    at = tokens(logp, old_logp, [A] * len(logp), mask)
    loss_N, metrics = gspo(at, eps_low=eps_low, eps_high=eps_high)
    # seq-mean-token-mean of one sequence
    value = (at.weight_N * loss_N).sum() / max(1.0, float(sum(mask)))
    live = next((i for i, m in enumerate(mask) if m), 0)
    return {
        "seq_ratio": metrics["ratio"][live].item(),
        "loss": value.item(),
        "clipped": bool(metrics["clip_fraction"][live].item()) and any(mask),
        "grad_logp": gradient(value, at),
    }


def clip_cov(
    A: Column, logp: Column, mask: Column, ppo_clipped: Column, lb: float, ub: float
) -> Row:
    at = tokens(logp, logp, A, mask)
    cov_N, eligible_N = covariance(at, torch.tensor(ppo_clipped) > 0, lb, ub)
    return {"cov": cov_N.tolist(), "eligible": eligible_N.tolist()}


def bapo_bounds_code(
    ratio: Column,
    A: Column,
    mask: Column,
    low_start: float,
    low_max: float,
    low_step: float,
    high_start: float,
    high_max: float,
    high_step: float,
    target: float,
) -> Row:
    at = torch.tensor(mask) > 0
    found = bounds_code(
        torch.tensor(ratio, dtype=torch.float64)[at],
        torch.tensor(A, dtype=torch.float64)[at],
        Range(low_start, low_max, low_step),
        Range(high_start, high_max, high_step),
        target,
    )
    return {"c_low": found.low, "c_high": found.high, "pos_over_neg": found.statistic}


def bapo_bounds_paper(
    ratio: Column,
    A: Column,
    pi_rollout: Column,
    a_minus: float = 0.6,
    b_minus: float = 0.9,
    a_plus: float = 1.2,
    b_plus: float = 3.0,
    d1: float = 0.05,
    d2: float = 0.02,
    rho0: float = 0.4,
) -> Row:
    columns = (torch.tensor(x, dtype=torch.float64) for x in (ratio, A, pi_rollout))
    found = bounds_paper(*columns, Range(a_minus, b_minus, d2), Range(a_plus, b_plus, d1), rho0)
    return {"c_low": found.low, "c_high": found.high, "rho": found.statistic}


def remix_mix_ppg_token_loss(
    logp: float, logp_behaviour: float, logp_pi_k: float, A: float, eps: float
) -> Row:
    loss_N, metrics = mix_ppg(tokens([logp], [logp_pi_k], [A], behaviour=[logp_behaviour]), eps=eps)
    return {
        "ratio": metrics["ratio"].item(),
        "centre": metrics["centre"].item(),
        "loss": loss_N.item(),
        "clipped": bool(metrics["clip_fraction"].item()),
    }


def remix_lambda_schedule(step: int) -> Row:
    return {"lam": convexity(step)}


def pacs_loss(
    logp: Sequence[Column],
    old_logp: Sequence[Column],
    mask: Sequence[Column],
    label: Column,
    n: int,
    beta: float = 1.0,
) -> Row:
    width = len(logp[0])
    rows = [i for i in range(len(logp)) for _ in range(width)]
    flat = [[x for row in table for x in row] for table in (logp, old_logp, mask)]
    at = tokens(
        flat[0],
        flat[1],
        [label[i] for i in rows],
        flat[2],
        trajectory=rows,
        group=[i // n for i in rows],
    )
    loss_N, metrics = pacs(at, beta=beta)
    # seq-mean-token-mean: each row's tokens share 1 / B
    share_N = at.weight_N / total(at.weight_N, at.trajectory_N) / len(logp)
    score_B = metrics["score"][::width]
    group_B, there_B = torch.arange(len(logp)) // n, torch.ones(len(logp), dtype=torch.float64)
    return {
        "score": score_B.tolist(),
        "logit": logits(score_B, group_B, there_B, "rloo").tolist(),
        "weight": balance(torch.tensor(label, dtype=torch.float64), group_B, there_B).tolist(),
        "loss": (share_N * loss_N).sum().item(),
    }


def areal_decoupled_token_loss(
    logp: float,
    logp_proximal: float,
    logp_behaviour: float,
    A: float,
    cap: float = 5.0,
    mode: Any = "mask",
) -> Row:
    at = tokens([logp], [logp_proximal], [A], behaviour=[logp_behaviour])
    loss_N, metrics = decoupled(at, cap=cap, filter=mode)
    return {
        "behaviour_weight": metrics["importance"].item(),
        "loss": loss_N.item(),
        "kept": metrics["stale_fraction"].item() == 0,
    }


def areal_loglinear_prox(old_logp: float, logp: float, v_behave: int, v_theta: int) -> Row:
    columns = [torch.tensor([float(x)], dtype=torch.float64) for x in (logp, old_logp)]
    staleness = torch.tensor([float(v_theta - 1 - v_behave)])
    prox = loglinear(*columns, staleness, torch.tensor([v_behave])).item()
    alpha = (prox - old_logp) / (logp - old_logp) if logp != old_logp else None
    return {"prox": prox, **({} if alpha is None else {"alpha": alpha})}


def areal_staleness_capacity(
    max_staleness: int,
    version: int,
    consumer_bs: int,
    accepted: int,
    running: int,
    max_concurrent: int,
) -> Row:
    return {
        "capacity": capacity(
            max_staleness=max_staleness,
            version=version,
            batch=consumer_bs,
            accepted=accepted,
            running=running,
            max_concurrent=max_concurrent,
        )
    }


def tis_mis_weights(
    logp_train: Column,
    logp_rollout: Column,
    mask: Column,
    mode: str,
    lo: float | None = None,
    hi: float | None = None,
) -> Row:
    at = np.array(mask) > 0
    log_N = (np.array(logp_train) - np.array(logp_rollout))[at]
    zeros = np.zeros(len(log_N), dtype=np.int64)
    name = {"seq_geo_mask_token_weight": "geometric_mask"}.get(mode, mode)
    bounds = {"high": np.inf if hi is None else hi}
    if not mode.endswith("truncate"):
        bounds = {"low": lo, "high": hi}
    weights = np.zeros(len(at))
    weights[at] = MISMATCHES[name](Gap(log_N, zeros, zeros), **bounds)
    return {"weights": weights.tolist()}


def d3s_token_selection(A: Column, H: Column, K: float) -> Row:
    return {"kept": top_percent(np.array(A), np.array(H), K).tolist()}


def spear_replay_coef(step: int, max_steps: int, coef: float) -> Row:
    return {"value": replay_coef(step, max_steps, coef)}


def spear_recalibrated_advantage(replay_rewards: Column, history_group_means: Column) -> Row:
    baseline, advantages = recalibrated(np.array(replay_rewards), np.array(history_group_means))
    return {
        "baseline": baseline,
        "advantages": advantages.tolist(),
        "kept": (advantages > 0).tolist(),
    }


SUITES: dict[str, Callable[..., Row]] = {
    "areal_decoupled_token_loss": areal_decoupled_token_loss,
    "areal_loglinear_prox": areal_loglinear_prox,
    "areal_staleness_capacity": areal_staleness_capacity,
    "bapo_bounds_code": bapo_bounds_code,
    "bapo_bounds_paper": bapo_bounds_paper,
    "cispo_token_loss": cispo_token_loss,
    "clip_cov": clip_cov,
    "d3s_token_selection": d3s_token_selection,
    "gppo_token_loss": gppo_token_loss,
    "gspo_sequence_loss": gspo_sequence_loss,
    "pacs_loss": pacs_loss,
    "remix_lambda_schedule": remix_lambda_schedule,
    "remix_mix_ppg_token_loss": remix_mix_ppg_token_loss,
    "spear_recalibrated_advantage": spear_recalibrated_advantage,
    "spear_replay_coef": spear_replay_coef,
    "tis_mis_weights": tis_mis_weights,
}
