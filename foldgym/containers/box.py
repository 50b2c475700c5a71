"""The box that every backend gives: its verbs, over a channel and a keeper."""

from __future__ import annotations

import errno
import os
import shlex
import threading
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Protocol, Self

from foldgym.containers.channel import MARK, TICK, Channel, Job, Output, Running
from foldgym.containers.processes import end_all, now, remove_tree, started
from foldgym.containers.sandbox import MB, BoxSpec, End, Result, Snapshot
from foldgym.errors import SandboxError, UserError

_HEADLESS = {"LANG": "C.UTF-8", "TZ": "UTC", "PYTHONHASHSEED": "0", "PAGER": "cat", "TERM": "dumb"}
_KILL_AGAIN = 0.25
"""Seconds: who was between fork and exec, and so not known by its mark, is known by then."""
_BOOKKEEPING = 120.0
"""Seconds for reading, writing and restoring files."""
_ERRORS = {101: errno.ENOENT, 102: errno.EISDIR, 103: errno.EACCES}
_SAID = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.ENOTDIR, errno.EEXIST, errno.EFBIG)
_READ = (
    "[ -e {path} ] || exit 101\n[ ! -d {path} ] || exit 102\n[ -r {path} ] || exit 103\n"
    "cat < {path}"
)
_WRITE = "[ ! -d {path} ] || exit 102; mkdir -p -- {folder} && cat > {path}"
_EMPTY = (
    "{ find . -mindepth 1 -delete 2>&- || { chmod -R u+rwX . && find . -mindepth 1 -delete; }; }"
)


