"""Rollouts sampled by vLLM: ids in, ids and log-probs out, weights pushed after every update.

    engine = vllm(trainee)          # [engine] use = "vllm"
    await engine.start()            # a server of our own, or those at `url`
    engine.sampler.open(seed, env)  # sessions; vLLM batches all that ask at once
    await engine.publish()          # the trainee changed: push, go on, check

A completion that an update interrupts goes on under the new weights, on what it has said so far;
`Completion.versions` then tells its ids apart. After each push both sides read the log-probs of a
probe, which must be the same.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

from foldgym.agents.engines.engine import Engine, Trainee
from foldgym.agents.engines.vllm_check import Probe
from foldgym.agents.engines.vllm_client import Calls, Client, Said, Unreachable
from foldgym.agents.engines.vllm_options import Options
from foldgym.agents.engines.vllm_resident import Resident
from foldgym.agents.engines.vllm_server import Server
from foldgym.agents.engines.vllm_weights import renew
from foldgym.console import note
from foldgym.errors import Bug, ConfigError, ContextFull, EngineDown, EngineError
from foldgym.seeding import derive_seed
from foldgym.types import Completion, EnvHandle, Finish, Ids, Policy, Prompt, Sampling, Session

_SETTLE_SECONDS = 5.0, 1.0  # for the first interrupted completion to come back, and after another
_ALIVE_SECONDS = 20.0  # for one id, from a server that is suspected dead


@dataclass(slots=True)
class _Node:
    """One server. `lives` counts its starts, `sessions` those that ask it."""

    client: Calls
    server: Server | None = None
    lives: int = 0
    sessions: int = 0


class VllmEngine:
    """An `Engine` over one server of ours, or over those that `options.url` names."""

    def __init__(self, trainee: Trainee, options: Options) -> None:
        self.trainee, self.options = trainee, options
        self.sampler = VllmPolicy(self)
        self.version = trainee.policy.version
        self.room: float = trainee.policy.max_positions
        self.restarts = 0
        self._folder = options.folder(trainee)
        away = options.urls or options.colocated
        self.server = None if away else options.server(trainee, self._folder)
        self.nodes: list[_Node] = []
        self._calls: set[asyncio.Task[Said]] = set()
        self._mending = asyncio.Lock()
        self._open = asyncio.Event()
        self._down: EngineDown | None = None
        self._asleep = False
        self._push = options.push(trainee)
        self._probe = Probe(trainee, options.tolerance_of(trainee))

    @property
    def judged(self) -> Policy:
        """The same weights are judged as sample."""
        return self.sampler

    # ------------------------------------------------------------ life

    async def start(self) -> None:
        """Starts the server, or finds those that run, and gives them the weights as they are.

        Raises `EngineDown`, or `WeightsDiffer` if what answers is another model.
        """
        options = self.options
        self._down, self.version = None, self.trainee.policy.version
        self._probe.renew()
        await self._write()
        try:
            self._push.check(self._folder)
            self.nodes = [_Node(Client(url, options.timeout)) for url in options.urls]
            if self.server is not None:
                await self.server.start(options.start_seconds)
                self.nodes = [_Node(Client(self.server.url, options.timeout), self.server)]
                await self._push.meet(self.nodes[0].client)
            if options.colocated:
                resident = Resident(*options.settings(self.trainee, self._folder))
                self.nodes = [_Node(resident)]
                await resident.start()
            lengths = [await node.client.length() for node in self.nodes]
            self.room = min([self.trainee.policy.max_positions, *(n for n in lengths if n > 0)])
            if options.urls:
                await self._swap()
            await self._probe.first([node.client for node in self.nodes])
        except EngineError as problem:
            await self.stop()
            raise EngineDown(str(problem)) from None
        except BaseException:
            await self.stop()
            raise
        self._open.set()

    async def stop(self) -> None:
        """Ends our server and all calls; servers of the user's go on."""
        self._open.clear()
        for call in self._calls:
            call.cancel()
        nodes, self.nodes = self.nodes, []
        for node in nodes:
            await node.client.close()
        self._push.part()
        if self.server is not None:
            await self.server.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def publish(self) -> dict[str, float]:
        """Pushes the trainee's weights, if they changed. See `Engine.publish`."""
        if self.trainee.policy.version != self.version or self._asleep:
            async with self._mending:
                self._probe.renew()
                if not self._push.direct:
                    await self._write()
                with self._closed():
                    await self._renew()
        return {**self._probe.numbers, "engine_restarts": float(self.restarts)}

    async def rest(self) -> None:
        """With `sleep`: lends the server's memory to the learner, until weights are published."""
        if self.options.sleep:
            async with self._mending:
                self._open.clear()
                self._asleep = True
                await _each(node.client.sleep() for node in self.nodes)

    # ------------------------------------------------------------ sampling

    def seat(self) -> _Node:
        """The server with the fewest sessions."""
        if not self.nodes:
            raise EngineError("the vLLM engine is not started")
        node = min(self.nodes, key=lambda each: each.sessions)
        node.sessions += 1
        return node

    async def complete(
        self, node: _Node, prompt: Ids, sampling: Sampling, seed: int, since: int
    ) -> tuple[Said, int]:
        """What a server says, and the version that said it. Raises `EngineError`.

        So it does for an episode that began before the latest of `restarts` (`since`: how many
        there were then; -1 for a beginning): its clock ran on while nobody could answer.
        """
        while True:
            await self._open.wait()
            if self._down is not None:
                raise self._down
            if since not in (-1, self.restarts):
                raise EngineError("vLLM was started again in the middle of the episode")
            version, lives = self.version, node.lives
            stops = self.trainee.renderer.stop_ids
            call = asyncio.ensure_future(node.client.complete(prompt, sampling, stops, seed))
            self._calls.add(call)
            try:
                return await call, version
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not self.nodes or (task is not None and task.cancelling()):
                    raise
                # it was on its way when the weights changed: nobody knows which would have said it
            except Unreachable as problem:
                await self._mend(node, lives, problem)
                raise
            finally:
                call.cancel()
                self._calls.discard(call)

    # ------------------------------------------------------------ weights

    async def _write(self) -> None:
        untie = self.trainee.device == "cpu"
        await asyncio.to_thread(renew, self._folder, self.trainee.write, untie=untie)

    async def _renew(self) -> None:
        """New weights on every server; one that does not stand it is started again with them."""
        try:
            await self._swap()
        except Unreachable as problem:
            for node in self.nodes:
                await self._revive(node, problem)
        self.version = self.trainee.policy.version
        await self._probe.compare([node.client for node in self.nodes])

    async def _swap(self) -> None:
        """Interrupts every server, has it read the weights, and lets it go on."""
        folder = str(self._folder.absolute()) if self.options.urls else ""
        clients = [node.client for node in self.nodes]
        if self._asleep:
            await _each(client.wake("weights") for client in clients)
        else:
            await _each(client.pause() for client in clients)
            await self._settle()
        await _each(self._push.send(client, folder) for client in clients)
        if self._asleep:
            await _each(client.wake("kv_cache") for client in clients)
        await _each(client.resume() for client in clients)
        self._asleep = False

    async def _settle(self) -> None:
        """What was interrupted comes back; what was only on its way is asked again."""
        left, (patience, later) = set(self._calls), _SETTLE_SECONDS
        while left:
            done, left = await asyncio.wait(left, timeout=patience, return_when="FIRST_COMPLETED")
            if not done:
                break
            patience = later
        for call in self._calls:
            call.cancel()

    # ------------------------------------------------------------ health

    async def _mend(self, node: _Node, lives: int, problem: Unreachable) -> None:
        """After a call that failed: a server that is dead or deaf is started again."""
        async with self._mending:
            if node.lives != lives or self._down is not None or not self.nodes:
                return  # somebody else saw to it
            there = node.server is None or node.server.alive()
            seconds = min(_ALIVE_SECONDS, self.options.timeout)
            if there and await node.client.answers(self._probe.ids[:2], seconds):
                return
            with self._closed():
                await self._revive(node, problem)
                await self._probe.compare([node.client])

    async def _revive(self, node: _Node, problem: Unreachable) -> None:
        """A server that runs and has the weights that were written last. Raises `EngineDown`."""
        if self.options.colocated:
            raise EngineDown(
                f"{problem}; vLLM cannot be started again in the process that it failed in: "
                "--resume the run, or leave engine.colocated out for a server that can be"
            )
        if self.restarts >= self.options.restarts:
            last = f": {node.server.last_words()}" if node.server else f" ({node.client.url})"
            raise EngineDown(
                f"vLLM failed {self.restarts + 1} times, and engine.restarts is "
                f"{self.options.restarts}{last}"
            )
        self.restarts += 1
        node.lives += 1
        seconds = self.options.start_seconds
        todo = "it is started again" if node.server else f"it has {seconds:g} seconds to come back"
        count = f"{self.restarts} of at most {self.options.restarts} times"
        note(f"{problem}: {todo} ({count})")
        if node.server is not None:
            if self._push.direct:  # it begins with files; nobody learns while others sample
                await self._write()
            await node.server.start(self.options.start_seconds)
            await node.client.close()
            node.client = Client(node.server.url, self.options.timeout)
            await self._push.meet(node.client)
            return
        loop = asyncio.get_running_loop()
        until = loop.time() + self.options.start_seconds
        while True:
            try:
                await self._push.send(node.client, str(self._folder.absolute()))
                await node.client.resume()
                return
            except Unreachable as problem:
                if loop.time() > until:
                    raise EngineDown(f"it did not come back: {problem}") from None
                await asyncio.sleep(1.0)

    @contextmanager
    def _closed(self) -> Generator[None]:
        """Nothing is sampled meanwhile. If this fails, every session hears why: nobody waits."""
        self._open.clear()
        try:
            yield
        except EngineError as problem:
            self._down = EngineDown(str(problem))
            raise self._down from None
        except (EngineDown, Bug) as problem:
            self._down = EngineDown(str(problem))
            raise
        finally:
            self._open.set()


