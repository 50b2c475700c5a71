"""One episode's environment behind a wall-clock budget: in a thread, a killable process, or inline.

A thread that hangs is abandoned (it is a daemon and keeps nothing alive); a process that hangs is
killed. Either way the caller gets `EnvTimeout` on time and every other episode is untouched.
"""

from __future__ import annotations

import asyncio
import pickle
import queue
import struct
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from foldgym.errors import (
    Bug,
    EngineError,
    EnvCrashed,
    EnvTimeout,
    Failure,
    SandboxError,
    UnknownName,
    UserError,
)
from foldgym.seeding import generator
from foldgym.types import Action, EnvHandle, Evidence, Json, Message, Opening, Step, Tool

if TYPE_CHECKING:
    import socket

    from foldgym.envs.base import Env
    from foldgym.envs.nursery import Child

Isolation = Literal["thread", "process", "inline"]
_FAILURES = (SandboxError, EngineError, EnvTimeout, EnvCrashed, Failure)
_SIZE = struct.Struct(">Q")


def open_worker(
    make: Callable[[], Env], isolation: Isolation = "thread", budget: float = 30.0
) -> EnvHandle:
    """A handle on a new environment; nothing is made before the first `reset`.

    `budget` is in seconds of wall clock for each call (making the environment counts as one).
    `isolation` is "thread" (tens of microseconds a call), "process" (a hung or dying environment is
    killed; `make` must be picklable, see `registry.maker`), or "inline" (the caller's own thread:
    for fast, trusted worlds; no budget can be kept).

    Calls raise `EnvTimeout` or `EnvCrashed`, the latter with the environment's traceback in its
    notes; `UserError`, `Bug` and a `Failure`, such as a sandbox that went, come through as such.
    After any of them, or after a call was cancelled, the handle is dead and only `close` may
    follow.
    """
    if isolation == "thread":
        return _Threaded(make, budget)
    if isolation == "process":
        return _Separate(make, budget)
    if isolation == "inline":
        return _Inline(make, budget)
    raise UnknownName("isolation", isolation, ("thread", "process", "inline"))


@dataclass(slots=True)
class Resident:
    """The worker's side: holds the environment and does what is asked of it."""

    make: Callable[[], Env]
    env: Env | None = None

    def do(self, verb: str, *arguments: Any) -> Any:
        """Run one of the verbs below."""
        return getattr(self, verb)(*arguments)

    def open(self) -> None:
        """Make the environment, once."""
        if self.env is None:
            self.env = self.make()

    def _attribute(self, name: str) -> Any:
        if self.env is None:
            raise UserError(f"{name} was asked of an environment before its reset")
        return self.env.get_wrapper_attr(name)

    def reset(self, seed: int, options: Mapping[str, Json]) -> Opening:
        """Begin an episode. Tools come without their functions: those stay where the env is."""
        self._attribute("reset")(seed=seed, options=dict(options))
        tools = tuple(
            Tool(each.name, each.description, each.parameters, None, each.concurrent)
            for each in self._attribute("tools")
        )
        return Opening(self._attribute("task"), tools)

    def step(self, action: Message) -> Step:
        """Play one message."""
        observation, reward, terminated, truncated, info = self._attribute("step")(action)
        return Step(observation, float(reward), bool(terminated), bool(truncated), info)

    def expert(self, style: str, seed: int) -> Action:
        """What the scripted player would do now."""
        return self._attribute("expert")(style, generator(seed, "expert"))

    def measure(self) -> dict[str, Json]:
        """Facts about the episode so far."""
        return self._attribute("measure")()

    def evidence(self) -> tuple[Evidence, ...]:
        """What a player should remember."""
        return tuple(self._attribute("evidence")())

    def close(self) -> None:
        """Close the environment if there is one."""
        env, self.env = self.env, None
        if env is not None:
            env.close()


@dataclass(slots=True)
class Outcome:
    """What a verb brought: a value, or an exception in words that cross a process border."""

    value: Any = None
    blame: Literal["", "user", "bug", "env", "ours"] = ""
    failure: type[Failure] = EnvCrashed
    said: str = ""
    trace: str = ""
    cause: BaseException | None = None

    def unwrap(self) -> Any:
        """The value; raises what went wrong."""
        if not self.blame:
            return self.value
        if self.blame == "user":
            raise UserError(self.said) from self.cause
        if self.blame == "bug":
            raise Bug(self.said) from self.cause
        crash = self.failure(self.said)
        crash.add_note(self.trace)
        raise crash from self.cause


