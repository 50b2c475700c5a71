"""EGSR: after a group of failures the policy tells an expert's solution in its own words."""

from __future__ import annotations

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.rescues.common import all_failed, beginning, helped, texts, unaided
from foldgym.trainers.samplers.slots import Desk
from foldgym.types import Group, Guide, Retry


class Egsr:
    """Shows `share` of `task.metadata["solution"]`; a verified retelling replaces one member.

    Closer to the policy than imitating the expert: what is trained is what the policy wrote, under
    the prompt it wrote it from. Only for groups in which all fail, once per group.
    Source: EGSR (text); `tries` 2 and `share` 1 are OURS.
    """

    def __init__(
        self, share: float = 1.0, tries: int = 2, metric: str = "score", solved: float = 1.0
    ) -> None:
        if not 0 < share <= 1 or tries < 1:
            raise ConfigError(f"egsr needs 0 < share <= 1 and tries >= 1, not {share} and {tries}")
        self._share, self._tries, self._metric, self._solved = share, tries, metric, solved

    def next(self, group: Group, tried: int, desk: Desk) -> Retry | None:
        """One retry with the solution in view."""
        solution = "\n".join(texts(group.trajectories[0].task, "solution"))
        if tried or not solution or not unaided(group):
            return None
        if not all_failed(group, self._metric, self._solved):
            return None
        text = beginning(solution, self._share)
        hint = f"An expert solved it like this:\n{text}\nSolve it in your own way and words."
        request = helped(group.request, self._tries, Guide(hint=hint))
        return Retry((request,), "replace_one", metric=self._metric, solved=self._solved)
