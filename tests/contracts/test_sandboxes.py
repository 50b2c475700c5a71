"""Every backend that works here keeps every promise, and the checks notice one that does not."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from foldgym.containers import BACKENDS, BoxSpec, End, Result, Sandbox, available, open_box
from foldgym.containers.box import Box
from foldgym.containers.opening import choose
from foldgym.containers.processes import end_all
from foldgym.errors import SandboxError, UserError
from foldgym.testing.boxes import CHECKS, ISOLATION, WHOLE, check_sandbox

_MARKS = {"docker": (pytest.mark.docker, pytest.mark.slow)}


@pytest.fixture(
    params=[pytest.param(name, marks=_MARKS.get(name, ())) for name in sorted(BACKENDS)]
)
def backend(request: pytest.FixtureRequest) -> str:
    """Each that works here."""
    try:
        choose(request.param, BoxSpec())
    except UserError as problem:
        pytest.skip(str(problem))
    return request.param


def test_promises_are_kept(backend: str) -> None:
    assert check_sandbox(lambda spec: open_box(spec, backend), backend != "process") == []


def test_a_run_in_the_background_has_boxes_that_heed_signals(backend: str) -> None:
    """A script's `foldgym train ... &` ignores SIGINT; a program under test must not."""
    spec = BoxSpec(untrusted=backend != "process")
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGUSR1)}
    try:
        with open_box(spec, backend) as box:
            found = [box.exec(f"kill -{name} $$; echo alive") for name in ("INT", "USR1")]
            pipe = box.exec("yes | head -n 1; echo ${PIPESTATUS[0]}")
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert [(each.code, each.stdout) for each in found] == [(130, b""), (138, b"")]
    assert (pipe.stdout, pipe.stderr) == (b"y\n141\n", b"")


def test_what_is_late_before_it_began_is_over(backend: str) -> None:
    """Beside another command its processes are known by a mark, which they do not bear at first."""
    box = open_box(BoxSpec(untrusted=backend != "process"), backend)
    with ThreadPoolExecutor(1) as pool, box:
        other = pool.submit(box.exec, "echo up >up; sleep 600", timeout=600)
        while box.exec("cat up").text != "up\n":
            pass
        late = [box.exec("sleep 600", timeout=0.0001 + 0.0003 * n).end for n in range(40)]
        assert not other.done()
        box.close()
    assert set(late) == {End.TIMEOUT}
    assert isinstance(other.exception(), SandboxError)


def test_a_launcher_that_stands_still_keeps_nobody_waiting(backend: str) -> None:
    """A busy host: the command's shell may be killed before it opened the pipe it would end by."""
    with open_box(BoxSpec(untrusted=backend != "process"), backend) as opened:
        box: Any = opened
        first = box.keeper.process.pid if backend == "process" else box.keeper.first
        for alone in (True, False):
            with ThreadPoolExecutor(1) as pool:
                other = None if alone else pool.submit(box.exec, "sleep 600", timeout=600)
                while other and not box.running:
                    pass
                os.kill(first, signal.SIGSTOP)
                try:
                    late = box.exec("touch ran; sleep 600", timeout=0.2)
                finally:
                    os.kill(first, signal.SIGCONT)
                assert (late.end, late.stdout) == (End.TIMEOUT, b"")
                if other:
                    box.restore(BoxSpec().files)
                    assert other.result(60).code == 137
            assert box.exec("ls").stdout == b""


@pytest.mark.parametrize("why", ["a sweep", "a timeout"])
def test_what_is_asked_for_while_others_are_ended_runs_afterwards(
    backend: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command of another thread is no part of what is ended."""
    asked: list[Future[Result]] = []
    with (
        open_box(BoxSpec(untrusted=backend != "process"), backend) as opened,
        ThreadPoolExecutor(1) as pool,
    ):
        box: Any = opened

        def slowly(members: Callable[[], set[int]]) -> bool:
            if not asked:
                asked.append(pool.submit(box.exec, "sleep 1; echo on"))
                time.sleep(0.5)
            return end_all(members)

        monkeypatch.setattr("foldgym.containers.box.end_all", slowly)
        if why == "a sweep":
            box._sweep()
        else:
            assert box.exec("sleep 600", timeout=0.3).end is End.TIMEOUT
        done = asked[0].result(120)
    assert (done.code, done.stdout) == (0, b"on\n")


def test_there_are_the_promised_behaviours() -> None:
    assert len(CHECKS) + len(ISOLATION) + len(WHOLE) >= 41


def test_the_checks_notice_broken_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box that merges its streams, forgets stdin and the cwd, and calls every code 0."""
    if why := available("process"):
        pytest.skip(f"no boxes: {why}")
    honest = Box.exec

    def careless(self: Box, command: str, **options: object) -> Result:
        options.pop("stdin", None)
        options.pop("cwd", None)
        done = honest(self, command, **options)  # type: ignore[arg-type]
        return Result(0, done.stdout + done.stderr, b"", done.end, done.seconds, done.dropped)

    quick = {"streams", "codes", "signals", "cwd", "binary", "file errors", "files"}
    for name in set(CHECKS) - quick:
        monkeypatch.delitem(CHECKS, name)
    for name in set(WHOLE) - {"closed"}:
        monkeypatch.delitem(WHOLE, name)

    def make(spec: BoxSpec) -> Sandbox:
        return open_box(BoxSpec(untrusted=False), "process")

    monkeypatch.setattr(Box, "exec", careless)
    found = {each.check for each in check_sandbox(make, isolates=False)}
    assert found == quick
