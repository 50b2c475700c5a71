"""What the vLLM engine does with a server that answers, dies, hangs, or has other weights.

The server is a double (tests/support/vllm_double.py); `test_vllm.py` plays with vLLM itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import vllm_double
from uniform import EVEN, Uniform, engine_of
from vllm_double import LONG, STOP

from foldgym.agents.engines.vllm import VllmEngine
from foldgym.errors import ConfigError, ContextFull, EngineDown, EngineError, WeightsDiffer
from foldgym.types import Completion, Finish, Prompt, Sampling


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A program that the engine takes for an interpreter with vLLM."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec {sys.executable} {vllm_double.__file__} "$@"\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def with_engine(
    tmp_path: Path,
    python: str,
    act: Callable[[VllmEngine, Uniform], Awaitable[Any]],
    **options: Any,
) -> Any:
    """What `act` returns; afterwards nothing of the server may be left."""
    trained = Uniform()
    engine = engine_of(trained, tmp_path / "run", python=python, **options)

    async def live() -> Any:
        await engine.start()
        try:
            return await act(engine, trained)
        finally:
            await engine.stop()

    try:
        return asyncio.run(live())
    finally:
        assert not any(map(alive, processes(tmp_path / "run")))
        assert not (tmp_path / "run" / "weights").exists()


def processes(folder: Path) -> list[int]:
    """Ids of all that servers with logs in a folder started."""
    logs = "\n".join(log.read_text() for log in folder.glob("vllm-*.log"))
    lines = [line.split()[1:] for line in logs.splitlines() if line.startswith("pids")]
    assert lines
    return [int(each) for line in lines for each in line]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


async def ill(engine: VllmEngine, what: str) -> None:
    async with httpx.AsyncClient(base_url=engine.nodes[0].client.url, timeout=60) as http:
        try:
            await http.post("/double", json={"ill": what})
        except httpx.HTTPError:
            assert what == "dead"


async def busy(engine: VllmEngine, completions: int) -> None:
    """Until so many completions are, or were, under way."""
    async with httpx.AsyncClient(base_url=engine.nodes[0].client.url, timeout=60) as http:
        while (await http.get("/busy")).json() < completions:
            await asyncio.sleep(0.01)


async def say(engine: VllmEngine, seed: int = 0, **sampling: Any) -> Completion:
    session = engine.sampler.open(seed, None)  # pyright: ignore[reportArgumentType]
    try:
        return await session.sample(Prompt((1, 2, 3)), Sampling(**sampling))
    finally:
        session.close()


def test_ids_come_back_with_log_probs_version_and_the_reason_of_their_end(tmp_path, python):
    async def act(engine: VllmEngine, trained: Uniform) -> None:
        short = await say(engine, max_tokens=5)
        assert (len(short.ids), short.finish, short.version) == (5, Finish.LENGTH, 0)
        assert short.logprobs == pytest.approx([EVEN] * 5)
        whole = await say(engine, max_tokens=60)
        assert (len(whole.ids), whole.ids[-1], whole.finish) == (LONG, STOP, Finish.STOP)
        marked = await say(engine, max_tokens=60, stops=("<f>",))
        assert (len(marked.ids), marked.finish) == (3, Finish.MARKER)
        greedy = await say(engine, max_tokens=2, temperature=0.0)
        assert greedy.logprobs == (0.0, 0.0)  # it was certain
        assert (await say(engine, 1, max_tokens=5)).ids == (await say(engine, 1, max_tokens=5)).ids
        assert engine.sampler.logprobs((1,), (2, 3)) == (EVEN, EVEN)

    with_engine(tmp_path, python, act)


def test_a_session_draws_another_seed_for_every_call(tmp_path, python):
    async def act(engine: VllmEngine, trained: Uniform) -> set[Any]:
        session = engine.sampler.open(4, None)  # pyright: ignore[reportArgumentType]
        said = [await session.sample(Prompt((1,)), Sampling(max_tokens=3)) for _ in range(12)]
        session.close()
        return {each.ids for each in said}

    assert len(with_engine(tmp_path, python, act)) > 1


def test_a_prompt_that_leaves_no_room_is_the_end_of_an_episode(tmp_path, python):
    """The server was given 120 positions, fewer than the model has."""

    async def act(engine: VllmEngine, trained: Uniform) -> None:
        session = engine.sampler.open(0, None)  # pyright: ignore[reportArgumentType]
        said = await session.sample(Prompt((1,) * 117), Sampling(max_tokens=50))
        assert len(said.ids) == 3
        with pytest.raises(ContextFull, match="a prompt of 120 ids leaves nothing to sample"):
            await session.sample(Prompt((1,) * 120), Sampling(max_tokens=50))
        with pytest.raises(EngineError, match="an empty prompt"):
            await session.sample(Prompt(()), Sampling(max_tokens=50))

    with_engine(tmp_path, python, act)


def test_an_update_in_the_middle_of_completions_shows_in_the_versions_of_their_ids(
    tmp_path, python
):
    async def act(engine: VllmEngine, trained: Uniform) -> list[Completion]:
        await ill(engine, "halting")
        talks = [asyncio.create_task(say(engine, n, max_tokens=60)) for n in range(20)]
        await busy(engine, 20)
        for shift in (0.5, 0.25):
            await asyncio.sleep(0.05)
            trained.update(shift)
            numbers = await engine.publish()
            assert numbers["push_gap_max"] < 1e-9
        await ill(engine, "")
        return await asyncio.gather(*talks)

    said = with_engine(tmp_path, python, act)
    shifts = {0: 0.0, 1: 0.5, 2: 0.25}
    assert any(each.versions for each in said)
    for each in said:
        versions = each.versions or (each.version,) * len(each.ids)
        assert each.logprobs == pytest.approx([EVEN - shifts[version] for version in versions])
        assert list(versions) == sorted(versions)
        assert each.version == versions[-1]
        assert len(each.ids) == 60 or each.ids[-1] == STOP


def test_nothing_is_pushed_where_nothing_changed(tmp_path, python):
    async def act(engine: VllmEngine, trained: Uniform) -> list[str]:
        assert await engine.publish() == await engine.publish()
        trained.update(0.1)
        await engine.publish()
        async with httpx.AsyncClient(base_url=engine.nodes[0].client.url) as http:
            return (await http.get("/went")).json()

    calls = ["/pause?mode=abort", "/collective_rpc", "/reset_prefix_cache", "/resume"]
    assert with_engine(tmp_path, python, act) == calls


def test_weights_are_sent_without_files_also_to_a_server_that_is_started_again(tmp_path, python):
    """The double takes them by the very receiver that vLLM's workers have."""

    async def act(engine: VllmEngine, trained: Uniform) -> None:
        file = tmp_path / "run" / "weights" / "shift.json"
        for shift in (0.5, 0.25):
            trained.update(shift)
            assert (await engine.publish())["push_gap_max"] < 1e-9
            assert (await say(engine, max_tokens=1)).logprobs == pytest.approx([EVEN - shift])
            assert json.loads(file.read_text()) == 0.0
        await ill(engine, "dead")
        with pytest.raises(EngineError, match="out of reach"):
            await say(engine)
        again = await say(engine, max_tokens=1)
        assert (again.version, again.logprobs) == (2, pytest.approx([EVEN - 0.25]))
        trained.update(0.125)
        assert (await engine.publish())["engine_restarts"] == 1
        assert (await say(engine, max_tokens=1)).logprobs == pytest.approx([EVEN - 0.125])
        assert json.loads(file.read_text()) == 0.25  # what the second one began with

    with_engine(tmp_path, python, act, transfer="gloo")