def attempt(resident: Resident, verb: str, arguments: tuple[Any, ...]) -> Outcome:
    """Run a verb; whatever it raises, even SystemExit, becomes part of the outcome."""
    try:
        return Outcome(resident.do(verb, *arguments))
    except UserError as problem:
        return Outcome(blame="user", said=str(problem), cause=problem)
    except Bug as problem:
        return Outcome(blame="bug", said=str(problem), cause=problem)
    except Failure as problem:
        kind = next(each for each in type(problem).__mro__ if each in _FAILURES)
        return Outcome(None, "ours", kind, str(problem), traceback.format_exc(), problem)
    except BaseException as problem:
        said = " ".join(f"{verb} raised {type(problem).__name__}: {problem}".split())
        return Outcome(blame="env", said=said[:500], trace=traceback.format_exc(), cause=problem)


@dataclass(slots=True)
class _Handle:
    """What the three kinds share: verbs, and staying dead once something went wrong."""

    make: Callable[[], Env]
    budget: float
    dead: str = field(default="", init=False)
    opened: bool = field(default=False, init=False)

    async def reset(self, seed: int, options: Mapping[str, Json]) -> Opening:
        if not self.opened:
            await self._call("open")
            self.opened = True
        return await self._call("reset", seed, dict(options))

    async def step(self, action: Message) -> Step:
        return await self._call("step", action)

    async def expert(self, style: str, seed: int) -> Action:
        return await self._call("expert", style, seed)

    async def measure(self) -> dict[str, Json]:
        return await self._call("measure")

    async def evidence(self) -> tuple[Evidence, ...]:
        return await self._call("evidence")

    async def close(self) -> None:
        raise NotImplementedError

    async def _call(self, verb: str, *arguments: Any) -> Any:
        if self.dead:
            raise EnvCrashed(f"{verb} on a dead environment: {self.dead}")
        self.dead = f"{verb} was cancelled, or still runs"  # unless it returns below
        try:
            outcome = await self._ask(verb, arguments)
        except TimeoutError:
            self.dead = f"{verb} took longer than {self.budget:g} s"
            raise EnvTimeout(self.dead) from None
        except Exception as problem:
            self.dead = str(problem)
            raise
        self.dead = outcome.said if outcome.blame else ""
        return outcome.unwrap()

    async def _ask(self, verb: str, arguments: tuple[Any, ...]) -> Outcome:
        raise NotImplementedError


# ---------------------------------------------------------------- inline


@dataclass(slots=True)
class _Inline(_Handle):
    resident: Resident | None = field(default=None, init=False)

    async def _ask(self, verb: str, arguments: tuple[Any, ...]) -> Outcome:
        if self.resident is None:
            self.resident = Resident(self.make)
        return attempt(self.resident, verb, arguments)

    async def close(self) -> None:
        resident, self.resident = self.resident, None
        self.dead = self.dead or "closed"
        if resident is not None:
            attempt(resident, "close", ())


# ---------------------------------------------------------------- thread

_Job = tuple["asyncio.Future[Outcome]", asyncio.AbstractEventLoop, str, tuple[Any, ...]]


@dataclass(slots=True)
class _Threaded(_Handle):
    jobs: queue.SimpleQueue[_Job | None] | None = field(default=None, init=False)

    async def _ask(self, verb: str, arguments: tuple[Any, ...]) -> Outcome:
        if self.jobs is None:
            self.jobs = queue.SimpleQueue()
            thread = threading.Thread(
                target=_serve, args=(self.make, self.jobs), name="foldgym-env", daemon=True
            )
            thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        timer = loop.call_later(self.budget, _expire, future)
        self.jobs.put((future, loop, verb, arguments))
        try:
            return await future
        finally:
            timer.cancel()

    async def close(self) -> None:
        """An idle environment is closed before this returns; a busy one when its call comes back.

        Nobody waits for a busy one: it may hang for ever.
        """
        jobs, self.jobs = self.jobs, None
        alive, self.dead = not self.dead, self.dead or "closed"
        if jobs is None:
            return
        if alive:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[Outcome] = loop.create_future()
            timer = loop.call_later(self.budget, _settle, future, Outcome())
            jobs.put((future, loop, "close", ()))
            jobs.put(None)
            try:
                await future
            finally:
                timer.cancel()
        else:
            jobs.put(None)

    def __del__(self) -> None:
        if self.jobs is not None:
            self.jobs.put(None)  # forgotten without close(): let the thread end


