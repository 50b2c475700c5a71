"""Episodes and groups of episodes, played concurrently.

Environments run in workers; this module only waits for them. Three kinds of failure have three
fates: a model's mistake is an observation, our failure (`errors.Failure`) ends one trajectory and
is retried within a budget, and a bug stops the run.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from foldgym.agents.renderers import Renderer
from foldgym.agents.transcript import REPLAY, Transcript
from foldgym.errors import EnvCrashed, Failure
from foldgym.rewards.scaffold import revealed
from foldgym.seeding import derive_seed
from foldgym.tools import Parsed
from foldgym.types import (
    Budget,
    EnvHandle,
    Group,
    Guide,
    Memory,
    Message,
    Opening,
    Policy,
    Request,
    Reward,
    Sampling,
    Session,
    Stop,
    Task,
    Trajectory,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """When an episode is over whatever the environment says; `max_parse_errors` are in a row."""

    max_turns: int = 32
    max_seconds: float = math.inf
    max_parse_errors: int = 3


@dataclass(frozen=True, slots=True)
class Rollout:
    """How episodes are played: everything but the policy and the world.

    `retries` is how often one episode may be played again after a failure of ours, `concurrency`
    how many play at once. `aux` answers a memory that asks by="aux".
    """

    renderer: Renderer
    memory: Callable[[], Memory]
    sampling: Sampling = field(default_factory=Sampling)
    budget: Budget = field(default_factory=Budget)
    limits: Limits = field(default_factory=Limits)
    retries: int = 1
    concurrency: int = 256
    aux: Policy | None = None


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
Score = Callable[[Trajectory], Reward]


async def converse(env: EnvHandle, talk: Transcript, limits: Limits) -> Stop:
    """The loop: show, sample, answer, until the world or a limit ends it."""
    deadline = time.monotonic() + limits.max_seconds
    unreadable = 0
    for _ in range(limits.max_turns):
        prompt = await talk.prompt()
        if prompt is None:
            return Stop.MAX_CONTEXT
        said = await talk.say(prompt)
        unreadable = unreadable + 1 if said.problem else 0
        stop = await answer(env, talk, said.message, said.problem)
        if stop is not None:
            return stop
        if unreadable >= limits.max_parse_errors:
            return Stop.PARSE_ERRORS
        if time.monotonic() > deadline:
            return Stop.MAX_SECONDS
    return Stop.MAX_TURNS


async def answer(env: EnvHandle, talk: Transcript, said: Message, problem: str) -> Stop | None:
    """What comes back for one turn: a complaint, the memory's replies, the world's."""
    if problem:
        await talk.hear((Message("user", problem),), 0.0, {})
        return None
    rest, notes = await talk.remember(said)
    if notes and not rest.tool_calls:
        await talk.hear(notes, 0.0, {})
        return None
    step = await env.step(rest)
    await talk.hear((*notes, *step.observation), step.reward, step.info)
    if step.terminated:
        return Stop.DONE
    return Stop.TRUNCATED if step.truncated else None


async def play(env: EnvHandle, session: Session, how: Rollout, episode: Episode) -> Trajectory:
    """One episode from reset to measurement. A `Failure` becomes `Stop.ERROR`, never an exception.

    The environment is measured whatever ended the episode, and closed in any case. The session
    stays open; who opened it closes it.
    """
    started = time.perf_counter()
    request, error, facts = episode.request, "", dict[str, object]()
    guide = request.guide(episode.member)
    talk: Transcript | None = None
    task = Task(f"{request.env}:{request.seed}", ())
    aux = how.aux.open(derive_seed(episode.seed, "aux"), env) if how.aux else None
    try:
        options = {"episode": episode.member, **request.options}
        opening = await env.reset(request.seed, options)
        opening = told(opening, guide, episode.seed)
        task = opening.task
        budget, limits = bounded(how, request)
        talk = Transcript(opening, how.memory(), how.renderer, session, how.sampling, budget, aux)
        await talk.begin()
        stop = await lead(env, talk, guide, episode.seed)
        if stop is None:
            played = len(talk.turns)
            stop = await converse(env, talk, replace(limits, max_turns=limits.max_turns - played))
        await talk.end()
        facts = await env.measure()
    except Failure as failure:
        stop, error = Stop.ERROR, f"{type(failure).__name__}: {failure}"
    finally:
        if aux is not None:
            aux.close()
        await env.close()
    segments = talk.freeze() if talk else ()
    counters = {**talk.counters, "segments": len(segments)} if talk else {}
    if guide.helps:
        counters["guided"] = 1
    return Trajectory(
        episode.id,
        request.env,
        task,
        episode.seed,
        tuple(talk.turns) if talk else (),
        segments,
        stop,
        facts,
        error,
        counters,
        time.perf_counter() - started,
    )


def bounded(how: Rollout, request: Request) -> tuple[Budget, Limits]:
    """The run's context budget and limits, lowered to what the request allows."""
    budget, limits = how.budget, how.limits
    if request.max_context:
        budget = replace(budget, max_context=min(budget.max_context, request.max_context))
    if request.max_turns:
        limits = replace(limits, max_turns=min(limits.max_turns, request.max_turns))
    return budget, limits