def test_a_model_whose_checkpoint_has_other_names_goes_through_files(tmp_path, python):
    trained = Uniform()
    engine = engine_of(trained, tmp_path / "run", python=python, transfer="gloo")
    engine.trainee = engine._push.trainee = replace(engine.trainee, tensors=dict)
    with pytest.raises(ConfigError, match=r"engine\.transfer: .* has 'shift', and the model in"):
        asyncio.run(engine.start())
    assert not (tmp_path / "run" / "weights").exists()


def test_memory_is_lent_while_the_learner_works(tmp_path, python):
    async def act(engine: VllmEngine, trained: Uniform) -> list[str]:
        await engine.rest()
        await engine.publish()  # an update that was skipped
        assert len((await say(engine, max_tokens=5)).ids) == 5
        async with httpx.AsyncClient(base_url=engine.nodes[0].client.url) as http:
            return (await http.get("/went")).json()

    assert with_engine(tmp_path, python, act, sleep=True) == [
        "/sleep?level=2",
        "/wake_up?tags=weights",
        "/collective_rpc",
        "/reset_prefix_cache",
        "/wake_up?tags=kv_cache",
        "/resume",
    ]


def test_a_server_that_keeps_the_old_weights_is_found_out(tmp_path, python):
    async def act(engine: VllmEngine, trained: Uniform) -> None:
        await ill(engine, "stale")
        trained.update(1e-4)  # less than the tolerance
        with pytest.raises(WeightsDiffer, match="still has the weights of before"):
            await engine.publish()
        with pytest.raises(EngineDown, match="still has the weights of before"):
            await say(engine)  # and nobody waits for ever
        trained.update(0.3)

    with_engine(tmp_path, python, act)