class Keeper(Protocol):
    """What a backend knows of one box: where it works, who lives in it, how to end it."""

    workdir: str
    home: str
    variables: Mapping[str, str]
    """What the image says of a command's environment."""

    @property
    def holders(self) -> tuple[int, int]:
        """The outermost process of the box and the first one inside; 0 where there is none."""
        ...

    def alive(self) -> bool:
        """Whether the box's first process is there."""
        ...

    def processes(self) -> set[int]:
        """Everyone in the box but those that keep it."""
        ...

    def of_command(self, mark: str) -> set[int]:
        """The processes that a command started, as far as they can be told from others."""
        ...

    def memory(self) -> int:
        """Bytes held by everyone in the box."""
        ...

    def renew(self, files: bool) -> bool:
        """Put a fresh working folder in the place of the old one, and of all else that could be
        written: with the files that the box began with, or empty. False where that cannot be.
        """
        ...

    def struck(self) -> int:
        """How many processes the kernel has killed because all together held too much."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Box:
    """A sandbox on this machine."""

    def __init__(
        self, name: str, spec: BoxSpec, keeper: Keeper, channel: Channel, folder: Path
    ) -> None:
        self.id, self.spec = name, spec
        self.keeper, self.channel, self.folder = keeper, channel, folder
        self.born = time.monotonic()
        self.lock = threading.Lock()
        self.gone, self.ended = "", False
        self.struck = 0
        self.running: dict[str, Running] = {}

    # ------------------------------------------------------------ commands

    def exec(
        self,
        command: str,
        *,
        timeout: float = 60.0,
        cwd: str = "",
        environment: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        cap: int = MB,
    ) -> Result:
        """See `Sandbox.exec`."""
        variables = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": self.keeper.home,
            **_HEADLESS,
            **self.keeper.variables,
            **self.spec.environment,
            **(environment or {}),
        }
        _check(command, variables, timeout, cap)
        place = str(PurePosixPath(self.keeper.workdir) / cwd)
        began = time.monotonic()
        with self.lock:
            self._insist()
            mark = f"{self.id}/{self.channel.number + 1}"
            before, alone, struck = now(), not self.running, self.keeper.struck()
            running = self.channel.open(Job(command, place, variables, stdin, mark))
            self.running[mark], killed = running, running.killed
        outputs = {"out": Output(cap), "err": Output(cap)}
        try:
            until = began + timeout
            while not running.wait(min(TICK, until - time.monotonic()), outputs):
                if not self.keeper.alive():
                    break
                if time.monotonic() >= until:
                    killed.append(End.TIMEOUT)
                    self._kill(mark, before if running.begun else 0, alone)
                    until = time.monotonic() + _KILL_AGAIN
                if not running.begun and (running.told or killed):
                    running.call_off()
                    break  # nobody may be left who would say that it ended
            self._settle(running)
            running.drain(outputs)
            if not killed and self.keeper.struck() > struck:
                killed.append(End.MEMORY)
        finally:
            with self.lock:
                self.running.pop(mark, None)
            running.close()
        seconds = time.monotonic() - began
        out, err = outputs["out"], outputs["err"]
        end = killed[0] if killed else End.EXITED
        code = running.code if end is End.EXITED else 137
        return Result(code, out.data, err.data, end, seconds, out.dropped + err.dropped)

    def _settle(self, running: Running) -> None:
        """A command without an exit code lost its shell, or the box: find out which."""
        if running.ended:
            return
        for _ in range(20):  # the last process of a dying box goes a little later
            if self.gone or not self.keeper.alive():
                break
            time.sleep(0.01)
        self._insist()

    def _insist(self) -> None:
        if not self.gone and not self.keeper.alive():
            self.gone = "its first process ended"
        if self.gone:
            raise SandboxError(f"box {self.id} is gone: {self.gone}")

    def _kill(self, mark: str, since: int, alone: bool) -> None:
        """End a command and all it started: if no other ran meanwhile, all that is as young."""
        everyone_ended = True
        with self.lock:  # what others ask for now begins when that is done
            if alone := alone and set(self.running) <= {mark}:
                if not any(0 < started(each) < since for each in self.keeper.processes()):
                    self.channel.sweep()  # nobody is older, and it outruns any fork bomb
                everyone_ended = end_all(
                    lambda: {p for p in self.keeper.processes() if started(p) >= since}
                )
        if not alone:
            end_all(lambda: self.keeper.of_command(mark))
        if not everyone_ended:
            self._sweep()

    # ------------------------------------------------------------ limits

    def watch(self) -> None:
        """Enforce what no kernel limit does: memory of all together, and the box's own time."""
        if self.gone:
            return
        seconds = self.spec.limits.seconds
        if time.monotonic() - self.born > seconds:
            self.end(f"it lived for its {seconds:g} seconds")
        elif (written := getattr(self.keeper, "written", int)()) > self.spec.limits.disk:
            self.end(f"it wrote {written} bytes over its image, and may {self.spec.limits.disk}")
        elif self._too_much():
            self._sweep(End.MEMORY)

    def _sweep(self, *why: End) -> None:
        """End every process of the box but those that keep it, and what was still to begin."""
        with self.lock:  # what others ask for now begins when that is done
            for each in self.running.values():
                each.killed.extend(why)
                each.call_off()
            self.channel.sweep()
            everyone_ended = end_all(self.keeper.processes)
        if not everyone_ended:
            self.end("its processes could not be killed")

    def _too_much(self) -> bool:
        struck, self.struck = self.struck, self.keeper.struck()
        return self.struck > struck or self.keeper.memory() > self.spec.limits.memory

    # ------------------------------------------------------------ files

    def read(self, path: str, *, cap: int = 20 * MB) -> bytes:
        """See `Sandbox.read`."""
        where = shlex.quote(self._place(path))
        result = self.exec(_READ.format(path=where), timeout=_BOOKKEEPING, cap=cap)
        self._raise(result, path)
        if result.dropped:
            size = cap + result.dropped
            raise OSError(errno.EFBIG, f"{size} bytes, and the cap is {cap}", path)
        return result.stdout

    def write(self, path: str, data: bytes) -> None:
        """See `Sandbox.write`."""
        place = self._place(path)
        where, folder = shlex.quote(place), shlex.quote(str(PurePosixPath(place).parent))
        command = _WRITE.format(path=where, folder=folder)
        self._raise(self.exec(command, timeout=_BOOKKEEPING, stdin=data), path)

    def _place(self, path: str) -> str:
        if not path or "\0" in path:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return str(PurePosixPath(self.keeper.workdir) / path)

    def _raise(self, result: Result, path: str) -> None:
        if result.ok:
            return
        said = result.stderr.decode(errors="replace").strip()
        kind = _ERRORS.get(result.code, errno.EIO)
        for number in _SAID:
            if os.strerror(number) in said:
                kind = number
        why = said.splitlines()[-1] if said and kind == errno.EIO else os.strerror(kind)
        raise OSError(kind, why, path)

    def snapshot(self) -> Snapshot:
        """See `Sandbox.snapshot`."""
        cap = 2 * self.spec.limits.disk + 20 * MB
        done = self.exec("tar --ignore-failed-read -cf - .", timeout=_BOOKKEEPING, cap=cap)
        if not done.ok or done.dropped:
            raise SandboxError(f"box {self.id}: no snapshot: {done.stderr.decode()[-300:]!r}")
        return Snapshot(done.stdout)

    def restore(self, snapshot: Snapshot | None) -> None:
        """See `Sandbox.restore`."""
        self._insist()
        self._sweep()
        given = self.spec.files
        first = snapshot is not None and given is not None and snapshot.archive == given.archive
        try:
            fresh = self.keeper.renew(first)
        except SandboxError:
            self.end("its working folder could not be renewed")
            raise
        if fresh and (first or snapshot is None):
            return
        self.fill(snapshot, "true" if fresh else _EMPTY)

    def fill(self, snapshot: Snapshot | None, first: str = "true") -> None:
        """Unpack files into the working folder, after the command `first`."""
        command, data = first, b""
        owner = "--same-owner --numeric-owner" if self.spec.workdir else "--no-same-owner"
        if snapshot is not None:
            command, data = f"{first} && tar {owner} -xpf -", snapshot.archive
        done = self.exec(command, timeout=_BOOKKEEPING, stdin=data)
        if not done.ok:
            raise SandboxError(f"box {self.id}: not restored: {done.stderr.decode()[-300:]!r}")

    # ------------------------------------------------------------ the end

    def end(self, why: str) -> None:
        """Make an end of it; `why` is what later calls are told."""
        with self.lock:
            if self.ended:  # a box may be gone and still hold its folder and its place
                return
            self.ended, self.gone = True, self.gone or why
        self.keeper.close()
        self.channel.close()
        remove_tree(self.folder)

    def close(self) -> None:
        """See `Sandbox.close`."""
        self.end("it was closed")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _check(command: str, variables: Mapping[str, str], timeout: float, cap: int) -> None:
    if "\0" in command:
        raise UserError("a command cannot hold a zero byte")
    for name, value in variables.items():
        if not name.isidentifier() or not name.isascii() or "\0" in value or name == MARK:
            raise UserError(f"{name}={value!r} cannot be an environment variable of a box")
    if not timeout > 0 or cap < 0:
        raise UserError(f"timeout={timeout} and cap={cap}: give more than 0")
