"""Runs a program that must not outlive us: `python keeper.py FD PROGRAM ...`.

FD is the reading end of a pipe whose other end we hold: however we end, it closes (and where one of
our children still holds it, the keeper's parent is another). The keeper then kills the program and
all that it started, as it does when the program ends by itself. Standard library only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

_SUBREAPER, _ON_PARENTS_DEATH = 36, 1  # of prctl


def main(pipe: int, command: list[str]) -> int:
    """The program's exit code; that of a shell if it was killed."""
    with suppress(OSError, AttributeError):  # only Linux has it
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # we end with the pipe
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, _ignore)  # a handler, so that it wakes us
    parent = os.getppid()
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=_mortal)
    while child.poll() is None and os.getppid() == parent:
        ready, _, _ = select.select([pipe, ended], [], [], 1.0)
        if pipe in ready:
            break
        if ended in ready:
            os.read(ended, 1024)
    code = child.poll()
    end(child.pid)
    return 128 + signal.SIGKILL if code is None else code if code >= 0 else 128 - code


def _ignore(number: int, frame: object) -> None:
    """The pipe has been written to."""


def _mortal() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with suppress(OSError, AttributeError):  # should somebody kill the keeper itself
        ctypes.CDLL(None).prctl(_ON_PARENTS_DEATH, signal.SIGKILL, 0, 0, 0)


def end(group: int) -> None:
    """Kills a group of processes, and all that is ours, until nobody is left."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    while True:
        for each in _children():
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        try:  # those whose parent has just died become ours
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    with suppress(OSError):
        return [
            int(each)
            for each in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        ]
    return []


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
