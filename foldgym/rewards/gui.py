"""Rewards for acting on screens: UI-R1's three checks and its difficulty-adaptive length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


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
