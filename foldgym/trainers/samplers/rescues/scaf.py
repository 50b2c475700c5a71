"""Scaf-GRPO: the least help that yields one success, put into a group that had none."""

from __future__ import annotations

from foldgym.errors import ConfigError
from foldgym.trainers.samplers.rescues.common import all_failed, beginning, helped, texts, unaided
from foldgym.trainers.samplers.slots import Desk
from foldgym.types import Group, Guide, Retry, Task


class Scaf:
    """Tries levels of help upwards; the first correct attempt replaces exactly one failed member.

    With `guide = "hints"` the tiers are `task.metadata["hints"]`, from knowledge over plan to
    solution, each shown in `parts` growing parts: tiers x parts levels. With `guide = "expert"`
    level k is an episode whose first k turns the environment's expert plays, up to `leads` of
    them: for worlds that have experts and no hints (OURS). Either way the attempt is trained under
    the prompt it was sampled from, so it is on-policy; the reference's other mode, which puts it
    under the bare prompt, is not offered.

    Warm-up: no help in the first `warmup` steps, so that not-yet-learned is told from too hard.
    A group with a success is never touched. Each level plays `tries` attempts.
    Source: Scaf-GRPO, code read; `warmup` 50, `parts` 4, `tries` 1 verified.
    """

    def __init__(
        self,
        guide: str = "hints",
        parts: int = 4,
        leads: int = 4,
        warmup: int = 50,
        tries: int = 1,
        metric: str = "score",
        solved: float = 1.0,
    ) -> None:
        if guide not in ("hints", "expert"):
            raise ConfigError(f'sampler.rescue.guide: {guide!r} is neither "hints" nor "expert"')
        if min(parts, leads, tries) < 1 or warmup < 0:
            raise ConfigError("scaf needs parts, leads and tries of at least 1, and warmup >= 0")
        self._guide, self._parts, self._leads = guide, parts, leads
        self._warmup, self._tries, self._metric, self._solved = warmup, tries, metric, solved

    def next(self, group: Group, tried: int, desk: Desk) -> Retry | None:
        """The level after those tried."""
        if desk.step <= self._warmup or not unaided(group):
            return None
        if not all_failed(group, self._metric, self._solved):
            return None
        levels = self._levels(group.trajectories[0].task)
        if tried >= len(levels):
            return None
        request = helped(group.request, self._tries, levels[tried])
        return Retry((request,), "replace_one", metric=self._metric, solved=self._solved)

    def _levels(self, task: Task) -> list[Guide]:
        if self._guide == "expert":
            return [Guide(lead=turns) for turns in range(1, self._leads + 1)]
        shares = [part / self._parts for part in range(1, self._parts + 1)]
        return [
            Guide(hint=f"Hint: {beginning(tier, share)}")
            for tier in texts(task, "hints")
            for share in shares
        ]
