"""How commands reach a box and output comes back: a shell inside, named pipes, one folder.

The box sees the folder read-only. A launcher, the box's first process, reads names of commands and
runs the job file of each in a shell of its own. Output has a pipe per command, so a process left in
the background keeps no command waiting and writes into no other's output: the names of the pipes
cannot be guessed, and they are gone before the command's first instruction. When our side is gone,
however it went, the launcher reads the end of its commands and the box ends.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from foldgym.containers.processes import remove_tree
from foldgym.containers.sandbox import End, Limits
from foldgym.errors import SandboxError

MARK = "FOLDGYM_EXEC"
TICK = 0.05
"""Seconds between two looks at whether the box still lives."""
_LONGEST_STATUS = len(b"started\n255\n")
_LONGEST_ARGUMENT = 100_000
"""Bytes of a command given as an argument; Linux allows 131,072."""

_LAUNCHER = """umask 022
ulimit -c 0
{limits}
set -m
exec <{folder}/run
while IFS= read -r number; do
{sweep}  ( echo 1000 >/proc/self/oom_score_adj; . {folder}/$number/job ) &
done
{farewell}
"""
"""A kernel that is short of memory takes a command before it takes the launcher."""
_FAREWELL = """children=/proc/$$/task/$$/children
while read -r -a all <$children; [ ${#all[@]} -gt 0 ]; do
  kill -KILL "${all[@]}"
  sleep 0.01
done"""
"""Where the kernel does not end a box's processes with the first one, that one does: whatever its
parents were, a process without one becomes the launcher's child."""

_SWEEP = "  [ $number != sweep ] || {{ kill -KILL -1; continue; }}\n"
"""All at once: a fork that has not happened when the signal is sent does not happen."""

_JOB = """exec 9>{folder}/status
( exec 8<{folder}/go; echo started >&9; exec 9>&-; {exports}
  read -r <&8; [ "$REPLY" = go ] || exit 137; exec 8<&-
  cd -- {cwd} && exec {shell} ) <{stdin} >{folder}/out 2>{folder}/err
echo $? >&9
"""
"""It says that it has started once all is open: our side removes the names, and lets it go on."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one command needs; `mark` is the variable by which its processes are known."""

    command: str
    cwd: str
    environment: Mapping[str, str]
    stdin: bytes
    mark: str


class Output:
    """A stream of which the first and the last half of `cap` bytes are kept."""

    def __init__(self, cap: int) -> None:
        self.head_room = cap - cap // 2
        self.tail_room = cap // 2
        self.head, self.tail, self.size = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        """More of the stream."""
        self.size += len(data)
        room = self.head_room - len(self.head)
        if room > 0:
            self.head += data[:room]
            data = data[room:]
        self.tail += data
        if len(self.tail) > 2 * self.tail_room + 65_536:  # not on every read: it copies
            del self.tail[: len(self.tail) - self.tail_room]

    @property
    def dropped(self) -> int:
        """Bytes that were not kept."""
        return max(0, self.size - self.head_room - self.tail_room)

    @property
    def data(self) -> bytes:
        """What was kept, with a line in the place of what was not."""
        tail = bytes(self.tail[max(0, len(self.tail) - self.tail_room) :])
        gap = f"\n[... {self.dropped} bytes left out ...]\n" if self.dropped else ""
        return bytes(self.head) + gap.encode() + tail


class Channel:
    """Our side of one box. `inside` is where the box sees `folder`."""

    def __init__(
        self, folder: Path, inside: str, limits: Limits, own_space: bool, own_users: bool = True
    ) -> None:
        """`own_space`: whether the box has process ids of its own; `own_users`: and user ids, by
        which the kernel counts processes."""
        self.folder, self.inside, self.own_space = folder, inside, own_space
        self.number, self.commands = 0, -1
        folder.mkdir(mode=0o755)
        # RLIMIT_DATA and not RLIMIT_AS: many runtimes reserve far more addresses than they use
        lines = [
            f"ulimit -d {limits.memory // 1024}",
            f"ulimit -f {max(1, limits.file // 1024)}",
            "ulimit -n 1024",
        ]
        if own_space and own_users:
            lines.append(f"ulimit -u {limits.pids}")
        text = _LAUNCHER.format(
            limits="\n".join(lines),
            folder=shlex.quote(inside),
            sweep=_SWEEP.format() if own_space else "",
            farewell="" if own_space else _FAREWELL,
        )
        folder.chmod(0o711)  # it is not listed
        _file(folder / "launcher", text.encode())
        _pipe(folder / "run", 0o644)

    def connect(self, alive: Callable[[], bool], seconds: float = 30.0) -> None:
        """Wait until the launcher listens. Raises `SandboxError` if it does not."""
        until = time.monotonic() + seconds
        while self.commands < 0:
            try:
                self.commands = os.open(self.folder / "run", os.O_WRONLY | os.O_NONBLOCK)
            except OSError as problem:
                if problem.errno != errno.ENXIO:
                    raise
            if self.commands < 0:
                if not alive():
                    raise SandboxError("the box ended before its shell was ready")
                if time.monotonic() > until:
                    raise SandboxError(f"the box's shell was not ready after {seconds:g} seconds")
                time.sleep(0.001)

    def open(self, job: Job) -> Running:
        """Start a command. Raises `SandboxError` if the launcher is gone."""
        self.number += 1
        name = secrets.token_hex(16)
        folder, inside = self.folder / name, f"{self.inside}/{name}"
        folder.mkdir(mode=0o711)
        stdin = "/dev/null"
        if job.stdin:
            _file(folder / "in", job.stdin)
            stdin = f"{inside}/in"
        if len(job.command.encode(errors="surrogateescape")) <= _LONGEST_ARGUMENT:
            shell = f"bash -c {shlex.quote(job.command)}"
        else:
            _file(folder / "command", job.command.encode(errors="surrogateescape"))
            shell = f"bash {shlex.quote(inside + '/command')}"
        variables = {**job.environment, MARK: job.mark}
        text = _JOB.format(
            folder=shlex.quote(inside),
            exports="; ".join(
                f"export {name}={shlex.quote(value)}" for name, value in variables.items()
            ),
            cwd=shlex.quote(job.cwd),
            shell=shell,
            stdin=shlex.quote(stdin),
        )
        _file(folder / "job", text.encode(errors="surrogateescape"))
        running = Running(folder)
        try:
            os.write(self.commands, f"{name}\n".encode())
        except OSError as problem:
            running.close()
            raise SandboxError("the box is gone: its shell reads no more commands") from problem
        return running

    def sweep(self) -> None:
        """Have the launcher kill everyone else in the box, if their process ids are their own."""
        if self.own_space:
            with contextlib.suppress(OSError):  # it is gone, and with it all others
                os.write(self.commands, b"sweep\n")

    def close(self) -> None:
        """Hang up, which ends the launcher."""
        if self.commands >= 0:
            os.close(self.commands)
            self.commands = -1


class Running:
    """A command that was started: its pipes, and what came out of them so far."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pipes: dict[str, int] = {}
        for name in ("out", "err", "status"):
            _pipe(folder / name, 0o666)
            self.pipes[name] = os.open(folder / name, os.O_RDONLY | os.O_NONBLOCK)
        _pipe(folder / "go", 0o644)
        self.go = os.open(folder / "go", os.O_RDWR)  # which waits for no reader
        self.told, self.status = False, b""
        self.killed: list[End] = []
        """Why, if it was; the first reason counts."""

    def wait(self, seconds: float, outputs: Mapping[str, Output]) -> bool:
        """Read for at most `seconds`; True once the command has ended (or lost its shell)."""
        waiter = select.poll()
        names = {handle: name for name, handle in self.pipes.items()}
        for handle in names:
            waiter.register(handle, select.POLLIN)
        for handle, _ in waiter.poll(max(0.0, seconds) * 1000):
            name = names[handle]
            data = _read(handle)
            if data is None:
                continue
            if data:
                self._take(name, data, outputs)
            elif name == "status":  # nobody is left to tell how it ended
                return True
            else:  # it closed this stream and goes on
                os.close(self.pipes.pop(name))
        return self.ended

    def drain(self, outputs: Mapping[str, Output]) -> None:
        """What was written before the command ended and is still in the pipes, at most a pipeful.

        A process in the background may go on writing; that is nobody's output.
        """
        for name, handle in self.pipes.items():
            for _ in range(3):  # a pipe holds 64 KiB, which one read empties
                if not (data := _read(handle)):
                    break
                self._take(name, data, outputs)

    def _take(self, name: str, data: bytes, outputs: Mapping[str, Output]) -> None:
        if name == "status":
            if not self.status:
                self._hide()
            self.status = (self.status + data)[:_LONGEST_STATUS]
        else:
            outputs[name].add(data)

    def _hide(self) -> None:
        """Remove the names of what the command's shells hold open by now; then it may run."""
        for name in ("status", "out", "err", "go", "in", "job"):
            (self.folder / name).unlink(missing_ok=True)
        self._tell(b"go\n")

    def call_off(self) -> None:
        """A command that has not begun never will."""
        self._tell(b"stop\n")

    def _tell(self, word: bytes) -> None:
        if not self.told:
            self.told = True
            os.write(self.go, word)

    @property
    def begun(self) -> bool:
        """Whether its shell came up at all."""
        return bool(self.status)

    @property
    def ended(self) -> bool:
        """Whether its exit code is here."""
        return self.status.count(b"\n") >= 2

    @property
    def code(self) -> int:
        """The exit code; 137 if its shell was killed before it could tell."""
        words = self.status.split()
        return int(words[1]) if self.ended and words[1].isdigit() else 137

    def close(self) -> None:
        """Close the pipes, and forget the command's folder."""
        while self.pipes:
            os.close(self.pipes.popitem()[1])
        if self.go >= 0:
            os.close(self.go)
            self.go = -1
        try:
            self.folder.rmdir()  # most commands have left nothing there
        except OSError:
            remove_tree(self.folder)


def _read(handle: int) -> bytes | None:
    try:
        return os.read(handle, 65_536)
    except BlockingIOError:
        return None


def _pipe(path: Path, mode: int) -> None:
    os.mkfifo(path)
    path.chmod(mode)  # the box may run as somebody else, and the umask must not decide


def _file(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with contextlib.suppress(PermissionError):
        path.chmod(0o644)
