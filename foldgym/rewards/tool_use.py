"""Rewards for using tools: a bonus that fades, calls that match, folding that pays."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from foldgym.rewards.shaping import cosine_decay
from foldgym.types import ToolCall, Trajectory

Schedule = Literal["none", "constant", "cosine"]


def spear_bonus(
    n_tool_turns: int,
    step: int,
    max_steps: int,
    mode: Schedule = "cosine",
    per_turn: float = 0.1,
    cap: float = 1.0,
) -> float:
    """`min(per_turn n, cap) c(step)`; c is 0, 1, or a cosine from 1 at step 0 to 0 at `max_steps`.

    Source: SPEAR's code. Right and wrong answers earn it alike, and at first it can outweigh
    correctness: watch its share in `Reward.parts`.

    >>> round(spear_bonus(3, 100, 200), 6)
    0.15
    """
    if mode == "none":
        return 0.0
    factor = cosine_decay(step, max_steps) if mode == "cosine" else 1.0
    return min(per_turn * n_tool_turns, cap) * factor


def tool_call_bonus(
    trajectory: Trajectory,
    step: int,
    *,
    max_steps: int = 200,
    mode: Schedule = "cosine",
    per_turn: float = 0.1,
    cap: float = 1.0,
) -> float:
    """`spear_bonus` of the turns that call a tool."""
    turns = sum(bool(turn.message.tool_calls) for turn in trajectory.turns)
    return spear_bonus(turns, step, max_steps, mode, per_turn, cap)


def gold_calls(trajectory: Trajectory, *, key: str = "calls", share: bool = False) -> list[float]:
    """Per turn, how many of its calls are among the gold calls `task.metadata[key]`.

    A gold call is `{"name": ..., "arguments": {...}}`; arguments are compared as JSON values, and
    each gold call counts once, so that repeating a good call does not pay. `share=True` divides by
    the number of gold calls. Source: ToolPO's sum over correct calls, with a cap of ours.
    Raises `KeyError` if the task has no gold calls.
    """
    if key not in trajectory.task.metadata:
        raise KeyError(f"task {trajectory.task.id} has no {key!r} in its metadata")
    wanted: list[Mapping[str, Any]] = list(trajectory.task.metadata[key])
    unit = 1.0 / max(1, len(wanted)) if share else 1.0
    values: list[float] = []
    for turn in trajectory.turns:
        found = 0
        for call in turn.message.tool_calls:
            match = next((gold for gold in wanted if _same(call, gold)), None)
            if match is not None:
                wanted.remove(match)
                found += 1
        values.append(unit * found)
    return values


def _same(call: ToolCall, gold: Mapping[str, Any]) -> bool:
    try:
        arguments: Any = json.loads(call.arguments)
    except ValueError:
        return False
    return call.name == gold["name"] and arguments == gold.get("arguments", {})


def preference(direct: float, folded: float) -> float:
    """`(direct - folded) / (direct + folded)` of two lengths, 0 for 0 / 0; always in [-1, 1].

    Source: ToolPO's fold preference.
    """
    both = direct + folded
    return (direct - folded) / both if both else 0.0


def fold_preference(trajectory: Trajectory, group: Sequence[Trajectory]) -> float:
    """How much shorter the longest context is than that of the members that did not fold.

    0 for an episode that did not fold, and when no member did without. ToolPO does not say where
    the length without folding comes from; taking it from the group is ours.
    """
    if not _folded(trajectory):
        return 0.0
    direct = [_longest(member) for member in group if not _folded(member)]
    return preference(sum(direct) / len(direct), _longest(trajectory)) if direct else 0.0


def _folded(trajectory: Trajectory) -> bool:
    return any(turn.purpose != "act" for turn in trajectory.turns)


def _longest(trajectory: Trajectory) -> int:
    return max((turn.prompt_tokens + turn.sampled_tokens for turn in trajectory.turns), default=0)
