"""Row filters: episodes that stay in every statistic and leave the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from foldgym.trainers.advantages.gae import finished
from foldgym.types import Group, Trajectory

Rule = Callable[[Trajectory], bool]


def truncated(trajectory: Trajectory) -> bool:
    """The episode was stopped by a limit: overlong filtering (TRL, DAPO)."""
    return not finished(trajectory)


def void_turn(trajectory: Trajectory) -> bool:
    """Some turn neither called a tool nor said anything that could be read (SPEAR)."""
    return any(
        turn.purpose == "act"
        and (bool(turn.problem) or not (turn.message.tool_calls or turn.message.text.strip()))
        for turn in trajectory.turns
    )


def repetitive(trajectory: Trajectory, n: int = 20, times: int = 10) -> bool:
    """Some turn repeats an n-gram of ids at least `times` times (SPEAR: 20 and 10)."""
    for segment in trajectory.segments:
        counts: Counter[tuple[int, ...]] = Counter()
        for start in range(len(segment.token_ids) - n + 1):
            turns = set(segment.turn_ids[start : start + n])
            if len(turns) == 1 and -1 not in turns:
                counts[(*turns, *segment.token_ids[start : start + n])] += 1
        if counts and max(counts.values()) >= times:
            return True
    return False


FILTERS: dict[str, Rule] = {
    "repetitive": repetitive,
    "truncated": truncated,
    "void_turn": void_turn,
}


def without(groups: Sequence[Group], rules: Sequence[str]) -> list[Group]:
    """The groups, with no id of an episode that a rule hits left to train.

    Give credit first and filter after: the credit of the whole batch fits these groups too, and
    what is filtered enters neither the loss nor a KL or entropy term.
    """
    from foldgym.config import resolve

    checks: list[Rule] = [resolve("filter", rule, FILTERS) for rule in rules]
    if not checks:
        return list(groups)

    def held(trajectory: Trajectory) -> Trajectory:
        if not any(check(trajectory) for check in checks):
            return trajectory
        segments = tuple(replace(segment, trainable=False) for segment in trajectory.segments)
        return replace(trajectory, segments=segments)

    return [
        replace(group, trajectories=tuple(held(t) for t in group.trajectories)) for group in groups
    ]
