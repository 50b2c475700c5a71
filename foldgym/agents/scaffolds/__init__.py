"""Programs over lineages: who speaks when in an episode, each with its own memory and segments."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from foldgym.agents.scaffolds.react import ReAct
from foldgym.agents.stage import Scaffold
from foldgym.config import ScaffoldSection, plug
from foldgym.errors import ConfigError

SCAFFOLDS: dict[str, Any] = {
    "react": ReAct,
    "deepagent": "foldgym.agents.scaffolds.deepagent:DeepAgent",
    "pdr": "foldgym.agents.scaffolds.pdr:PDR",
    "refine": "foldgym.agents.scaffolds.pdr:SequentialRefinement",
    "leap": "foldgym.agents.scaffolds.leap:LeaP",
    "operator": "foldgym.agents.scaffolds.operator_reflector:OperatorReflector",
    "egur": "foldgym.agents.scaffolds.egur:EGuR",
    "rein": "foldgym.agents.scaffolds.rein:ReIn",
    "region_vote": "foldgym.agents.scaffolds.vote:RegionVote",
}


def scaffold_of(
    section: ScaffoldSection, where: str = "scaffold"
) -> tuple[Callable[[], Scaffold], frozenset[str]]:
    """What makes the scaffold of an episode, and its roles that are not trained.

    Raises `UnknownName` or `ConfigError`, also for roles that the scaffold does not have.
    """
    make: Callable[[], Scaffold] = plug("scaffold", section, SCAFFOLDS, where)
    try:
        roles = make().roles
    except ValueError as problem:
        raise ConfigError(f"{where}: {problem}") from None
    for role in section.roles:
        if role not in roles:
            raise ConfigError(
                f"{where}.roles.{role}: {section.use} has no such role; roles: {', '.join(roles)}"
            )
    untrained = frozenset(role for role, weight in section.roles.items() if weight == 0)
    if untrained.issuperset(roles):
        raise ConfigError(f"{where}.roles: all are 0, so nothing would be trained")
    if len(roles) == 1 and section.roles:
        raise ConfigError(
            f"{where}.roles: has no effect: {section.use} has one role only; remove it"
        )
    return make, untrained


__all__ = ["SCAFFOLDS", "ReAct", "scaffold_of"]
