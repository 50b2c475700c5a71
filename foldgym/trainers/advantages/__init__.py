"""Advantages: one page per estimator, named here.

An estimator is a function `(groups, **options) -> credits` with `credits[group][trajectory]` one
array [T] per segment. It sees the whole batch of groups, so an estimator with group statistics
and one with batch statistics have the same form. To add one, write the function and a line below.
"""

from collections.abc import Callable

from foldgym.trainers.advantages.credit import broadcast, by_group, per_turn, totals
from foldgym.trainers.advantages.grpo import dr_grpo, grpo
from foldgym.trainers.advantages.rloo import rloo
from foldgym.types import Credits

ADVANTAGES: dict[str, Callable[..., Credits]] = {
    "grpo": grpo,
    "dr_grpo": dr_grpo,
    "rloo": rloo,
}

__all__ = ["ADVANTAGES", "broadcast", "by_group", "dr_grpo", "grpo", "per_turn", "rloo", "totals"]
