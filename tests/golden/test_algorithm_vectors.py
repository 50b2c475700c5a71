"""Every suite of `algorithm_vectors.json` against our functions.

A suite is run by the adapter of its name; a suite without one fails.
FOLDGYM_VECTORS=/path/to.json runs another file of the same format instead.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foldgym.config import load_module
from foldgym.trainers.advantages import grpo, rloo
from foldgym.trainers.batch import make_batch
from foldgym.trainers.losses import KLS, Tokens, ppo_clip
from foldgym.trainers.samplers import dapo
from foldgym.types import (
    Group,
    Message,
    Request,
    Reward,
    Segment,
    Stop,
    Task,
    Trajectory,
    Turn,
    Verdict,
)

FILE = Path(os.environ.get("FOLDGYM_VECTORS", Path(__file__).parent / "algorithm_vectors.json"))
VECTORS = json.loads(FILE.read_text("utf-8"))
Row = Mapping[str, Any]

# ---------------------------------------------------------------- vectors to our types


def trajectory(mask: Sequence[float] = (1,), name: str = "t", **facts: float) -> Trajectory:
    """One segment: a context id, then one id per entry of the mask."""
    turn_ids = (-1, *(0 if m else -1 for m in mask))
    size = len(turn_ids)
    segment = Segment((0,) * size, turn_ids, (0.0,) * size, (0,) * size)
    turns = (Turn(0, Message("assistant", "x")),)
    return Trajectory(name, "world", Task("q", ()), 0, turns, (segment,), Stop.DONE, facts)


def groups_of(rewards: Sequence[float], labels: Sequence[Any]) -> tuple[list[Group], list[int]]:
    """Groups by label, and where each of their members stood in the input."""
    groups, order = [], []
    for label in dict.fromkeys(labels):
        members = [i for i, other in enumerate(labels) if other == label]
        groups.append(
            Group(
                Request("world", 0, len(members)),
                tuple(trajectory(name=f"t{i}") for i in members),
                tuple(Reward(rewards[i], rewards[i]) for i in members),
            )
        )
        order += members
    return groups, order


def per_trajectory(credits: Any, order: Sequence[int]) -> list[float]:
    """The credit of each trajectory's sampled id, back in the input's order."""
    flat = [float(credit[0][-1]) for group in credits for credit in group]
    return [flat[order.index(i)] for i in range(len(order))]


def one_token(logp: float, old: float, advantage: float) -> Tokens:
    """A micro-batch of a single token whose log-prob has a gradient."""
    column = torch.tensor([logp], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.int64)
    old_N, advantage_N = (torch.tensor([x], dtype=torch.float64) for x in (old, advantage))
    return Tokens(column, old_N, advantage_N, torch.ones(1), zero, zero, zero, zero)


# ---------------------------------------------------------------- one adapter per suite


def grpo_advantage(
    rewards: Sequence[float],
    groups: Sequence[Any],
    response_mask: Sequence[Sequence[float]] | None = None,
    **options: Any,
) -> Row:
    built, order = groups_of(rewards, groups)
    advantages = per_trajectory(grpo(built, **options), order)
    if response_mask is None:
        return {"advantages": advantages}
    return {
        "token_advantages": [
            [a * m for m in row] for a, row in zip(advantages, response_mask, strict=True)
        ]
    }


def rloo_advantage(rewards: Sequence[float], groups: Sequence[Any], **options: Any) -> Row:
    built, order = groups_of(rewards, groups)
    return {"advantages": per_trajectory(rloo(built, **options), order)}


def loss_aggregation(
    loss: Sequence[Sequence[float]],
    mask: Sequence[Sequence[float]],
    mode: str,
    norm: float | None = None,
) -> Row:
    members = tuple(trajectory(row, name=f"t{i}") for i, row in enumerate(mask))
    zeros = (Reward(0.0, 0.0),) * len(members)
    constant = (norm or len(loss[0])) if mode in ("dr-grpo", "seq-mean-token-sum-norm") else None
    group = Group(Request("world", 0, len(members)), members, zeros)
    batch = make_batch([group], None, mode, norm=constant)
    rows = [[0.0, *loss[n]] for n in batch.row_trajectory_B]
    return {"value": float((batch.weight_BT * np.array(rows)).sum()) if rows else 0.0}


def ppo_clip_token_loss(
    logp: float,
    old_logp: float,
    A: float,
    eps_low: float,
    eps_high: float,
    dual_clip_c: float | None = None,
) -> Row:
    tokens = one_token(logp, old_logp, A)
    loss_N, metrics = ppo_clip(tokens, eps_low=eps_low, eps_high=eps_high, dual_clip=dual_clip_c)
    loss_N.sum().backward()
    assert tokens.logp_N.grad is not None
    return {
        "loss": loss_N.item(),
        "grad_logp": tokens.logp_N.grad.item(),
        "ratio": metrics["ratio"].item(),
        "clipped": bool(metrics["clip_fraction"].item()),
    }


def kl_estimators(
    logp: float = 0.0,
    ref_logp: float = 0.0,
    p: Sequence[float] | None = None,
    ref: Sequence[float] | None = None,
) -> Row:
    if p is not None and ref is not None:
        p_V, ref_V = (torch.tensor(x, dtype=torch.float64) for x in (p, ref))
        means = {f"E_{k}": (p_V * fn(p_V.log(), ref_V.log())).sum() for k, fn in KLS.items()}
        exact = (p_V * (p_V.log() - ref_V.log())).sum()
        return {"exact_kl": exact.item(), **{k: v.item() for k, v in means.items()}}
    out: dict[str, float] = {}
    for name, fn in KLS.items():
        at = torch.tensor(logp, dtype=torch.float64, requires_grad=True)
        value = fn(at, torch.tensor(ref_logp, dtype=torch.float64))
        value.backward()
        assert at.grad is not None
        out |= {name: value.item(), f"grad_{name}": at.grad.item()}
    return out


def dapo_dynamic_sampling(groups: Mapping[str, Sequence[float]]) -> Row:
    sampler = dapo({"world": 1.0}, 0, 8)
    kept: list[str] = []
    for uid, values in groups.items():
        members = tuple(trajectory(score=value) for value in values)
        group = Group(Request("world", 0, len(values)), members, (Reward(0.0, 0.0),) * len(values))
        if sampler.judge(group) is Verdict.ACCEPT:
            kept.append(uid)
    return {"kept": kept}


ADAPTERS: dict[str, Callable[..., Row]] = {
    "dapo_dynamic_sampling": dapo_dynamic_sampling,
    "grpo_advantage": grpo_advantage,
    "kl_estimators": kl_estimators,
    "loss_aggregation": loss_aggregation,
    "ppo_clip_token_loss": ppo_clip_token_loss,
    "rloo_advantage": rloo_advantage,
}
for path in sorted(Path(__file__).parent.glob("vectors_*.py")):  # one file per plug-in slot
    ADAPTERS |= load_module(str(path)).SUITES

# ---------------------------------------------------------------- comparing


def close(got: Any, expected: Any, tolerance: float) -> bool:
    """The file's own rule (`meta.comparing`)."""
    if isinstance(expected, Mapping):
        return got.keys() == expected.keys() and all(
            close(got[key], value, tolerance) for key, value in expected.items()
        )
    if isinstance(expected, list):
        return len(got) == len(expected) and all(
            close(a, b, tolerance) for a, b in zip(got, expected, strict=True)
        )
    if expected is None:
        return got is None or math.isnan(got) or got == -math.inf
    if expected == "inf":
        return got == math.inf
    if isinstance(expected, str):
        return got == expected
    return abs(got - expected) <= tolerance * max(1.0, abs(expected))


def cases() -> list[Any]:
    return [
        pytest.param(suite, case, id=f"{suite}-{case['name']}")
        for suite, table in VECTORS["suites"].items()
        for case in table["cases"]
    ]


@pytest.mark.parametrize(("suite", "case"), cases())
def test_vector(suite: str, case: Row) -> None:
    if suite not in ADAPTERS:
        pytest.fail(f"suite {suite!r} has no adapter")
    given = {key: value for key, value in case["inputs"].items() if value is not None}
    got = ADAPTERS[suite](**given)
    wrong = {
        key: (got.get(key), value)
        for key, value in case["expected"].items()
        if key not in got or not close(got[key], value, VECTORS["meta"]["tolerance"])
    }
    assert not wrong, "(got, expected)"


def test_no_adapter_is_left_over() -> None:
    """An adapter whose suite has another name would never run."""
    if "FOLDGYM_VECTORS" not in os.environ:
        assert ADAPTERS.keys() == VECTORS["suites"].keys()
