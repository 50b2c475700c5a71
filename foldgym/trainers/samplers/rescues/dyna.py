"""Dyna-GRPO: the policy acts again where it has been, knowing what its plan would lead to."""

from __future__ import annotations

from dataclasses import replace

from foldgym.agents.rollout import member_of
from foldgym.errors import ConfigError
from foldgym.trainers.advantages.dyna import REFINE
from foldgym.trainers.samplers.slots import Desk
from foldgym.trainers.samplers.stats import guided, score_of
from foldgym.types import Group, Guide, Retry, Turn, Verdict


class Dyna:
    """In every other step, groups get a second group that has seen the future of one of its plans.

    The plan is what the worst member of the group did from turn `at` on; the true states it led to
    are the answers it got, at most `depth` of them. A refined attempt starts at turn `at` (replayed
    up to there), is shown plan and answers, and acts. So the fork of the environment is a replay,
    and the plan is one that was really carried out: the paper lets the policy imagine it, then
    executes it in a fork. `advantage = "dyna_grpo"` gives these groups 1 or 0 as the paper does.

    Steps with an odd number improve simulation (refined groups of half the size); even steps are
    plain GRPO. Source: Dyna-Mind, a secondary note; `depth` 5 from there, `at` 0 is OURS.
    """

    def __init__(self, depth: int = 5, at: int = 0, metric: str = "score") -> None:
        if depth < 1 or at < 0:
            raise ConfigError(f"dyna needs depth >= 1 and at >= 0, not {depth} and {at}")
        self._depth, self._at, self._metric = depth, at, metric

    def next(self, group: Group, tried: int, desk: Desk) -> Retry | None:
        """One refined group."""
        if tried or desk.step % 2 == 0 or group.request.reason or group.request.n < 2:
            return None
        plain = [t for t in group.trajectories if not guided(t)]
        if not plain:
            return None
        source = min(plain, key=lambda t: score_of(t, self._metric))
        acts = [turn for turn in source.turns if turn.purpose == "act"]
        ahead = acts[self._at : self._at + self._depth]
        if not ahead:
            return None
        prefix = source.turns[: ahead[0].index]
        guide = Guide(hint=_foreseen(ahead), prefix=prefix)
        options = {"episode": member_of(source), **group.request.options}
        request = replace(
            group.request, n=group.request.n // 2, options=options, guides=(guide,), reason=REFINE
        )
        return Retry((request,), "new_group", Verdict.REJECT)


def _foreseen(ahead: list[Turn]) -> str:
    lines = ["If you went on like this, this would happen:"]
    for turn in ahead:
        calls = [f"{call.name} {call.arguments}" for call in turn.message.tool_calls]
        lines.append(f"> {'; '.join(calls) or turn.message.text}")
        lines += [message.text for message in turn.observation]
    return "\n".join([*lines, "Decide what to do, knowing this."])
