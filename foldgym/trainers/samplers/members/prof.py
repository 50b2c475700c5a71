"""PROF: correct answers with bad reasoning and wrong ones with good reasoning are left out."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.slots import Trim
from foldgym.trainers.samplers.stats import score_of
from foldgym.types import Group


def prof_filter(correct: Sequence[float], process: Sequence[float], keep: int) -> list[int]:
    """Places, ascending, of `keep` members with the two classes as even as can be.

    Of the correct those with the highest process score stay, of the wrong those with the lowest.
    Counts minimise |correct - wrong|, ties towards correct. A group of one class loses its worst.
    Source: PROF (README); the exact counts are OURS.
    """
    right = sorted((i for i, c in enumerate(correct) if c), key=lambda i: (-process[i], i))
    wrong = sorted((i for i, c in enumerate(correct) if not c), key=lambda i: (process[i], i))
    keep = min(keep, len(correct))
    fits = range(max(0, keep - len(wrong)), min(keep, len(right)) + 1)
    k = min(fits, key=lambda k: (abs(2 * k - keep), -k))
    return sorted([*right[:k], *wrong[: keep - k]])


def prof(*, keep: int, process: str, metric: str = "score", solved: float = 1.0) -> Trim:
    """Keeps `keep` members by the measured fact `process`, the mean score of an episode's steps.

    The process score never enters a reward, only the choice. Comes before the advantages, since
    it must change the group's statistics. Both are required: they belong to the process model.
    """
    if keep < 1:
        raise ConfigError(f"prof needs keep >= 1, not {keep}")

    def trim(group: Group) -> list[int]:
        correct = [score_of(t, metric) >= solved for t in group.trajectories]
        steps = [score_of(t, process) for t in group.trajectories]
        return prof_filter(correct, steps, keep)

    return trim
