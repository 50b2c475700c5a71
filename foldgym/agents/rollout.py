"""Episodes and groups of episodes, played concurrently.

Environments run in workers; this module only waits for them. Three kinds of failure have three
fates: a model's mistake is an observation, our failure (`errors.Failure`) ends one trajectory and
is retried within a budget, and a bug stops the run.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from foldgym.agents.cast import Cast
from foldgym.agents.conversation import Limits
from foldgym.agents.counting import of_segments
from foldgym.agents.guides import told
from foldgym.agents.renderers import Renderer
from foldgym.agents.scaffolds.react import ReAct
from foldgym.agents.stage import Scaffold, Stage
from foldgym.agents.tasks import gather_or_cancel
from foldgym.errors import ContextFull, Failure
from foldgym.seeding import derive_seed
from foldgym.types import (
    Budget,
    EnvHandle,
    Group,
    Memory,
    Opening,
    Policy,
    Request,
    Reward,
    Sampling,
    Snapshot,
    Stop,
    Task,
    Trajectory,
)


@dataclass(frozen=True, slots=True)
class Rollout:
    """How episodes are played: everything but the policy and the world.

    `retries` is how often one episode may be played again after a failure of ours, `concurrency`
    how many play at once. `aux` answers who asks by="aux". All episodes read the same `store`; what
    they propose to write is in their trajectories. `scaffold` makes the program that speaks
    (`agents.scaffolds`); lineages whose role is in `untrained` speak and learn nothing. `watch`
    sees each episode when it is over, its environment still open, and must change nothing.
    Rollouts that go on at the same time share `places`: then `concurrency` is that of them all.
    """

    renderer: Renderer
    memory: Callable[[], Memory]
    sampling: Sampling = field(default_factory=Sampling)
    budget: Budget = field(default_factory=Budget)
    limits: Limits = field(default_factory=Limits)
    retries: int = 1
    concurrency: int = 256
    aux: Policy | None = None
    store: Snapshot = field(default_factory=Snapshot)
    scaffold: Callable[[], Scaffold] = ReAct
    untrained: frozenset[str] = frozenset()
    watch: Watch | None = None
    places: asyncio.Semaphore | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """One seat in a group: which task, which member, which attempt, which random stream."""

    request: Request
    member: int
    attempt: int
    seed: int

    @property
    def id(self) -> str:
        """`env:task seed:member`, with the request's reason and the attempt where there is one."""
        again = f"+{self.attempt}" if self.attempt else ""
        why = f"({self.request.reason})" if self.request.reason else ""
        return f"{self.request.env}:{self.request.seed}{why}:{self.member}{again}"


def member_of(trajectory: Trajectory) -> int:
    """The number of a trajectory's seat in its group, which is its `episode` option too."""
    return int(trajectory.id.rpartition(":")[2].partition("+")[0])


OpenEnv = Callable[[Request], EnvHandle]
Watch = Callable[[Episode, Stage], Awaitable[None]]
Score = Callable[[Trajectory], Reward]


async def play(env: EnvHandle, cast: Cast, how: Rollout, episode: Episode) -> Trajectory:
    """One episode from reset to measurement. A `Failure` becomes `Stop.ERROR`, never an exception.

    The environment is measured whatever ended the episode, and closed in any case. The cast stays
    open; who opened it closes it.
    """
    started = time.perf_counter()
    request, error, facts = episode.request, "", dict[str, object]()
    guide = request.guide(episode.member)
    stage: Stage | None = None
    task = Task(f"{request.env}:{request.seed}", ())
    try:
        options = {"episode": episode.member, **request.options}
        opening = told(await env.reset(request.seed, options), guide, episode.seed)
        task = opening.task
        stage = staged(env, opening, cast, how, episode)
        try:
            stop = await how.scaffold().run(stage)
        except ContextFull:  # only an engine that counts its own tokens finds this out so late
            stop = Stop.MAX_CONTEXT
        await stage.end()
        facts = {**await env.measure(), **stage.facts}
        if how.watch is not None:
            await how.watch(episode, stage)
    except Failure as failure:
        stop, error = Stop.ERROR, f"{type(failure).__name__}: {failure}"
    finally:
        await env.close()
    segments = stage.ledger.freeze() if stage else ()
    counters = {**stage.ledger.counters, **of_segments(segments)} if stage else {}
    if guide.helps:
        counters["guided"] = 1
    return Trajectory(
        episode.id,
        request.env,
        task,
        episode.seed,
        stage.ledger.finished() if stage else (),
        segments,
        stop,
        facts,
        error,
        counters,
        time.perf_counter() - started,
        stage.proposal() if stage else None,
    )