def test_other_weights_than_are_trained_stop_the_run_with_the_number(tmp_path, python):
    async def act(engine: VllmEngine, trained: Uniform) -> None:
        await ill(engine, "stale")
        trained.update(0.25)
        with pytest.raises(WeightsDiffer, match=r"differ by 0\.25 on average over 63 ids"):
            await engine.publish()

    with_engine(tmp_path, python, act)


@pytest.mark.parametrize("illness", ["dead", "failing", "deaf"])
def test_a_server_that_fails_is_started_again_with_the_weights_that_were_pushed(
    tmp_path, python, illness, monkeypatch
):
    async def act(engine: VllmEngine, trained: Uniform) -> None:
        trained.update(0.5)
        await engine.publish()
        trained.update(0.75)  # not pushed yet
        await ill(engine, "endless" if illness == "dead" else illness)
        if illness == "deaf":
            engine.nodes[
                0
            ].client.seconds = 1.0  # which is enough for nobody else on a busy machine
            monkeypatch.setattr("foldgym.agents.engines.vllm._ALIVE_SECONDS", 1.0)
        talks = [asyncio.create_task(say(engine, n, max_tokens=60)) for n in range(4)]
        if illness == "dead":
            await busy(engine, 4)
            await ill(engine, "dead")
        ended = await asyncio.gather(*talks, return_exceptions=True)
        assert all(isinstance(each, EngineError) for each in ended)
        again = await say(engine, max_tokens=5)
        assert again.version == 1
        assert again.logprobs == pytest.approx([EVEN - 0.5] * 5)
        assert engine.restarts == 1
        assert (await engine.publish())["engine_restarts"] == 1
        assert (await say(engine, max_tokens=1)).logprobs == pytest.approx([EVEN - 0.75])

    with_engine(tmp_path, python, act)


def test_an_episode_that_saw_a_restart_is_played_again(tmp_path, python):
    """Its clock ran while the server was down: a limit on seconds might end it, and be scored."""

    async def act(engine: VllmEngine, trained: Uniform) -> None:
        session = engine.sampler.open(0, None)  # pyright: ignore[reportArgumentType]
        await session.sample(Prompt((1,)), Sampling(max_tokens=1))
        await ill(engine, "dead")
        with pytest.raises(EngineError, match="out of reach"):
            await say(engine)
        with pytest.raises(EngineError, match="started again in the middle of the episode"):
            await session.sample(Prompt((1,)), Sampling(max_tokens=1))
        assert len((await say(engine, max_tokens=3)).ids) == 3

    with_engine(tmp_path, python, act)


def test_a_push_to_a_dead_server_starts_one_with_the_new_weights(tmp_path, python, capsys):
    async def act(engine: VllmEngine, trained: Uniform) -> None:
        await ill(engine, "dead")
        trained.update(0.5)
        assert (await engine.publish())["engine_restarts"] == 1
        assert (await say(engine, max_tokens=1)).logprobs == pytest.approx([EVEN - 0.5])
        url = engine.nodes[0].client.url.rsplit(":", 1)[0]
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(url)
        assert line.endswith("it is started again (1 of at most 3 times)")

    with_engine(tmp_path, python, act)


def test_a_server_of_the_users_has_its_time_to_come_back(tmp_path, python, capsys):
    host = engine_of(Uniform(), tmp_path / "host", python=python)

    async def live() -> None:
        await host.start()
        url = host.nodes[0].client.url
        trained = Uniform()
        engine = engine_of(trained, tmp_path / "run", url=url, start_seconds=1)
        try:
            await engine.start()
            await host.stop()
            with pytest.raises(EngineDown, match=r"it did not come back: .* is out of reach"):
                await say(engine)
        finally:
            await engine.stop()
            await host.stop()

    asyncio.run(live())
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("it has 1 seconds to come back (1 of at most 3 times)")


