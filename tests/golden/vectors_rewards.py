"""Adapters from the vectors' reward suites to our functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from foldgym.rewards.gates import gated_sum
from foldgym.rewards.gui import dast_rewards, ui_r1_reward
from foldgym.rewards.information_gain import information_gains
from foldgym.rewards.judge import rubric_score, rule_fraction, verdict_rewards
from foldgym.rewards.patch import patch_similarity
from foldgym.rewards.pear import pear_reward
from foldgym.rewards.scaffold import scaffold_ratio
from foldgym.rewards.shaping import fission_total, l_grpo_rewards, overlong_penalty
from foldgym.rewards.tool_use import preference, spear_bonus
from foldgym.rewards.webshop import webshop_reward

Row = Mapping[str, Any]


def autorule(rule_satisfied: Sequence[float], rm_score: float, w: float = 1.0) -> Row:
    fraction = rule_fraction(rule_satisfied)
    return {"fraction": fraction, "reward": rm_score + w * fraction}


def g_ra(levels: Sequence[Sequence[float]], thresholds: Sequence[float]) -> Row:
    total, counted = gated_sum(levels, thresholds)
    return {"total": total, "counted": counted}


def igpo_info_gain(gt_token_logprobs: Any, type: Any = "prob_diff") -> Row:
    """A log-prob that is no number stands as null, infinity as a text."""
    rows = [
        [math.nan if value is None else float(value) for value in row or ()]
        for row in gt_token_logprobs
    ]
    return {"gains": information_gains(rows, type)}


def pear(H_think: Any, H_answer: Any, correct: bool, r_fmt: float = 0.0, **options: Any) -> Row:
    base = options.pop("s", 1.0)
    penalty, reward = pear_reward(H_think, H_answer, correct, base=base, wrong=r_fmt, **options)
    return {"penalty": penalty, "reward": reward}


def reseek(scores: Any, judgments: Any, em: float, **options: Any) -> Row:
    judge = verdict_rewards(scores, judgments, **options)
    return {"judge": judge, "total": sum(judge) + em}


def ui_r1(**inputs: Any) -> Row:
    absent = {"pred_action": None, "pred_xy": None, "scale": (1.0, 1.0), "gt_bbox": None}
    reward = ui_r1_reward(**{**absent, **inputs})
    return {**reward._asdict(), "total": reward.total}


def spear_toolcall(n_tool_turns: int, step: int, max_steps: int, mode: Any = "none") -> Row:
    return {"bonus": spear_bonus(n_tool_turns, step, max_steps, mode)}


def fission(R_fmt: float, R_corr: float, R_len: float, w_fmt: float, w_corr: float) -> Row:
    return {"R": fission_total(R_fmt, R_corr, R_len, w_fmt, w_corr)}


def ruscarl(i: int, G: int, step: int, total: int, start: float, steepness: float) -> Row:
    return {"ratio": scaffold_ratio(i, G, step, total, start, steepness)}


SUITES: dict[str, Callable[..., Row]] = {
    "autorule_reward": autorule,
    "dapo_overlong_penalty": lambda **inputs: {"penalty": overlong_penalty(**inputs)},
    "fission_reward": fission,
    "g_ra_reward": g_ra,
    "igpo_info_gain": igpo_info_gain,
    "l_grpo_reward": lambda **inputs: {"rewards": l_grpo_rewards(**inputs)},
    "pear_reward": pear,
    "reseek_judge_reward": reseek,
    "rubric_score": lambda points, met: {"score": rubric_score(points, met)},
    "ruscarl_scaffold_ratio": ruscarl,
    "spear_toolcall_reward": spear_toolcall,
    "swe_rl_reward": lambda **inputs: {"reward": patch_similarity(**inputs)},
    "toolpo_fold_preference": lambda len_direct, len_fold: {
        "S_pref": preference(len_direct, len_fold)
    },
    "ui_r1_dast_length": lambda **inputs: {"rewards": dast_rewards(**inputs)},
    "ui_r1_reward": ui_r1,
    "webshop_reward": lambda **inputs: webshop_reward(**inputs)._asdict(),
}