class VllmPolicy:
    """The `Policy` that rollouts see; log-probs of given ids are read in this process."""

    def __init__(self, engine: VllmEngine) -> None:
        self.engine = engine

    @property
    def version(self) -> int:
        """Of the weights that were pushed last."""
        return self.engine.version

    def open(self, seed: int, env: EnvHandle | None = None) -> Session:
        """A session on one server, so that its turns find their prefix in the cache."""
        return VllmSession(self.engine, seed)

    def logprobs(self, prompt: Ids, target: Ids) -> tuple[float, ...]:
        """The trainee's: the same weights."""
        return self.engine.trainee.policy.logprobs(prompt, target)


@dataclass(slots=True)
class VllmSession:
    """One episode's side: a server, and a stream of seeds, one for each call."""

    engine: VllmEngine
    seed: int
    node: _Node | None = None
    calls: int = 0
    since: int = -1

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        """Continues `prompt.ids`, across updates of the weights.

        Raises `ContextFull` when the prompt leaves no room, else `EngineError`.
        """
        room = self.engine.room - len(prompt.ids)
        if not prompt.ids:
            raise EngineError("an empty prompt; give at least one id")
        if room < 1:
            raise ContextFull(
                f"a prompt of {len(prompt.ids)} ids leaves nothing to sample in the "
                f"{self.engine.room} positions that vLLM was given"
            )
        if sampling.max_tokens < 1 or sampling.temperature < 0:
            raise ConfigError(f"cannot sample with {sampling}: max_tokens >= 1, temperature >= 0")
        if self.node is None:
            self.node = self.engine.seat()
        limit = int(min(sampling.max_tokens, room))
        ids: Ids = ()
        logprobs: tuple[float, ...] = ()
        versions: Ids = ()
        finish: Finish | None = None
        while finish is None:
            rest = replace(sampling, max_tokens=limit - len(ids))
            seed = derive_seed(self.seed, "vllm", self.calls)
            self.calls += 1
            asked = prompt.ids + ids
            said, version = await self.engine.complete(self.node, asked, rest, seed, self.since)
            self.since = self.engine.restarts
            ids, logprobs = ids + said.ids, logprobs + said.logprobs
            versions += (version,) * len(said.ids)
            finish = said.finish or (Finish.LENGTH if len(ids) >= limit else None)
        mixed = len(set(versions)) > 1
        last = versions[-1] if versions else self.engine.version
        return Completion(ids, logprobs, last, finish, versions=versions if mixed else ())

    def close(self) -> None:
        """Leaves its server."""
        if self.node is not None:
            self.node.sessions -= 1
            self.node = None


