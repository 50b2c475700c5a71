"""What every scaffold promises, checked: run it on yours before you train."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence

from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Limits, Rollout, rollout
from foldgym.agents.stage import Scaffold, role_of
from foldgym.envs import registry
from foldgym.envs.worker import open_worker
from foldgym.errors import FoldgymError
from foldgym.memory import FullHistory, SlidingWindow
from foldgym.testing.agents import WORLD
from foldgym.testing.contracts import Finding
from foldgym.testing.doubles import ByteTokenizer, HashPolicy, witness
from foldgym.types import Budget, Group, Memory, Request, Reward, Sampling, Trajectory

_AUX_VERSION = 1_000_001


def check_scaffold(
    make: Callable[[], Scaffold], seeds: Sequence[int] = range(10), world: str = WORLD
) -> list[Finding]:
    """Every promise that a scaffold breaks; an empty list means that it keeps them all.

    Plays random episodes whose log-probs are hashes of the exact prefix, with an auxiliary policy
    beside, through a memory that keeps everything and one that forgets. Checked: each id that the
    policy sampled is recorded once and in its context, no id of the auxiliary policy is, lineages
    have the roles that the scaffold names, contexts stay within the budget, and the same seed
    plays the same episode.
    """
    memories: tuple[Callable[[], Memory], ...] = (FullHistory, lambda: SlidingWindow(1))
    return [
        Finding("scaffold", f"seed {seed}: {what}")
        for seed in seeds
        for what in dict.fromkeys(_episodes(make, memories[seed % 2], seed, world))
    ]


def _episodes(
    make: Callable[[], Scaffold], memory: Callable[[], Memory], seed: int, world: str
) -> Iterator[str]:
    renderer = CompactRenderer(ByteTokenizer())
    budget = Budget(max_context=4000, reserve=120)
    said: list[list[object]] = []
    for _ in range(2):
        policy, aux = HashPolicy(renderer), HashPolicy(renderer, version=_AUX_VERSION)
        how = Rollout(
            renderer, memory, Sampling(max_tokens=120), budget, Limits(8), aux=aux, scaffold=make
        )
        try:
            group = asyncio.run(_play(how, policy, seed, world))
        except FoldgymError as broken:
            yield f"{type(broken).__name__}: {broken}"
            return
        for failed in group.failures:
            yield f"the episode failed: {failed.error}"
        for trajectory in group.trajectories:
            yield from _recorded(trajectory, policy)
            yield from _named(trajectory, make().roles)
        calls = [*policy.calls, *aux.calls]
        longest = max((len(context) + len(ids) for context, ids in calls), default=0)
        if longest > budget.max_context:
            yield f"a context of {longest} ids, but only {budget.max_context} are allowed"
        said.append([(t.turns, t.segments) for t in group.trajectories])
    if said[0] != said[1]:
        yield "played twice with one seed it differs; take chance from stage.rng alone"


async def _play(how: Rollout, policy: HashPolicy, seed: int, world: str) -> Group:
    (group,) = await rollout(
        [Request(world, seed)],
        lambda request: open_worker(registry.maker(world), "inline", 30.0),
        policy,
        how,
        seed,
        lambda trajectory: Reward(0.0, 0.0),
    )
    return group


def _recorded(trajectory: Trajectory, policy: HashPolicy) -> Iterator[str]:
    if any(_AUX_VERSION in segment.versions for segment in trajectory.segments):
        yield "what the auxiliary policy said is in a segment"
    try:
        found = witness(trajectory)
    except AssertionError as broken:
        yield str(broken)
        return
    sampled = sum(len(ids) for _, ids in policy.calls)
    if found != sampled:
        yield f"{sampled} ids were sampled but {found} are recorded"


def _named(trajectory: Trajectory, roles: Sequence[str]) -> Iterator[str]:
    spoke = {role_of(turn.lineage) for turn in trajectory.turns}
    for role in sorted(spoke - {*roles}):
        yield f"the role {role!r} spoke, but `roles` names only {', '.join(roles)}"
