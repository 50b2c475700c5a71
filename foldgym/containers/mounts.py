"""Fresh folders for a box that runs: mounted from outside, in its own namespaces.

A box has no right to mount. A small process of ours, as the user that boxes run as, enters the
mount namespace of a box and the user namespace that owns it, where that user holds all rights, and
puts in each place an empty folder in memory, or one that shows a shared tree until it is written to
(overlayfs). What was there is gone with the mount. It takes a fraction of a millisecond whatever
the size of the tree, and it limits the number of files too, which bubblewrap cannot.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from foldgym.errors import SandboxError

_HELPER = r"""
import ctypes, fcntl, json, os, sys
CLONE_NEWUSER, CLONE_NEWNS, NS_GET_USERNS = 0x10000000, 0x00020000, 0xB701
RDONLY, NOSUID, NODEV, DETACH = 1, 2, 4, 2
libc = ctypes.CDLL(None, use_errno=True)
def check(result, what):
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
def mount(kind, place, flags, data):
    words = [each.encode() for each in (kind, place, kind, data)]
    check(libc.mount(words[0], words[1], words[2], flags | NOSUID | NODEV, words[3]), place)
def unmount(place):
    check(libc.umount2(place.encode(), DETACH), place)
def enter(process, space, user):
    mounts = os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    if os.readlink(f"/proc/self/fd/{mounts}") != space:
        raise OSError(3, "the box is gone")
    owner = fcntl.ioctl(mounts, NS_GET_USERNS)
    if user:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    check(libc.setns(owner, CLONE_NEWUSER), "its users")
    check(libc.setns(mounts, CLONE_NEWNS), "its mounts")
def serve(job):
    enter(job["process"], job["space"], job["user"])
    os.umask(0o022)
    base = job["base"]
    for place in job["unmount"]:
        unmount(place)
    for place, (size, mode) in job["places"].items():
        room = f"size={size},nr_inodes={max(10000, size // 4096)}"
        mount("tmpfs", place, 0, f"{room},mode={mode}")
    if base:
        place = job["over"]
        os.mkdir(f"{place}/upper", 0o755)
        os.mkdir(f"{place}/work", 0o755)
        layers = f"lowerdir={base},upperdir={place}/upper,workdir={place}/work"
        mount("overlay", place, 0, layers + ",userxattr")
        mount("tmpfs", base, RDONLY, "size=4k,mode=0")
for line in sys.stdin:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            serve(json.loads(line))
        except BaseException as problem:
            os.write(writer, str(problem).encode()[:1000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, errors="replace") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    print(json.dumps(said), flush=True)
"""


class Mounter:
    """The process that mounts, started when it is first needed; it ends with this one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        self.owner = 0

    def ask(self, job: Mapping[str, Any]) -> None:
        """Have it done. Raises `SandboxError` with what the kernel said."""
        with self.lock:
            process = self._process()
            try:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(json.dumps(job) + "\n")
                process.stdin.flush()
                said = json.loads(process.stdout.readline())
            except (OSError, ValueError) as problem:
                self._end()
                raise SandboxError(f"the process that mounts is gone: {problem}") from problem
        if said:
            raise SandboxError(f"nothing was mounted in the box: {said}")

    def _process(self) -> subprocess.Popen[str]:
        if self.process is not None and self.owner == os.getpid() and self.process.poll() is None:
            return self.process
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-IS", "-c", _HELPER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={},
                cwd="/",
                start_new_session=True,
            )
        except OSError as problem:
            raise SandboxError(f"the process that mounts does not start: {problem}") from problem
        if self.owner != os.getpid():
            self.owner = os.getpid()
            atexit.register(self.close)
        return self.process

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is not None and self.owner == os.getpid():
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
            process.kill()
            process.wait()

    def close(self) -> None:
        """End it."""
        with self.lock:
            self._end()


mounter = Mounter()
