"""Rewards for software tasks: how it ended, level by level (G-RA), and what was done on the way."""

from __future__ import annotations

import re
from collections.abc import Sequence

from foldgym.rewards.gates import gated_sum
from foldgym.rewards.patch import patch_files, patch_similarity
from foldgym.types import Trajectory, Turn

_CODE = re.compile(r'(?:\A|\n)\[exit code \d+\]\Z|\A\{"returncode": (?!0,)')


def swe_outcome(
    trajectory: Trajectory,
    *,
    unsubmitted: float = -1.0,
    empty: float = -0.5,
    invalid: float = 0.0,
    failed: float = 0.0,
    partial: float = 0.0,
    resolved: float = 1.0,
) -> float:
    """What the episode came to: nothing submitted, an empty patch, tests that fail, or a repair.

    `invalid` is a submission that could not be judged, or that tampers with its judging. The order
    is G-RA's; the numbers are ours, for the paper's are not known.
    """
    facts = trajectory.facts
    if not _fact(trajectory, "submitted"):
        return unsubmitted
    if not facts["modified"]:
        return empty
    if facts["resolved"]:
        return resolved
    if facts["partial"]:
        return partial
    return invalid if facts.get("grade") == "invalid" else failed


def swe_stages(trajectory: Trajectory, *, submitted: float = 0.1, modified: float = 0.1) -> float:
    """What was reached on the way: the project was modified, the work was submitted."""
    reached = modified * _fact(trajectory, "modified")
    return reached + submitted * _fact(trajectory, "submitted")


def swe_format(trajectory: Trajectory, *, good: float = 0.1, bad: float = -0.1) -> list[float]:
    """Per turn: `good` for a message that calls a tool and can be read, else `bad`."""
    return [
        good if turn.message.tool_calls and not turn.problem else bad for turn in trajectory.turns
    ]


def swe_tools(trajectory: Trajectory, *, good: float = 0.1, bad: float = -0.1) -> list[float]:
    """Per turn: `bad` if the reply to one of its calls is an error, `good` if there are calls."""
    return [
        (bad if _refused(turn) else good) if turn.message.tool_calls else 0.0
        for turn in trajectory.turns
    ]


def g_ra(
    trajectory: Trajectory,
    *,
    thresholds: tuple[float, ...],
    unsubmitted: float = -1.0,
    empty: float = -0.5,
    invalid: float = 0.0,
    failed: float = 0.0,
    partial: float = 0.0,
    resolved: float = 1.0,
    submitted: float = 0.1,
    modified: float = 0.1,
    good_format: float = 0.1,
    bad_format: float = -0.1,
    good_tool: float = 0.1,
    bad_tool: float = -0.1,
    direct: bool = False,
) -> float:
    """Gated accumulation of four levels: outcome, stages, format, choice of tools.

    `thresholds` are the three gates between them, each strict; a level counts only while every one
    above it is open. `direct=True` opens all gates (D-RA, the ablation). Format and tools are the
    means of `swe_format` and `swe_tools` over the turns, so that a longer episode earns no more.
    Source: the paper's text; its thresholds and values are not known. Raises `ValueError` unless
    there are three thresholds.
    """
    outcome = swe_outcome(
        trajectory,
        unsubmitted=unsubmitted,
        empty=empty,
        invalid=invalid,
        failed=failed,
        partial=partial,
        resolved=resolved,
    )
    stages = swe_stages(trajectory, submitted=submitted, modified=modified)
    written = _mean(swe_format(trajectory, good=good_format, bad=bad_format))
    chosen = _mean(swe_tools(trajectory, good=good_tool, bad=bad_tool))
    levels = [[outcome], [stages], [written], [chosen]]
    gates = [float("-inf")] * len(thresholds) if direct else list(thresholds)
    return gated_sum(levels, gates)[0]


def swe_rl(trajectory: Trajectory) -> float:
    """`patch_similarity` of the submitted patch with the gold patch (the task's answer).

    -1 if nothing was submitted, nothing was changed, or the patch is too long to be measured.
    """
    facts = trajectory.facts
    wrong = not _fact(trajectory, "submitted") or not facts["modified"]
    wrong = wrong or not facts.get("patch_whole", True)
    gold = trajectory.task.answer
    if not isinstance(gold, str) or not gold.strip():
        raise TypeError(f"the answer of task {trajectory.task.id} is {gold!r:.60}, not a patch")
    if wrong:
        return -1.0
    return patch_similarity(patch_files(str(facts.get("patch", ""))), patch_files(gold))


def recovery(trajectory: Trajectory, *, bonus: float = 1.0, most: int = 4) -> list[float]:
    """Per turn: `bonus` for calls that succeed right after calls that did not.

    A call does not succeed if its reply is an error, or its command's exit code is not 0.

    At most `most` are paid, or an agent would fail in order to recover. In the manner of
    Fission-GRPO, whose own recovery reward is not known; the sampler's rescue `fission` replays
    such errors.
    """
    values = [0.0] * len(trajectory.turns)
    failed, paid = False, 0
    for place, turn in enumerate(trajectory.turns):
        if not turn.message.tool_calls:
            continue
        again = _failed(turn)
        if failed and not again and paid < most:
            values[place], paid = bonus, paid + 1
        failed = again
    return values


def _fact(trajectory: Trajectory, name: str) -> bool:
    if name not in trajectory.facts:
        known = sorted(trajectory.facts)
        raise KeyError(
            f"{trajectory.env} measured no {name!r}, as software tasks do; facts: {known}"
        )
    return bool(trajectory.facts[name])


def _refused(turn: Turn) -> bool:
    """The call itself was wrong."""
    return bool(turn.problem) or any(each.text.startswith("error:") for each in turn.observation)


def _failed(turn: Turn) -> bool:
    """The call was wrong, or the command that it ran ended badly."""
    return _refused(turn) or any(_CODE.search(each.text) for each in turn.observation)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