def test_a_server_that_fails_too_often_ends_the_run(tmp_path, python):
    async def act(engine: VllmEngine, trained: Uniform) -> None:
        await ill(engine, "dead")
        with pytest.raises(EngineDown, match=r"vLLM failed 1 times, and engine\.restarts is 0"):
            await say(engine)
        with pytest.raises(EngineDown):
            await say(engine)

    with_engine(tmp_path, python, act, restarts=0)


def test_vllm_in_this_process_is_not_started_again_and_says_what_failed(tmp_path, python):
    """The double stands for it: nothing else is asked of either."""

    async def act(engine: VllmEngine, trained: Uniform) -> None:
        engine.options = replace(engine.options, colocated=True)
        await ill(engine, "failing")
        with pytest.raises(EngineDown, match=r"500 EngineCore is dead; vLLM cannot be started"):
            await say(engine)
        assert engine.restarts == 0
        with pytest.raises(EngineDown, match="cannot be started again in the process"):
            await say(engine)

    with_engine(tmp_path, python, act)


def test_a_server_that_does_not_start_says_why(tmp_path, python):
    engine = engine_of(Uniform(), tmp_path / "run", python=python, args=["--crash"])
    with pytest.raises(EngineDown, match=r"ended while it started: ValueError: no such model.*log"):
        asyncio.run(engine.start())


def test_servers_that_run_already_are_used_and_left_alone(tmp_path, python):
    """Two of them share the sessions; both get the weights of the trainee."""
    theirs, trained = Uniform(), Uniform()
    trained.update(0.5)
    host = engine_of(theirs, tmp_path / "one", python=python)
    other = engine_of(theirs, tmp_path / "two", python=python)

    async def live() -> None:
        await host.start()
        await other.start()
        urls = [f"{each.nodes[0].client.url}/v1" for each in (host, other)]
        engine = engine_of(trained, tmp_path / "run", url=urls)
        try:
            await engine.start()
            said = await asyncio.gather(*(say(engine, n, max_tokens=5) for n in range(4)))
            assert all(each.logprobs == pytest.approx([EVEN - 0.5] * 5) for each in said)
            sessions = [engine.sampler.open(n, None) for n in range(4)]  # pyright: ignore
            for each in sessions:
                await each.sample(Prompt((1,)), Sampling(max_tokens=1))
            assert [node.sessions for node in engine.nodes] == [2, 2]
            trained.update(0.25)
            await engine.publish()
            await engine.stop()
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"{urls[0]}/models")).status_code == 200
        finally:
            await host.stop()
            await other.stop()

    asyncio.run(live())


@pytest.mark.parametrize(
    ("illness", "problem", "says"),
    [
        ("raw", WeightsDiffer, "--logprobs-mode processed_logprobs"),
        ("shy", EngineDown, "VLLM_SERVER_DEV_MODE=1"),
        ("stale", WeightsDiffer, "samples with other weights than are trained"),
    ],
)
def test_a_server_that_cannot_serve_a_run_is_refused(tmp_path, python, illness, problem, says):
    trained = Uniform()
    trained.update(0.5)
    host = engine_of(Uniform(), tmp_path / "host", python=python)

    async def live() -> None:
        await host.start()
        try:
            await ill(host, illness)
            with pytest.raises(problem, match=says):
                await engine_of(trained, tmp_path / "run", url=host.nodes[0].client.url).start()
        finally:
            await host.stop()

    asyncio.run(live())


RUN = """
import asyncio, sys, pathlib
sys.path[:0] = {paths!r}
from test_vllm_engine import Uniform, engine_of

async def live():
    engine = engine_of(Uniform(), pathlib.Path({folder!r}), python={python!r})
    await engine.start()
    print("up", flush=True)
    await asyncio.sleep(1000)

asyncio.run(live())
"""


def test_a_run_that_is_killed_leaves_no_server(tmp_path, python):
    folder = tmp_path / "run"
    paths = [str(Path(__file__).parent), str(Path(vllm_double.__file__).parent)]
    code = RUN.format(paths=paths, folder=str(folder), python=python)
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert run.stdout is not None
    assert run.stdout.readline() == b"up\n"
    started = processes(folder)
    assert len(started) == 2
    assert all(map(alive, started))
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    until = time.monotonic() + 60
    while any(map(alive, started)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(alive, started))
