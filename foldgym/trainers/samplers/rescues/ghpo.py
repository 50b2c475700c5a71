"""GHPO: a group without a success is played again with a growing part of the solution."""

from __future__ import annotations

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.rescues.common import (
    all_failed,
    beginning,
    helped,
    leaks,
    texts,
)
from foldgym.trainers.samplers.slots import Desk
from foldgym.types import Group, Guide, Retry


class Ghpo:
    """Replaces the whole group by one whose prompt ends with a prefix of the reference solution.

    The solution is `task.metadata["solution"]`; a task without one is not rescued. Ratios only
    grow; it stops at the first group with a success, or after the last. A prefix ends between
    words, and one that already contains the answer is not shown, which the reference does not
    check. What is trained is the prompt that was sampled from. `leads` (OURS) uses turns of the
    environment's expert instead of text, such as `leads = [1, 2, 4]`.
    Source: GHPO, code read; ratios .25, .5, .75 verified.
    """

    def __init__(
        self,
        ratios: tuple[float, ...] = (0.25, 0.5, 0.75),
        leads: tuple[int, ...] = (),
        metric: str = "score",
        solved: float = 1.0,
    ) -> None:
        if not ratios or list(ratios) != sorted(set(ratios)) or not 0 < ratios[0] <= ratios[-1] < 1:
            raise ConfigError(f"ghpo needs growing ratios between 0 and 1, not {ratios}")
        if list(leads) != sorted(set(leads)) or min(leads, default=1) < 1:
            raise ConfigError(f"ghpo needs growing leads of at least 1, not {leads}")
        self._ratios, self._leads, self._metric, self._solved = ratios, leads, metric, solved

    def next(self, group: Group, tried: int, desk: Desk) -> Retry | None:
        """The ratio after those tried."""
        if not all_failed(group, self._metric, self._solved):
            return None
        guides = self._guides(group)
        if tried >= len(guides):
            return None
        request = helped(group.request, group.request.n, guides[tried])
        return Retry((request,), "replace_group", metric=self._metric, solved=self._solved)

    def _guides(self, group: Group) -> list[Guide]:
        if self._leads:
            return [Guide(lead=turns) for turns in self._leads]
        task = group.trajectories[0].task
        solution = "\n".join(texts(task, "solution"))
        shown = [beginning(solution, ratio) for ratio in self._ratios]
        return [
            Guide(hint=f"A solution begins like this:\n{text}")
            for text in shown
            if text and not leaks(text, task.answer)
        ]
