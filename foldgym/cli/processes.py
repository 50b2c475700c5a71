"""Starts a command in several processes of this machine that find one another."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from foldgym.console import print_error
from foldgym.errors import UserError

_LOOK = 0.1  # seconds between looks
_NOTICE, _LEAVE = 3.0, 20.0  # to see for oneself that another is gone, and to leave in
_ON_PARENTS_DEATH = 1  # of prctl


def start(words: Sequence[str], count: int) -> int:
    """Runs `foldgym WORDS` in `count` processes; see `run`. Raises `UserError` for the count."""
    cores = os.cpu_count() or 1
    if count < 2:
        raise UserError(f"--processes {count}: several processes are at least 2")
    if count > max(2, cores):
        raise UserError(
            f"--processes {count}: this machine has {cores} cores, and a process needs one"
        )
    if "WORLD_SIZE" in os.environ:
        raise UserError(
            f"--processes {count} in one of the {os.environ['WORLD_SIZE']} processes of a launcher "
            "(WORLD_SIZE is set); leave one of both out"
        )
    return run([sys.executable, "-m", "foldgym", *words], count, max(1, cores // count))


def run(command: Sequence[str], count: int, threads: int = 1) -> int:
    """Runs a command in `count` processes that find one another; the exit code of the first.

    Rank 0 talks; when it fails, or any other does, all are ended, as they are with this process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    crew: list[subprocess.Popen[bytes]] = []
    ends = (signal.SIGTERM, signal.SIGHUP)
    before = [(number, signal.signal(number, _interrupt)) for number in ends]
    try:
        for rank in range(count):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            each = subprocess.Popen(
                command,
                env={"OMP_NUM_THREADS": str(threads), **os.environ, **common, **own},
                process_group=0,  # who is at the terminal interrupts us, and we the others
                preexec_fn=_end_with_parent,
            )
            crew.append(each)
        return _watched(crew)
    except KeyboardInterrupt:
        if not crew:
            raise
        _ask_to_leave(crew)
        return 128 + signal.SIGINT
    finally:
        for each in crew:
            each.kill()
            each.wait()
        for number, handler in before:
            signal.signal(number, handler)


def _watched(crew: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code of the first, once it or any other has ended badly, or all well."""
    first, *others = crew
    _wait(lambda: first.poll() is not None or any(each.poll() for each in others))
    # what another rank saw rank 0 sees at its next word with it, and says how to go on
    _wait(lambda: first.poll() is not None, _NOTICE)
    killed = {n: -each.returncode for n, each in enumerate(crew) if (each.returncode or 0) < 0}
    failed = [each.returncode for each in crew if each.returncode]
    for number, by in killed.items():
        print_error(
            f"process {number} of {len(crew)} was killed from outside "
            f"({signal.Signals(by).name}); the run goes on from its newest checkpoint with --resume"
        )
    if first.returncode is None:
        _ask_to_leave(crew)
    elif first.returncode:
        failed.insert(0, first.returncode)
    else:
        _wait(lambda: None not in [each.poll() for each in others], _LEAVE)
        failed.extend(each.returncode for each in others if each.returncode)
    return 128 + min(killed.values()) if killed else failed[0] if failed else 0


def _ask_to_leave(crew: Sequence[subprocess.Popen[bytes]]) -> None:
    """Lets rank 0 close its files and its engine; the others only wait for it."""
    with suppress(ProcessLookupError):
        crew[0].send_signal(signal.SIGINT)
    with suppress(KeyboardInterrupt):  # who is impatient
        _wait(lambda: crew[0].poll() is not None, _LEAVE)


def _wait(until: Callable[[], bool], seconds: float = float("inf")) -> None:
    deadline = time.monotonic() + seconds
    while not until() and time.monotonic() < deadline:
        time.sleep(_LOOK)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a script's background jobs ignore it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_ON_PARENTS_DEATH, signal.SIGKILL, 0, 0, 0)
