"""Curricula without a model: pretended rollouts, and the promises every sampler must keep."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

from foldgym.seeding import derive_seed, generator
from foldgym.trainers.samplers.settle import settle
from foldgym.types import (
    Credits,
    Group,
    Guide,
    Message,
    Request,
    Reward,
    Sampler,
    Segment,
    Stop,
    Task,
    Trajectory,
    Turn,
)

Chance = Callable[[Request, Guide], float]  # of success
METADATA = {
    "hints": ["know this", "plan that", "solve it so"],
    "solution": "first look around and then take what is there",
    "criteria": ["be kind", "be brief", "be right", "be done"],
}


def pretend(
    requests: Sequence[Request], chance: Chance, version: int = 0, seed: int = 0
) -> list[Group]:
    """A scored group per request, each member solved with the given chance.

    Members have one erring turn and one more, so that there is something to recover from; a guide
    is on record as it would be after a real rollout.
    """
    return [_group(request, chance, version, seed, place) for place, request in enumerate(requests)]


def _group(request: Request, chance: Chance, version: int, seed: int, place: int) -> Group:
    members: list[Trajectory] = []
    for number in range(request.n):
        guide = request.guide(number)
        rng = generator(seed, "pretend", version, place, request.seed, request.reason, number)
        score = float(rng.random() < chance(request, guide))
        segment = Segment((1, 2, 3), (-1, 0, 1), (0.0, -0.5, -0.5), (-1, version, version))
        turns = (
            Turn(0, Message("assistant", f"try {number}"), (Message("user", "error: no"),)),
            Turn(1, Message("assistant", "again"), (Message("user", "well"),)),
        )
        why = f"({request.reason})" if request.reason else ""
        members.append(
            Trajectory(
                f"{request.env}:{request.seed}{why}:{number}",
                request.env,
                Task("q", (Message("user", "do it"),), "secret", METADATA),
                derive_seed(seed, request.seed, number),
                turns,
                (segment,),
                Stop.DONE,
                {"score": score, "success": score >= 1, "process": rng.random()},
                counters={"guided": 1} if guide.helps else {},
            )
        )
    rewards = tuple(Reward(float(t.facts["score"]), 0.0) for t in members)
    return Group(request, tuple(members), rewards)


def run_step(
    sampler: Sampler, step: int, want: int, chance: Chance, seed: int = 0, rounds: int = 2
) -> tuple[list[Group], list[Group], list[Group]]:
    """One step as training does it: (accepted, rejected, everything that was played)."""
    accepted: list[Group] = []
    rejected: list[Group] = []
    played: list[Group] = []

    async def play(requests: Sequence[Request]) -> list[Group]:
        groups = pretend(requests, chance, step, derive_seed(seed, step, len(played)))
        played.extend(groups)
        return groups

    for _ in range(rounds):
        if len(accepted) >= want:
            break
        requests = sampler.plan(step, want - len(accepted))
        kept, dropped = asyncio.run(settle(sampler, requests, play))
        accepted += kept
        rejected += dropped
    sampler.update(accepted, rejected)
    return accepted, rejected, played


def check_sampler(make: Callable[[], Sampler], chance: Chance, steps: int = 6) -> None:
    """Raises `AssertionError` naming the promise that a sampler breaks.

    `make` must return a new sampler every time, the same one. Played with pretended rollouts:

    * the same seed and results give the same plan;
    * state is JSON, and a sampler restored in mid-run goes on exactly as the one it came from;
    * every played trajectory comes back exactly once, accepted or rejected;
    * what is accepted was not rejected, and `weigh` adds no trajectory and no credit.
    """
    first, second = make(), make()
    for step in range(1, steps + 1):
        mine, theirs = _step(first, step, chance), _step(second, step, chance)
        assert mine == theirs, f"step {step}: same seed and results, but another plan"
        saved = json.loads(json.dumps(first.state()))
        second = make()
        second.load(saved)
        again = json.loads(json.dumps(second.state()))
        assert again == saved, "state changes when it is saved and loaded"


def _step(sampler: Sampler, step: int, chance: Chance) -> list[Request]:
    accepted, rejected, played = run_step(sampler, step, 6, chance)
    names = sorted(t.id for group in played for t in group.trajectories)
    out = sorted(t.id for group in [*accepted, *rejected] for t in group.trajectories)
    assert out == names, "a played trajectory was lost, or came back twice"
    _check_weigh(sampler, accepted)
    return [group.request for group in played]


def _check_weigh(sampler: Sampler, accepted: Sequence[Group]) -> None:
    import numpy as np

    credits: Credits = tuple(
        tuple(tuple(np.ones(len(s.token_ids)) for s in t.segments) for t in group.trajectories)
        for group in accepted
    )
    groups, left = sampler.weigh(accepted, credits)
    assert len(groups) == len(left), "weigh returned credit for another number of groups"
    before = {t.id for group in accepted for t in group.trajectories}
    for group, row in zip(groups, left, strict=True):
        assert {t.id for t in group.trajectories} <= before, "weigh added a trajectory"
        assert len(row) == len(group.trajectories), "weigh lost the credit of a trajectory"
        for credit in row:
            assert all(((part >= 0) & (part <= 1)).all() for part in credit), "weight beyond [0, 1]"