def _serve(make: Callable[[], Env], jobs: queue.SimpleQueue[_Job | None]) -> None:
    """The life of an environment's thread."""
    resident = Resident(make)
    while (job := jobs.get()) is not None:
        future, loop, verb, arguments = job
        outcome = attempt(resident, verb, arguments)
        try:
            loop.call_soon_threadsafe(_settle, future, outcome)
        except RuntimeError:  # the loop is closed: nobody waits any more
            break
        del job, future, loop, arguments, outcome
    attempt(resident, "close", ())


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


def _expire(future: asyncio.Future[Outcome]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


# ---------------------------------------------------------------- process


@dataclass(slots=True)
class _Separate(_Handle):
    child: Child | None = field(default=None, init=False)

    async def _ask(self, verb: str, arguments: tuple[Any, ...]) -> Outcome:
        from foldgym.envs.nursery import spawn

        try:
            async with asyncio.timeout(self.budget):
                if self.child is None:
                    self.child = spawn()
                    await _send(self.child.socket, self._make_bytes())
                await _send(self.child.socket, pickle.dumps((verb, arguments)))
                answer = await _receive(self.child.socket)
        except BaseException as problem:
            self._kill()
            if isinstance(problem, EOFError | OSError) and not isinstance(problem, TimeoutError):
                raise EnvCrashed(f"{verb}: the environment's process died") from problem
            raise
        try:
            return cast("Outcome", pickle.loads(answer))
        except Exception as problem:
            raise EnvCrashed(f"{verb}: its result cannot be unpickled: {problem}") from problem

    def _make_bytes(self) -> bytes:
        try:
            return pickle.dumps(self.make)
        except Exception as problem:
            raise UserError(
                f"isolation='process' needs an environment that can be pickled by name, and "
                f"{self.make!r} cannot be: register it, or give 'path/to/file.py:Class'"
            ) from problem

    def _kill(self) -> None:
        child, self.child = self.child, None
        if child is not None:
            child.kill()

    async def close(self) -> None:
        """Close the environment within the budget, then end its process in any case."""
        alive, self.dead = not self.dead, self.dead or "closed"
        try:
            if alive and self.child is not None:
                await self._ask("close", ())
        except (TimeoutError, EnvCrashed):
            pass  # it is killed below, and there is nothing left to lose
        finally:
            self._kill()


async def _send(link: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(link, _SIZE.pack(len(data)) + data)


async def _receive(link: socket.socket) -> bytes:
    (size,) = _SIZE.unpack(await _exactly(link, _SIZE.size))
    return await _exactly(link, size)


async def _exactly(link: socket.socket, size: int) -> bytes:
    loop, parts = asyncio.get_running_loop(), bytearray()
    while len(parts) < size:
        data = await loop.sock_recv(link, min(size - len(parts), 1 << 20))
        if not data:
            raise EOFError
        parts += data
    return bytes(parts)


def live(link: socket.socket) -> None:
    """The life of an environment's process: read verbs until the other side hangs up."""
    stream = link.makefile("rwb")

    def read() -> Any:
        (size,) = _SIZE.unpack(stream.read(_SIZE.size) or b"\0" * _SIZE.size)
        return pickle.loads(stream.read(size)) if size else None

    make: Any = None
    try:
        make = read()
    except BaseException as problem:
        lost = Outcome(blame="env", said=f"the environment could not be unpickled: {problem!r}")
        make = lost
    if make is None:
        return
    resident = Resident(make)
    while (job := read()) is not None:
        verb, arguments = job
        if isinstance(make, Outcome):
            outcome = make
        else:
            outcome = replace(attempt(resident, verb, arguments), cause=None)
        try:
            data = pickle.dumps(outcome)
        except Exception as problem:
            data = pickle.dumps(
                Outcome(blame="env", said=f"{verb} returned what cannot be pickled: {problem!r}")
            )
        stream.write(_SIZE.pack(len(data)) + data)
        stream.flush()
    attempt(resident, "close", ())