def staged(env: EnvHandle, opening: Opening, cast: Cast, how: Rollout, episode: Episode) -> Stage:
    """The stage of an episode, within the limits of its request."""
    budget, limits = bounded(how, episode.request)
    return Stage(
        env,
        opening,
        cast,
        how.renderer,
        how.memory,
        how.sampling,
        budget,
        limits,
        episode.seed,
        episode.request.guide(episode.member),
        how.untrained,
        how.store,
    )


def bounded(how: Rollout, request: Request) -> tuple[Budget, Limits]:
    """The run's context budget and limits, lowered to what the request allows."""
    budget, limits = how.budget, how.limits
    if request.max_context:
        budget = replace(budget, max_context=min(budget.max_context, request.max_context))
    if request.max_turns:
        limits = replace(limits, max_turns=min(limits.max_turns, request.max_turns))
    return budget, limits


async def rollout(
    requests: Sequence[Request],
    open_env: OpenEnv,
    policy: Policy,
    how: Rollout,
    seed: int,
    score: Score,
    progress: Callable[[Trajectory], None] | None = None,
) -> list[Group]:
    """Plays every request's group; returns one scored `Group` per request, in order.

    Members share the task's seed and differ in their own, derived from `seed`, the request's place
    and the member's number. A failed episode is played again up to `how.retries` times with a new
    stream; what still fails is in `Group.failures` and in no statistic.
    """
    queue = deque(
        Episode(request, member, 0, derive_seed(seed, place, request.seed, member))
        for place, request in enumerate(requests)
        for member in range(request.n)
    )
    order = {(episode.seed): place for place, episode in enumerate(queue)}
    done: list[tuple[int, int, Trajectory]] = []

    def seat() -> tuple[Episode, EnvHandle, Cast] | None:
        if not queue:
            return None
        episode = queue.popleft()
        env = open_env(episode.request)
        return episode, env, Cast(policy, episode.seed, env, how.aux)

    async def lane(taken: tuple[Episode, EnvHandle, Cast] | None) -> None:
        # The next session opens before the last one closes: an engine that waits for all open
        # sessions then sees the same ones whatever the timing.
        while taken is not None:
            episode, env, cast = taken
            try:
                trajectory = await play(env, cast, how, episode)
                place = order[episode.seed]
                if trajectory.failed and episode.attempt < how.retries:
                    again = derive_seed(episode.seed, "again")
                    order[again] = place
                    queue.append(
                        Episode(episode.request, episode.member, episode.attempt + 1, again)
                    )
                done.append((place, episode.attempt, trajectory))
                if progress:
                    progress(trajectory)
                taken = seat()
            finally:
                cast.close()

    async def shared_lane(places: asyncio.Semaphore) -> None:
        async with places:
            await lane(seat())

    lanes = range(min(how.concurrency, len(queue)))
    places = how.places
    await gather_or_cancel(
        [shared_lane(places) for _ in lanes] if places else [lane(seat()) for _ in lanes]
    )
    return _groups(requests, done, score)


def _groups(
    requests: Sequence[Request], done: list[tuple[int, int, Trajectory]], score: Score
) -> list[Group]:
    """Finished episodes back into their groups, in the order they were asked for."""
    done.sort(key=lambda item: item[:2])
    groups: list[Group] = []
    first = 0
    for request in requests:
        places = range(first, first + request.n)
        first += request.n
        mine = [trajectory for place, _, trajectory in done if place in places]
        good = tuple(trajectory for trajectory in mine if not trajectory.failed)
        bad = tuple(trajectory for trajectory in mine if trajectory.failed)
        groups.append(Group(request, good, tuple(score(t) for t in good), bad))
    return groups
