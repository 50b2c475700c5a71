"""Judging finished trajectories: rubrics, their terms, and which terms have a short name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from foldgym.rewards.gui import dast_length, gui_components, ui_r1
from foldgym.rewards.information_gain import information_gain
from foldgym.rewards.judge import graded_rubric, rule_share
from foldgym.rewards.outcomes import (
    env_score,
    exact_match,
    format_cost,
    step_rewards,
    stop_penalty,
    token_f1,
    turn_cost,
)
from foldgym.rewards.pear import pear
from foldgym.rewards.qa import answered_match, igpo_f1, sub_exact_match
from foldgym.rewards.retrieval import (
    query_cost,
    redundant_queries,
    support_found,
    supporting_precision,
    supporting_recall,
)
from foldgym.rewards.rubric import Rubric, Term, TermFn
from foldgym.rewards.shaping import budget, fission, l_grpo, overlong
from foldgym.rewards.swe import (
    g_ra,
    recovery,
    swe_format,
    swe_outcome,
    swe_rl,
    swe_stages,
    swe_tools,
)
from foldgym.rewards.tool_use import fold_preference, gold_calls, tool_call_bonus
from foldgym.rewards.verdicts import verdicts

if TYPE_CHECKING:
    from foldgym.config import RewardSection

REWARDS: Mapping[str, TermFn] = {
    "answered_match": answered_match,
    "budget": budget,
    "dast_length": dast_length,
    "env_score": env_score,
    "exact_match": exact_match,
    "fission": fission,
    "fold_preference": fold_preference,
    "format_cost": format_cost,
    "g_ra": g_ra,
    "gold_calls": gold_calls,
    "graded_rubric": graded_rubric,
    "gui_components": gui_components,
    "igpo_f1": igpo_f1,
    "information_gain": information_gain,
    "l_grpo": l_grpo,
    "overlong": overlong,
    "pear": pear,
    "query_cost": query_cost,
    "recovery": recovery,
    "redundant_queries": redundant_queries,
    "rule_share": rule_share,
    "step_rewards": step_rewards,
    "stop_penalty": stop_penalty,
    "sub_exact_match": sub_exact_match,
    "support_found": support_found,
    "supporting_precision": supporting_precision,
    "supporting_recall": supporting_recall,
    "swe_format": swe_format,
    "swe_outcome": swe_outcome,
    "swe_rl": swe_rl,
    "swe_stages": swe_stages,
    "swe_tools": swe_tools,
    "token_f1": token_f1,
    "tool_call_bonus": tool_call_bonus,
    "turn_cost": turn_cost,
    "ui_r1": ui_r1,
    "verdicts": verdicts,
}

# terms that move with how much was written, so that no gate may look at them
LENGTHS = frozenset({"budget", "dast_length", "fission", "l_grpo", "overlong", "pear"})


def make_rubric(section: RewardSection | None = None) -> Rubric:
    """The rubric of a run file; without terms, the environment's own score.

    Raises `ConfigError` or `UnknownName`.
    """
    if section is None or not section.terms:
        return Rubric((Term("env_score", env_score),))
    from foldgym.config import bind, resolve

    terms: list[Term] = []
    for index, term in enumerate(section.terms):
        fn = resolve("reward", term.use or term.name, REWARDS)
        bound = bind("reward", fn, term.kwargs, f"reward.terms.{index}", also=_TERM_KEYS)
        terms.append(Term(term.name, bound, term.weight, term.gate))
    return Rubric(terms)


_TERM_KEYS = ("weight", "gate", "name")

__all__ = ["LENGTHS", "REWARDS", "Rubric", "Term", "TermFn", "make_rubric"]
