"""Workers: budgets, crashes, cancellation, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from foldgym.envs.base import Env
from foldgym.envs.registry import EnvSpec, Maker
from foldgym.envs.worker import Isolation, open_worker
from foldgym.errors import EnvCrashed, EnvTimeout, SandboxError, UnknownName, UserError
from foldgym.tools import call
from foldgym.types import EnvHandle, Message

WORLDS = Path(__file__).with_name("worlds.py")
ALL: tuple[Isolation, ...] = ("inline", "thread", "process")
APART: tuple[Isolation, ...] = ("thread", "process")


def odd(how: str = "well", **more: object) -> Maker:
    return Maker(EnvSpec("me/Odd-v0", f"{WORLDS}:Odd"), {"how": how, **more})


def gone(process: int, patience: float = 60.0) -> bool:
    """Whether a process ends (a zombie has ended)."""
    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):  # before it is opened, or after
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    """Start the server for processes before any test counts seconds."""

    async def once() -> None:
        handle = open_worker(odd(), "process", 60.0)
        await handle.reset(0, {})
        await handle.close()

    asyncio.run(once())


@pytest.mark.parametrize("isolation", ALL)
def test_an_episode(isolation: Isolation) -> None:
    async def play() -> None:
        handle = open_worker(Maker(EnvSpec("me/C-v0", f"{WORLDS}:Counter"), {}), isolation, 20.0)
        opening = await handle.reset(0, {"episode": 2})
        assert opening.task.prompt[0].text == f"Count to {opening.task.answer}."
        assert [each.name for each in opening.tools] == ["add", "peek"]
        assert all(each.run is None for each in opening.tools)
        step = await handle.step(call("add", amount=opening.task.answer))
        assert step.terminated
        assert (await handle.measure())["score"] == 1.0
        again = await handle.reset(0, {"episode": 2})
        assert again == opening
        await handle.close()
        await handle.close()
        with pytest.raises(EnvCrashed, match="closed"):
            await handle.measure()

    asyncio.run(play())


@pytest.mark.parametrize("isolation", ALL)
def test_the_same_seed_is_the_same_expert(isolation: Isolation) -> None:
    async def play() -> list[str]:
        make = Maker(EnvSpec("me/G-v0", "foldgym.envs.games:GuessNumber"), {})
        handle = open_worker(make, isolation, 20.0)
        await handle.reset(5, {})
        acts = [await handle.expert("hasty", seed) for seed in range(5)]
        said = [act.tool_calls[0].arguments for act in acts if isinstance(act, Message)]
        assert len(said) == 5
        with pytest.raises(UserError, match="unknown expert 'perfect'"):
            await handle.expert("perfect", 0)
        await handle.close()
        return said

    assert asyncio.run(play()) == [f'{{"number": {n}}}' for n in HASTY]


def _hasty() -> list[int]:
    from foldgym.envs.games import GuessNumber
    from foldgym.seeding import generator

    env = GuessNumber()
    env.reset(seed=5)
    return [generator(seed, "expert").randint(1, 100) for seed in range(5)]


HASTY = _hasty()


@pytest.mark.parametrize("isolation", ALL)
@pytest.mark.parametrize(
    ("how", "said"),
    [("raise", "step raised RuntimeError: boom"), ("exit", "step raised SystemExit: 3")],
)
def test_a_crash_is_typed_and_final(isolation: Isolation, how: str, said: str) -> None:
    async def play() -> None:
        handle = open_worker(odd(how), isolation, 20.0)
        await handle.reset(0, {})
        with pytest.raises(EnvCrashed, match=said) as caught:
            await handle.step(call("go"))
        assert "worlds.py" in caught.value.__notes__[0]
        assert "in go" in caught.value.__notes__[0]
        with pytest.raises(EnvCrashed, match="dead environment: " + said):
            await handle.measure()
        await handle.close()

    asyncio.run(play())


@pytest.mark.parametrize("isolation", ALL)
def test_a_failure_of_ours_stays_what_it_is(isolation: Isolation) -> None:
    async def play() -> None:
        handle = open_worker(odd("lose the box"), isolation, 20.0)
        await handle.reset(0, {})
        with pytest.raises(SandboxError, match="box 7") as caught:
            await handle.step(call("go"))
        assert str(caught.value) == "box 7 is gone"
        assert "in go" in caught.value.__notes__[0]
        with pytest.raises(EnvCrashed, match="dead environment: box 7 is gone"):
            await handle.measure()
        await handle.close()

    asyncio.run(play())


@pytest.mark.parametrize("isolation", APART)
@pytest.mark.parametrize("how", ["hang", "hang at birth"])
def test_a_hang_is_cut_off_in_time(isolation: Isolation, how: str) -> None:
    async def play() -> None:
        handle: Any = open_worker(odd(how), isolation, 60.0)
        if how == "hang":
            await handle.reset(0, {})
            working = handle.step(call("go"))
        else:
            working = handle.reset(0, {})
        handle.budget = 1.0  # only what hangs has so little time
        with pytest.raises(EnvTimeout, match="took longer than 1 s"):
            await working
        with pytest.raises(EnvCrashed, match="dead environment"):
            await handle.measure()
        await handle.close()

    asyncio.run(asyncio.wait_for(play(), 50.0))


def test_a_process_that_dies_is_a_crash() -> None:
    async def play() -> None:
        handle = open_worker(odd("die"), "process", 20.0)
        await handle.reset(0, {})
        with pytest.raises(EnvCrashed, match="process died"):
            await handle.step(call("go"))
        await handle.close()

    asyncio.run(play())


def test_what_cannot_cross_is_said() -> None:
    async def play() -> None:
        handle = open_worker(lambda: odd()(), "process", 20.0)
        with pytest.raises(UserError, match="register it"):
            await handle.reset(0, {})
        await handle.close()

    asyncio.run(play())


def test_unknown_isolation() -> None:
    with pytest.raises(UnknownName, match="did you mean 'thread'"):
        open_worker(odd(), "threads")  # type: ignore[arg-type]


def test_a_killed_process_takes_its_offspring_along() -> None:
    async def play() -> list[int]:
        handle = open_worker(odd("offspring"), "process", 20.0)
        await handle.reset(0, {})
        step = await handle.step(call("go"))
        await handle.close()
        return [int(each) for each in step.observation[0].text.split()]

    process, child = asyncio.run(play())
    assert gone(process)
    assert gone(child)


@pytest.mark.parametrize("isolation", APART)
def test_cancelled_calls_leave_nothing_half_done(isolation: Isolation) -> None:
    async def play() -> None:
        handle = open_worker(odd("hang"), isolation, 300.0)
        await handle.reset(0, {})
        task = asyncio.create_task(handle.step(call("go")))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(EnvCrashed, match="cancelled"):
            await handle.measure()
        await handle.close()

    asyncio.run(asyncio.wait_for(play(), 50.0))


def test_threads_end_with_their_handles() -> None:
    async def play() -> None:
        handles = [open_worker(odd(), "thread", 60.0) for _ in range(4)]
        await asyncio.gather(*(handle.reset(0, {}) for handle in handles))
        assert len(_threads() - before) == 4
        await handles[0].close()
        del handles  # the others were forgotten

    before = _threads()
    asyncio.run(play())
    until = time.monotonic() + 60
    while _threads() - before and time.monotonic() < until:
        time.sleep(0.01)
    assert not _threads() - before


def _threads() -> set[threading.Thread]:
    """The environments' threads; an earlier test's that hangs may be among them."""
    return {thread for thread in threading.enumerate() if thread.name == "foldgym-env"}


@pytest.mark.parametrize("isolation", APART)
def test_one_hangs_one_raises_fourteen_play(isolation: Isolation) -> None:
    async def one(how: str) -> str:
        budget = 2.0 if how == "hang" else 120.0  # that the others play on is no matter of seconds
        handle: EnvHandle = open_worker(odd(how), isolation, budget)
        try:
            await handle.reset(0, {})
            await handle.step(call("go"))
            await handle.step(call("stop"))
            return str((await handle.measure())["went"])
        except (EnvTimeout, EnvCrashed) as failure:
            return type(failure).__name__
        finally:
            await handle.close()

    async def play() -> list[str]:
        return await asyncio.gather(*(one(how) for how in ["hang", "raise", *["well"] * 14]))

    assert asyncio.run(play()) == ["EnvTimeout", "EnvCrashed", *["well"] * 14]


@pytest.mark.parametrize("isolation", APART)
@pytest.mark.parametrize("ending", ["return", "os.kill(os.getpid(), 9)"])
def test_a_hung_environment_keeps_no_program_alive(isolation: str, ending: str) -> None:
    """The script has no main guard: children must not run it again."""
    code = f"""
    import asyncio, os
    from foldgym.envs.registry import EnvSpec, Maker
    from foldgym.envs.worker import open_worker
    from foldgym.tools import call

    async def play():
        spec = EnvSpec("me/Odd-v0", {str(WORLDS) + ":Odd"!r})
        make = Maker(spec, {{"how": "hang", "seconds": 600}})
        handle = open_worker(make, {isolation!r}, 60.0)
        other = open_worker(make, {isolation!r}, 300.0)
        await other.reset(0, {{}})
        waiting = asyncio.create_task(other.step(call("go")))
        await handle.reset(0, {{}})
        handle.budget = 1.0
        try:
            await handle.step(call("go"))
        except Exception as failure:
            print(type(failure).__name__, flush=True)
        {ending}

    asyncio.run(play())
    """
    script = Path(os.environ.get("TMPDIR", "/tmp")) / f"foldgym-hang-{os.getpid()}.py"
    script.write_text(textwrap.dedent(code))
    group = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        # end of file comes when nobody holds the pipe any more: neither program, server nor child
        said, _ = group.communicate(timeout=120)
        assert said.strip() == "EnvTimeout"
    finally:
        group.kill()
        script.unlink()


def test_calls_do_not_wait_for_each_other() -> None:
    """Four environments in one call meet at a barrier, which breaks unless all are there."""
    barrier = threading.Barrier(4, timeout=120)

    class Meeting(Env):
        def reset(self, **_: object) -> None:  # type: ignore[override]
            self.task = None  # type: ignore[assignment]
            barrier.wait()

    async def play() -> None:
        make: Callable[[], Env] = Meeting
        handles = [open_worker(make, "thread", 120.0) for _ in range(4)]
        await asyncio.gather(*(each.reset(0, {}) for each in handles))
        for each in handles:
            await each.close()

    asyncio.run(play())
