"""Docker boxes: what is refused and why, what limits them, and an engine that restarts."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from private_engine import PrivateEngine, private_engine

from foldgym.agents.engines.scripted import FunctionPolicy
from foldgym.agents.renderers import CompactRenderer
from foldgym.agents.rollout import Rollout, rollout
from foldgym.containers import BoxSpec, End, Limits, Pool, available, engine, find, open_box, reap
from foldgym.containers.opening import choose
from foldgym.containers.sandbox import MB
from foldgym.envs.registry import EnvSpec, Maker
from foldgym.envs.worker import Isolation, open_worker
from foldgym.errors import SandboxError, UserError
from foldgym.memory import FullHistory
from foldgym.testing.doubles import ByteTokenizer
from foldgym.types import EnvHandle, Request, Reward, Trajectory

WORLD = f"{Path(__file__).with_name('worlds.py')}:Adding"


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="boxes-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        monkeypatch.setenv("FOLDGYM_STATE", name)
        available.cache_clear()
        yield folder
    available.cache_clear()


@pytest.fixture
def image() -> str:
    try:
        return engine.image_of("")
    except (UserError, SandboxError) as problem:
        pytest.skip(str(problem))


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("unix:///nonexistent.sock", "does not answer .is it running"),
        ("tcp://127.0.0.1:1", "DOCKER_HOST=tcp://127.0.0.1:1 is not on this machine"),
    ],
)
def test_an_engine_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, host: str, said: str
) -> None:
    pytest.importorskip("docker")
    monkeypatch.setenv("DOCKER_HOST", host)
    monkeypatch.setattr("foldgym.containers.docker._FIRST", 0.1)
    with pytest.raises((UserError, SandboxError), match=said):
        open_box(backend="docker")
    assert find() == []
    assert reap() == []


@pytest.mark.docker
def test_an_image_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no image 'foldgym/nowhere:1': docker pull"):
        open_box(BoxSpec(image="foldgym/nowhere:1"), "docker")
    monkeypatch.setenv("FOLDGYM_IMAGE", "foldgym/elsewhere:1")
    with pytest.raises(UserError, match="foldgym/elsewhere"):
        open_box(backend="docker")
    assert choose("auto", BoxSpec(untrusted=False)) != "docker"


@pytest.mark.docker
def test_auto_takes_docker_where_it_has_the_image(image: str) -> None:
    assert choose("auto", BoxSpec(image=image)) == "docker"


@pytest.mark.docker
def test_a_container_is_labelled_and_limited_by_the_kernel(image: str) -> None:
    limits = Limits(memory=100 * MB, disk=20 * MB, pids=30)
    with open_box(BoxSpec(image=image, limits=limits, run="labelled"), "docker") as box:
        (found,) = find()
        assert (found.label.run, found.label.id, found.label.orphan) == ("labelled", box.id, False)
        sheet: dict[str, Any] = engine.ask("inspect_container", found.container)
        labels = sheet["Config"]["Labels"]
        assert labels["foldgym.pid"] == str(found.label.owner)
        assert labels["foldgym.boot"] == found.label.boot
        held = sheet["HostConfig"]
        assert (held["Memory"], held["MemorySwap"]) == (180 * MB, 180 * MB)  # and three folders
        assert (held["PidsLimit"], held["NanoCpus"]) == (31, 10**9)
        # children that each stay below their own limit, together beyond the kernel's
        hog = "(head -c 90000000 /dev/zero | tail -c 90000000 | sleep 5) &"
        assert box.exec(f"{hog} {hog} {hog} {hog} wait").end is End.MEMORY
        assert box.exec("cat /proc/self/oom_score_adj").text == "1000\n"
        # files count as memory, and cannot starve the launcher
        box.exec("for p in /work /tmp ~ /dev/shm; do head -c 30000000 /dev/zero >$p/x; done")
        assert box.exec("echo still here").text == "still here\n"
    assert find() == []
    with pytest.raises(engine.Refused):
        engine.ask("inspect_container", found.container)


@pytest.mark.docker
def test_a_container_that_is_removed_is_an_error_and_no_output(image: str) -> None:
    with open_box(BoxSpec(image=image), "docker") as box:
        threading.Timer(0.3, engine.remove, [f"foldgym-{box.id}"]).start()
        with pytest.raises(SandboxError, match="gone"):
            box.exec("echo partial; sleep 60")
        with pytest.raises(SandboxError, match="gone"):
            box.read("x")


# ---------------------------------------------------------------- an engine that restarts


@pytest.fixture(scope="module")
def mine() -> Iterator[PrivateEngine]:
    try:
        image = engine.image_of("")
    except (UserError, SandboxError) as problem:
        pytest.skip(str(problem))
    with private_engine() as private:
        private.take(image)
        yield private


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_an_engine_that_restarts_costs_no_episode(
    mine: PrivateEngine, isolation: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", mine.host)
    monkeypatch.setenv("FOLDGYM_IMAGE", mine.image)
    names = ("DOCKER_HOST", "FOLDGYM_IMAGE", "FOLDGYM_STATE")
    later = threading.Timer(1.0, mine.start)
    here, restarts = {name: os.environ[name] for name in names}, 0

    def speak(prompt: Any, rng: random.Random) -> str:
        nonlocal restarts
        if prompt.turn == 1 and not restarts:
            restarts = 1
            mine.stop()
            later.start()  # boxes are asked for while it is away
        return f"add {prompt.turn}"

    def open_env(request: Request) -> EnvHandle:
        return open_worker(
            Maker(EnvSpec("me/Adding-v0", WORLD), {"variables": here}), isolation, 60.0
        )

    def score(trajectory: Trajectory) -> Reward:
        value = float(trajectory.facts["score"])
        return Reward(value, value)

    how = Rollout(CompactRenderer(ByteTokenizer()), FullHistory, retries=2)
    try:
        (group,) = asyncio.run(
            rollout([Request("adding", 0, 4)], open_env, FunctionPolicy(speak), how, 0, score)
        )
    finally:
        if restarts:
            later.join()
    assert restarts == 1
    assert [reward.total for reward in group.rewards] == [1.0] * 4
    assert group.failures
    assert all(each.error.startswith("SandboxError: ") for each in group.failures)
    assert mine.ask("ps", "--all", "--quiet").stdout == b""


@pytest.mark.docker
@pytest.mark.slow
def test_a_pool_survives_its_engine(mine: PrivateEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", mine.host)
    monkeypatch.setenv("FOLDGYM_IMAGE", mine.image)
    with Pool(BoxSpec(), "docker", warm=2, cap=4) as pool:
        until = time.monotonic() + 60
        while len(pool.ready) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        before = {box.id for box in pool.ready}
        assert len(before) == 2
        mine.stop()
        mine.start()
        for _ in range(3):
            with pool.box() as box:
                assert box.exec("echo up").text == "up\n"
                assert box.id not in before
    assert mine.ask("ps", "--all", "--quiet").stdout == b""
    assert find() == []
