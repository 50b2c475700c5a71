"""The processes of this machine as /proc shows them: who belongs to a box, and how to end them."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PASSES = 100  # of killing, whatever the clock says
_STILL_WRITTEN = {errno.ENOTEMPTY, errno.ENOENT}  # what rmtree meets where others make and remove
_WRITERS_SECONDS = 30.0  # a busy machine may take so long to let a killed process end


@functools.cache
def heeding() -> tuple[str, ...]:
    """Words before a command that has it ignore no signal; none where there is no GNU env.

    What a script runs in the background ignores SIGINT and SIGQUIT, and so would its children.
    """
    env = shutil.which("env")
    if env is None:
        return ()
    words = (env, "--default-signal")
    done = subprocess.run([*words, "true"], capture_output=True, check=False)
    return words if done.returncode == 0 else ()


def boot_id() -> str:
    """This boot of this machine: process ids mean nothing across two of them."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def everyone() -> Iterator[int]:
    """The ids of all processes."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def started(process: int) -> int:
    """When it started, in clock ticks since boot; 0 if it is gone or a zombie.

    With the id this tells a process from a later one that was given the same id.
    """
    fields = _stat(process)
    return 0 if not fields or fields[0] in "ZX" else int(fields[19])


def now() -> int:
    """The tick at which a process would start now."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def parent(process: int) -> int:
    """Its parent's id; 0 if it is gone."""
    fields = _stat(process)
    return int(fields[1]) if fields else 0


def _stat(process: int) -> list[str]:
    try:
        text = Path(f"/proc/{process}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text[text.rindex(")") + 2 :].split()  # the name before it may hold anything


def namespace(process: int, kind: str = "pid") -> str:
    """Its process namespace, such as `pid:[4026532481]`; empty if it is gone or not ours."""
    try:
        return os.readlink(f"/proc/{process}/ns/{kind}")
    except OSError:
        return ""


def marked(process: int, mark: bytes) -> bool:
    """Whether it was started with the environment variable `mark` (`b"NAME=value"`)."""
    try:
        return mark in Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def below(roots: set[int], among: set[int]) -> set[int]:
    """`roots` and their descendants, as far as they are in `among`."""
    parents = {each: parent(each) for each in among}
    found = roots & among
    while more := {each for each in among - found if parents[each] in found}:
        found |= more
    return found


def private_memory(processes: set[int]) -> int:
    """Bytes that these processes hold and do not share with files."""
    total = 0
    for process in processes:
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{process}/statm").read_text().split()
            total += (int(fields[1]) - int(fields[2])) * _PAGE
    return total


def send(process: int, number: int) -> None:
    """A signal, if the process is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)


def end_all(members: Callable[[], set[int]], seconds: float = 5.0) -> bool:
    """Kill until `members()` is empty, for a fork bomb outruns one pass; False if it stays.

    On a machine that stands still meanwhile, `seconds` may be over before much was tried.
    """
    until, passes = time.monotonic() + seconds, 0
    while time.monotonic() < until or passes < _PASSES:
        passes += 1
        alive = {each for each in members() if started(each)}
        if not alive:
            return True
        for each in alive:  # first nobody may fork any more, then everybody goes
            send(each, signal.SIGSTOP)
        for each in alive:
            send(each, signal.SIGKILL)
        time.sleep(0.002)
    return not {each for each in members() if started(each)}


def remove_tree(folder: Path, seconds: float = 3.0) -> bool:
    """Remove a folder of processes that were just killed; False if it stays.

    What a killed process was writing may appear after its folder was listed: then it is listed
    again, for as long as `_WRITERS_SECONDS`. What cannot be removed for another reason is tried
    again for up to `seconds`.
    """
    began = time.monotonic()
    while True:
        patience = max(seconds, _WRITERS_SECONDS)
        try:
            shutil.rmtree(folder)
        except OSError as problem:
            if problem.errno not in _STILL_WRITTEN:
                shutil.rmtree(folder, ignore_errors=True)  # all but what cannot be
                patience = seconds
        if not folder.exists() or time.monotonic() > began + patience:
            return not folder.exists()
        time.sleep(0.01)