async def _each(calls: Iterable[Awaitable[None]]) -> None:
    """All servers at once; the first failure counts."""
    await asyncio.gather(*calls)


def vllm(
    trainee: Trainee,
    *,
    url: str | list[str] | None = None,
    weights: str | None = None,
    python: str | None = None,
    gpus: str | int | None = None,
    gpu_memory_utilization: float | None = None,
    kv_cache_gib: int | None = None,
    tensor_parallel: int | None = None,
    max_model_len: int | None = None,
    eager: bool | None = None,
    colocated: bool = False,
    sleep: bool = False,
    args: list[str] | None = None,
    env: dict[str, str] | None = None,
    tolerance: float | None = None,
    timeout: float = 300.0,
    start_seconds: float = 900.0,
    restarts: int = 3,
    transfer: Literal["files", "gloo", "nccl", "memory"] = "files",
) -> Engine:
    """`[engine] use = "vllm"`, see docs/engines.md. Raises `ConfigError` if vLLM is missing."""
    options = Options(
        url,
        weights,
        python,
        gpus,
        gpu_memory_utilization,
        kv_cache_gib,
        tensor_parallel,
        max_model_len,
        eager,
        colocated,
        sleep,
        args,
        env,
        tolerance,
        timeout,
        start_seconds,
        restarts,
        transfer,
    )
    options.check(trainee)
    return VllmEngine(trainee, options)
