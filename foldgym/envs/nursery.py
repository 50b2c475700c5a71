"""A small server that forks environment processes: light, warm, killable, gone with its parent.

Forking from the main process would copy its threads' locks, and `multiprocessing` would import the
user's script again in every child. This server has one thread, has imported what environments need,
and is started by the first process-isolated environment. When the main process ends, however it
ends, the server's socket closes and it kills every child and itself.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass

from foldgym.errors import UserError

_START = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from foldgym.envs.nursery import serve
serve(int(sys.argv[1]))
"""
_NEEDED = ("pydantic", "foldgym.envs.base", "foldgym.envs.registry", "foldgym.envs.worker")
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""Unless the user's environment says otherwise: a pool of threads would not survive the fork."""


@dataclass(slots=True)
class Child:
    """An environment's process: our end of its socket, and the number its server knows it by."""

    socket: socket.socket
    number: int
    server: _Server

    def kill(self) -> None:
        """End the process and whatever it started, now; safe to call again."""
        self.socket.close()
        self.server.tell(("kill", self.number))


class _Server:
    """The main process' side of the fork server."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.owner = os.getpid()
        self.lock = threading.Lock()
        self.children = 0
        paths = json.dumps([path or os.getcwd() for path in sys.path])
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), paths],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**_ONE_THREAD, **os.environ},
            )
        self.socket = ours
        atexit.register(self.stop)

    @property
    def usable(self) -> bool:
        """Whether it runs, and belongs to this process (not to one that forked us)."""
        return self.owner == os.getpid() and self.process.poll() is None

    def fork(self) -> Child:
        """Ask for a child. It comes up while we already write to its socket."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs, self.lock:
            self.children += 1
            order = pickle.dumps(("fork", self.children, sys.path, os.getcwd()))
            socket.send_fds(self.socket, [len(order).to_bytes(4, "big")], [theirs.fileno()])
            self.socket.sendall(order)
            return Child(ours, self.children, self)

    def tell(self, order: object) -> None:
        """Send an order that needs no answer; a server that is gone has no children either."""
        data = pickle.dumps(order)
        if self.owner != os.getpid():
            return
        with self.lock, contextlib.suppress(OSError):
            self.socket.sendall(len(data).to_bytes(4, "big") + data)

    def stop(self) -> None:
        """Hang up and wait until the server has killed its children."""
        if self.owner != os.getpid():
            return
        self.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=2)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


_lock = threading.Lock()
_servers: list[_Server] = []


def spawn() -> Child:
    """A new process that runs `worker.live` on the other end of the returned socket."""
    if not hasattr(os, "fork"):
        raise UserError("isolation='process' needs an operating system with fork; use 'thread'")
    with _lock:
        for _ in range(2):  # the server itself may have been killed since the last time
            if not _servers or not _servers[-1].usable:
                _servers[:] = [_Server()]
            try:
                return _servers[-1].fork()
            except OSError:
                _servers.clear()
    raise UserError("the server for environment processes ends as soon as it is started")


# ---------------------------------------------------------------- in the server


def serve(fileno: int) -> None:
    """Fork and kill on request until the main process hangs up."""
    for needed in _NEEDED:  # by every child, so it is imported once, before they are forked
        importlib.import_module(needed)
    control = socket.socket(fileno=fileno)
    children: dict[int, int] = {}  # number -> process id
    while True:
        ready, _, _ = select.select([control], [], [], 0.5 if children else None)
        _reap(children)
        if not ready:
            continue
        size, files, _, _ = socket.recv_fds(control, 4, 1)
        order = _read(control, int.from_bytes(size, "big")) if len(size) == 4 else b""
        if not order:
            break
        verb, number, *more = pickle.loads(order)
        if verb == "fork":
            process = os.fork()
            if process == 0:
                control.close()
                _be_child(files[0], *more)
            children[number] = process
            os.close(files[0])
        elif number in children:
            _kill(children.pop(number))
    for process in children.values():
        _kill(process)


def _read(control: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = control.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


def _kill(process: int) -> None:
    """Kill a child of ours with all it started; until it is reaped, its id is its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def _reap(children: dict[int, int]) -> None:
    for number, process in list(children.items()):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(process, os.WNOHANG)[0]:
                del children[number]
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process, signal.SIGKILL)  # what it started and left behind


def _be_child(fileno: int, path: list[str], folder: str) -> None:
    """Never returns."""
    from foldgym.envs.worker import live

    code = 1
    try:
        os.setsid()
        sys.path[:] = path
        os.chdir(folder)
        with socket.socket(fileno=fileno) as link:
            live(link)
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)
