"""ToolPO: the outcome for every id, and the quality of actions for the ids that acted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from foldgym.errors import ConfigError
from foldgym.trainers.advantages.credit import totals
from foldgym.trainers.advantages.grpo import normalised
from foldgym.trainers.advantages.inputs import unflat
from foldgym.trainers.advantages.spans import find, marked
from foldgym.types import Credits, Group

if TYPE_CHECKING:
    from foldgym.types import Floats


def toolpo(
    groups: Sequence[Group], *, terms: tuple[str, ...] = (), spans: str = "actions"
) -> Credits:
    """`A = A_success + [id in a span] A_action`, both centred on their group's means, no deviation.

    The action reward of a trajectory is the sum of the named reward `terms` (say `gold_calls` and
    `fold_preference`, whose weights are the paper's lambdas), or without names the sum of
    `Reward.turns`; success is the rest of the reward. `spans` finds the ids of actions: tool-call
    and fold turns, or a finder of yours. Source: ToolPO, whose loss sums over ids
    (`aggregation = "seq-mean-token-sum"`). A group of one gets 0.
    Raises `ConfigError` for a term that the reward does not have.
    """
    finder = find(spans)
    credits: list[tuple[tuple[Floats, ...], ...]] = []
    for group in groups:
        action_G = np.array([_action(group, i, terms) for i in range(len(group.rewards))])
        success_G, act_G = centred(totals(group) - action_G), centred(action_G)
        credits.append(
            tuple(
                unflat(t, success + act * marked(t, finder))
                for t, success, act in zip(group.trajectories, success_G, act_G, strict=True)
            )
        )
    return tuple(credits)


def centred(rewards_G: Floats) -> Floats:
    """Rewards [G] minus their mean."""
    return normalised(rewards_G, norm_std=False, ddof=0, eps=0.0, singleton="zero")


def action_reward(
    call_correct: Sequence[float], preference: float, l1: float = 1.0, l2: float = 1.0
) -> float:
    """`l1 * sum over calls of (1 if correct) + l2 * fold preference`."""
    return l1 * sum(call_correct) + l2 * preference


def _action(group: Group, member: int, terms: tuple[str, ...]) -> float:
    reward = group.rewards[member]
    missing = [name for name in terms if name not in reward.parts]
    if missing:
        raise ConfigError(
            f"algorithm.advantage.terms: there is no reward term {', '.join(missing)}; "
            f"terms: {', '.join(reward.parts) or 'none'}"
        )
    return sum(reward.parts[name] for name in terms) if terms else sum(reward.turns)
