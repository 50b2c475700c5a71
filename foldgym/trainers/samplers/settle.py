"""From requests to groups that are trained on and groups that are not, with whatever is retried.

Every played trajectory comes back exactly once, in a group that was accepted or in one that was
not: the statistics miss nothing, and nothing rejected can reach a loss.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from foldgym.errors import Bug
from foldgym.trainers.samplers.base import part_of
from foldgym.trainers.samplers.stats import score_of
from foldgym.types import Group, Keep, Request, Retry, Sampler, Verdict

Play = Callable[[Sequence[Request]], Awaitable[list[Group]]]


async def settle(
    sampler: Sampler, requests: Sequence[Request], play: Play
) -> tuple[list[Group], list[Group]]:
    """Plays requests and everything that the sampler retries; returns (accepted, rejected)."""
    accepted: list[Group] = []
    rejected: list[Group] = []
    waiting = await play(requests)
    while waiting:
        retries: list[tuple[Group, Retry]] = []
        for group in waiting:
            decision = sampler.judge(group)
            if isinstance(decision, Retry):
                retries.append((group, decision))
            elif isinstance(decision, Keep):
                left = [i for i in range(len(group.trajectories)) if i not in decision.members]
                accepted.append(part_of(group, decision.members))
                rejected.append(replace(part_of(group, left), failures=()))
            else:
                (accepted if decision is Verdict.ACCEPT else rejected).append(group)
        wanted = [request for _, retry in retries for request in retry.requests]
        played = iter(await play(wanted) if wanted else [])
        waiting = []
        for group, retry in retries:
            new = [next(played) for _ in retry.requests]
            again, dropped = merged(group, new, retry)
            waiting += again
            if retry.merge == "new_group" and retry.verdict is Verdict.ACCEPT:
                accepted.append(group)
            else:
                rejected += dropped
    return accepted, rejected


def merged(group: Group, new: Sequence[Group], retry: Retry) -> tuple[list[Group], list[Group]]:
    """The groups to judge next, and those that are out, after a retry was played.

    `"replace_one"` changes exactly one member or none, and never the size of a group. An attempt
    in which the policy sampled nothing (its guide went all the way) solves nothing.
    """
    if retry.merge == "new_group":
        return list(new), [group]
    if retry.merge == "replace_group":
        if len(new) != 1:
            raise Bug(f"replace_group needs exactly one new group, not {len(new)}")
        playable = bool(new[0].trajectories)
        return ([new[0]], [group]) if playable else ([group], [new[0]])
    for place, other in enumerate(new):
        for member, trajectory in enumerate(other.trajectories):
            if trajectory.trained and score_of(trajectory, retry.metric) >= retry.solved:
                rest = [i for i in range(len(other.trajectories)) if i != member]
                helped, out = _swapped(group, other, member, retry.metric)
                dropped = [*new[:place], part_of(other, rest), *new[place + 1 :], out]
                return [helped], [g for g in dropped if g.trajectories or g.failures]
    return [group], list(new)


def _swapped(group: Group, other: Group, member: int, metric: str) -> tuple[Group, Group]:
    """The group with its first worst member replaced, and that member as a group of its own."""
    scores = [score_of(trajectory, metric) for trajectory in group.trajectories]
    worst = scores.index(min(scores))
    trajectories, rewards = list(group.trajectories), list(group.rewards)
    trajectories[worst], rewards[worst] = other.trajectories[member], other.rewards[member]
    swapped = replace(group, trajectories=tuple(trajectories), rewards=tuple(rewards))
    return swapped, replace(part_of(group, [worst]), failures=())
