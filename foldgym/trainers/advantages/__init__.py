"""Advantages: one page per estimator, named here.

An estimator is a function `(groups, **options) -> credits` with `credits[group][trajectory]` one
array [T] per segment. It sees the whole batch of groups, so an estimator with group statistics
and one with batch statistics have the same form. What it needs beside rewards (entropies, values,
the step) it names as a further parameter without a default; `inputs.estimate` fills it. To add
one, write the function and a line below.
"""

from collections.abc import Callable

from foldgym.trainers.advantages.copo import copo
from foldgym.trainers.advantages.credit import broadcast, by_group, per_turn, totals
from foldgym.trainers.advantages.dcpo import dcpo
from foldgym.trainers.advantages.dyna import dyna_grpo
from foldgym.trainers.advantages.empg import empg
from foldgym.trainers.advantages.gae import egae, gae
from foldgym.trainers.advantages.gigpo import gigpo
from foldgym.trainers.advantages.group_weights import clpo, odsw
from foldgym.trainers.advantages.grpo import dr_grpo, grpo
from foldgym.trainers.advantages.hicra import hicra
from foldgym.trainers.advantages.igpo import igpo, igpo_curriculum
from foldgym.trainers.advantages.inputs import check_provided, estimate
from foldgym.trainers.advantages.psr_nsr import nsr, psr, w_reinforce
from foldgym.trainers.advantages.reinforce_pp import (
    reinforce_pp,
    reinforce_pp_baseline,
    reinforce_pp_kl,
)
from foldgym.trainers.advantages.rloo import rloo
from foldgym.trainers.advantages.toolpo import toolpo
from foldgym.trainers.advantages.turn_loo import turn_loo
from foldgym.types import Credits

ADVANTAGES: dict[str, Callable[..., Credits]] = {
    "clpo": clpo,
    "copo": copo,
    "dcpo": dcpo,
    "dr_grpo": dr_grpo,
    "dyna_grpo": dyna_grpo,
    "egae": egae,
    "empg": empg,
    "gae": gae,
    "gigpo": gigpo,
    "grpo": grpo,
    "hicra": hicra,
    "igpo": igpo,
    "igpo_curriculum": igpo_curriculum,
    "nsr": nsr,
    "odsw": odsw,
    "psr": psr,
    "reinforce_pp": reinforce_pp,
    "reinforce_pp_baseline": reinforce_pp_baseline,
    "reinforce_pp_kl": reinforce_pp_kl,
    "rloo": rloo,
    "toolpo": toolpo,
    "turn_loo": turn_loo,
    "w_reinforce": w_reinforce,
}

# credit that is equal along a trajectory: all that a sequence-level loss can take
ALONG_TRAJECTORY = frozenset(
    [
        "clpo",
        "copo",
        "dcpo",
        "dr_grpo",
        "dyna_grpo",
        "grpo",
        "nsr",
        "odsw",
        "psr",
        "reinforce_pp",
        "reinforce_pp_baseline",
        "rloo",
        "w_reinforce",
    ]
)

__all__ = [
    "ADVANTAGES",
    "ALONG_TRAJECTORY",
    "broadcast",
    "by_group",
    "check_provided",
    "dr_grpo",
    "estimate",
    "grpo",
    "per_turn",
    "rloo",
    "totals",
]
