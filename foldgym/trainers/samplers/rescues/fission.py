"""Fission-GRPO: an episode that went wrong splits into a group that starts at its error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from foldgym.agents.rollout import member_of
from foldgym.config import resolve
from foldgym.errors import ConfigError
from foldgym.trainers.samplers.rescues.common import leaks
from foldgym.trainers.samplers.slots import Desk
from foldgym.trainers.samplers.stats import score_of
from foldgym.types import Group, Guide, Request, Retry, Trajectory, Turn, Verdict

RECOVERY = "recovery"  # reason of a request that begins where another episode erred
Diagnose = Callable[[Trajectory, Turn], str]


def erred(turn: Turn) -> bool:
    """Whether a turn could not be read, or was answered by an error."""
    answers = [message.text.lstrip().lower() for message in turn.observation]
    return bool(turn.problem) or any(text.startswith("error") for text in answers)


def plain_diagnosis(trajectory: Trajectory, turn: Turn) -> str:
    """The same words every time: they can leak nothing."""
    return "The last step failed. Read the error, find out what was wrong, and go on."


class Fission:
    """Up to `members` failed episodes of a group each become a new group of `n` continuations.

    A continuation starts from the failed episode up to and including its first error, played again
    in a new environment, followed by a diagnosis; all of that is context (mask 0), and only the
    continuation is trained. (After the last error a turn limit would often leave no turn.) The new
    group has its own statistics; the judged group is settled as if nothing had happened. A group of
    failures has no advantage of its own and splits all the same: that is the point. The errors are
    those of this very step, so the newest come first, which is what the source's last-in-first-out
    buffer is for; the rescue share caps them.

    `diagnose` is "module:function" of (trajectory, erring turn), for an error simulator; a
    diagnosis that contains a value of `task.answer` is replaced by the plain one. The world must
    repeat itself under a seed: an episode whose replay is answered differently fails and counts
    for nothing. Source: Fission-GRPO, a secondary note; n and the trigger were not to be found and
    are required.
    """

    def __init__(
        self,
        n: int,
        members: int,
        diagnose: str = "",
        metric: str = "score",
        solved: float = 1.0,
    ) -> None:
        if n < 2 or members < 1:
            raise ConfigError(f"fission needs n >= 2 and members >= 1, not {n} and {members}")
        self._n, self._members, self._metric, self._solved = n, members, metric, solved
        self._diagnose: Diagnose = (
            resolve("diagnose", diagnose, {}) if diagnose else plain_diagnosis
        )

    def next(self, group: Group, tried: int, desk: Desk) -> Retry | None:
        """Splits the first failures that have an error to start from."""
        if tried or group.request.reason:
            return None
        requests: list[Request] = []
        for trajectory in group.trajectories:
            failed = score_of(trajectory, self._metric) < self._solved
            place = next((i for i, turn in enumerate(trajectory.turns) if erred(turn)), None)
            if failed and place is not None and len(requests) < self._members:
                requests.append(self._recovery(group.request, trajectory, place))
        return Retry(tuple(requests), "new_group", Verdict.REJECT) if requests else None

    def _recovery(self, request: Request, trajectory: Trajectory, place: int) -> Request:
        turn = trajectory.turns[place]
        hint = self._diagnose(trajectory, turn)
        if leaks(hint, trajectory.task.answer):
            hint = plain_diagnosis(trajectory, turn)
        # the same stream of the world as the episode that erred, or the replay would differ
        options = {"episode": member_of(trajectory), **request.options}
        guide = Guide(hint=hint, prefix=trajectory.turns[: place + 1])
        return replace(request, n=self._n, options=options, guides=(guide,), reason=RECOVERY)
