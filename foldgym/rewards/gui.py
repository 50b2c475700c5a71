"""Rewards for acting on screens: UI-R1's three checks and its difficulty-adaptive length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from foldgym.types import Trajectory


class UiReward(NamedTuple):
    """The three unweighted checks of one action, each 0 or 1."""

    action: float
    coord: float
    format: float

    @property
    def total(self) -> float:
        """At most 3."""
        return self.action + self.coord + self.format


def ui_r1_reward(
    pred_action: str | None,
    gt_action: str,
    pred_xy: Sequence[float] | None,
    scale: Sequence[float],
    gt_bbox: Sequence[float] | None,
    format_ok: bool,
) -> UiReward:
    """Is the action of the right type, at the right place, in the right form?

    A click is right inside the box, edges included, after scaling and cutting to whole pixels;
    another action of the right type needs no place. A click without a point earns nothing for the
    place (the reference puts it at [0, 0]). Source: UI-R1's code.
    """
    same = pred_action is not None and pred_action == gt_action
    hit = same and (gt_action != "click" or _inside(pred_xy, scale, gt_bbox))
    return UiReward(float(same), float(hit), float(format_ok))


def _inside(
    xy: Sequence[float] | None, scale: Sequence[float], box: Sequence[float] | None
) -> bool:
    if xy is None or box is None:
        return False
    x, y = (int(value * factor) for value, factor in zip(xy, scale, strict=True))
    left, top, right, bottom = box
    return left <= x <= right and top <= y <= bottom


def dast_rewards(
    rewards: Sequence[float],
    lengths: Sequence[float],
    a: float = -0.5,
    b: float = 0.5,
    full: float = 3.0,
) -> list[float]:
    """Rewards [G] with a length term that asks for less the more of the group succeeds.

    With p the share of full scores, the budget is `p * mean length of those + (1 - p) * longest`
    and x the relative excess over it: a full score gets `max(a x + b, 0.1)`, another
    `min(0.9 x - 0.1, -0.1)`. Source: DAST as in UI-R1's code. A group of empty answers has no
    length to compare and gets x = 0.
    """
    if not rewards:
        return []
    best = [length for length, r in zip(lengths, rewards, strict=True) if r == full]
    share = len(best) / len(rewards)
    budget = share * (sum(best) / len(best) if best else 0.0) + (1 - share) * max(lengths)
    out: list[float] = []
    for reward, length in zip(rewards, lengths, strict=True):
        x = (length - budget) / budget if budget else 0.0
        term = max(a * x + b, 0.1) if reward == full else min(0.9 * x - 0.1, -0.1)
        out.append(reward + term)
    return out


# ---------------------------------------------------------------- terms

PARTS = ("action_ok", "coord_ok", "argument_ok", "format_ok")
"""Facts, 0 or 1, by which a world tells the parts of an action on a screen."""


def ui_r1(trajectory: Trajectory, *, by_turn: bool = False) -> float | list[float]:
    """UI-R1's reward of an action: type, place and format, at most 3.

    From the facts `action_ok`, `coord_ok`, `format_ok`; one that is missing counts 0. `by_turn`
    gives one value per turn, from what the turn's info says of its own action.
    """
    return gui_components(trajectory, by_turn=by_turn)


def dast_length(
    trajectory: Trajectory,
    group: Sequence[Trajectory],
    *,
    a: float = -0.5,
    b: float = 0.5,
) -> float:
    """The length term of UI-R1's DAST variant, to stand beside `ui_r1`; see `dast_rewards`."""
    rewards = [_weighed(member.facts, (1.0, 1.0, 0.0, 1.0)) for member in group]
    lengths = [float(member.trained) for member in group]
    shaped = dast_rewards(rewards, lengths, a, b)
    place = next(index for index, member in enumerate(group) if member is trajectory)
    return shaped[place] - rewards[place]


def gui_components(
    trajectory: Trajectory,
    *,
    action: float = 1.0,
    coord: float = 1.0,
    argument: float = 0.0,
    format: float = 1.0,
    by_turn: bool = False,
) -> float | list[float]:
    """A weighted sum of the parts of an action, as CRAFT-GUI mixes rules.

    That paper's weights were not to be had, so they are yours; a judge's part is a term of its own.
    `by_turn` gives one value per turn, from what the turn's info says of its own action: credit
    for every step of an episode of several.
    """
    weights = (action, coord, argument, format)
    if by_turn:
        return [_weighed(turn.info, weights) for turn in trajectory.turns]
    return _weighed(trajectory.facts, weights)


def _weighed(facts: Mapping[str, object], weights: Sequence[float]) -> float:
    found = (facts.get(name, 0.0) for name in PARTS)
    parts = (float(value) if isinstance(value, int | float) else 0.0 for value in found)
    return sum(weight * part for weight, part in zip(weights, parts, strict=True))