# ---------------------------------------------------------------- help before the first turn


def told(opening: Opening, guide: Guide, seed: int) -> Opening:
    """The opening with what the guide adds to the question; nothing else sees the difference.

    `reveal` shows a random `round(reveal * K)` of the K texts in `task.metadata["criteria"]`.
    """
    texts = [guide.hint] if guide.hint and not guide.prefix else []
    if guide.reveal:
        criteria = [str(text) for text in opening.task.metadata.get("criteria", ())]
        chosen = [criteria[i] for i in revealed(guide.reveal, len(criteria), seed, 0)]
        texts += ["A good answer:\n" + "\n".join(f"- {text}" for text in chosen)] if chosen else []
    if not texts:
        return opening
    shown = tuple(Message("user", text) for text in texts)
    return opening._replace(task=replace(opening.task, prompt=(*opening.task.prompt, *shown)))


async def lead(env: EnvHandle, talk: Transcript, guide: Guide, seed: int) -> Stop | None:
    """Plays the turns that the policy does not sample; a stop when they ended the episode.

    Raises `EnvCrashed` when a recorded turn is answered differently from the first time.
    """
    for past in guide.prefix:
        if past.purpose not in ("act", REPLAY):
            continue
        await talk.recall(past.message, past.problem)
        stop = await answer(env, talk, past.message, past.problem)
        if talk.turns[-1].observation != past.observation:
            raise EnvCrashed(
                f"turn {past.index} played again was answered differently: this environment does "
                "not repeat itself under one seed, so no episode can start from a recorded prefix"
            )
        if stop is not None:
            return stop
    for number in range(guide.lead):
        said = await env.expert("optimal", derive_seed(seed, "lead", number))
        read = talk.read(said) if isinstance(said, str) else Parsed(said, "")
        await talk.recall(read.message, read.problem)
        stop = await answer(env, talk, read.message, read.problem)
        if stop is not None:
            return stop
    if guide.prefix and guide.hint:
        talk.notice(Message("user", guide.hint))
    return None


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

    def seat() -> tuple[Episode, EnvHandle, Session] | None:
        if not queue:
            return None
        episode = queue.popleft()
        env = open_env(episode.request)
        return episode, env, policy.open(episode.seed, env)

    async def lane(taken: tuple[Episode, EnvHandle, Session] | None) -> None:
        # The next session opens before the last one closes: an engine that waits for all open
        # sessions then sees the same ones whatever the timing.
        while taken is not None:
            episode, env, session = taken
            try:
                trajectory = await play(env, session, how, episode)
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
                session.close()

    seats = [seat() for _ in range(min(how.concurrency, len(queue)))]
    await gather_or_cancel([lane(taken) for taken in seats])
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


T = TypeVar("T")


async def gather_or_cancel(jobs: Sequence[Awaitable[T]]) -> list[T]:
    """`gather` that cancels and awaits the others when one raises."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
