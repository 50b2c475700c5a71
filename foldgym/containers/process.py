"""Boxes that isolate nothing: processes of this user, in a folder, with limits per process.

For tasks whose commands one would run oneself. What a command does, it does to this machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from foldgym.containers.channel import Channel
from foldgym.containers.processes import below, end_all, everyone, marked, private_memory
from foldgym.containers.sandbox import BoxSpec
from foldgym.errors import SandboxError, UserError

_ADOPT = """
import ctypes, os, signal, sys
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
for each in signal.valid_signals():
    if signal.getsignal(each) is signal.SIG_IGN:
        signal.signal(each, signal.SIG_DFL)
os.execv(sys.argv[1], [sys.argv[1], "--noprofile", "--norc", sys.argv[2]])
"""
"""Makes the launcher the parent of every process of the box that loses its own. There no signal is
ignored, as Python ignores some, and what a script runs in the background SIGINT."""
WARNING = "the process backend isolates nothing: commands run as you, on this machine"


def unavailable() -> str:
    """Why there can be no box here; empty if there can."""
    if not Path("/proc/self/stat").exists() or shutil.which("bash") is None:
        return "it needs Linux and bash"
    return ""


def unfit(spec: BoxSpec) -> str:
    """Why there can be no box of this kind; empty if there can."""
    if spec.workdir:
        return f"workdir={spec.workdir!r}: only docker boxes work in a folder of their image"
    if not spec.image:
        return ""
    return f"image={spec.image!r}: the process backend has no image; use bubblewrap or docker"


class Processes:
    """The keeper of one box."""

    variables: Mapping[str, str] = {}

    def __init__(self, process: subprocess.Popen[bytes], name: str, folder: Path) -> None:
        self.process, self.name = process, name
        self.holders = (process.pid, 0)
        self.workdir, self.home = str(folder / "work"), str(folder / "home")

    def alive(self) -> bool:
        """Whether the launcher runs."""
        return self.process.poll() is None

    def processes(self) -> set[int]:
        """Everyone that carries the box's name, or descends from the launcher."""
        return members(self.name, {self.process.pid}) - {self.process.pid}

    def of_command(self, mark: str) -> set[int]:
        """By the variable that its shell was started with, and by descent."""
        inside = self.processes()
        text = f"FOLDGYM_EXEC={mark}".encode()
        return below({each for each in inside if marked(each, text)}, inside)

    def memory(self) -> int:
        """Private bytes of everyone."""
        return private_memory(self.processes())

    def renew(self, files: bool) -> bool:
        """Its folder is one of this machine and stays."""
        return False

    def struck(self) -> int:
        """The kernel limits each process alone."""
        return 0

    def close(self) -> None:
        """End everyone."""
        end_all(lambda: members(self.name, {self.process.pid} if self.alive() else set()))
        self.process.wait()


def members(name: str, roots: set[int]) -> set[int]:
    """Everyone that was started with the box's name in its environment, and their descendants."""
    text = f"FOLDGYM_BOX={name}".encode()
    here = set(everyone())
    return below(roots | {each for each in here if marked(each, text)}, here)


def start(spec: BoxSpec, folder: Path) -> tuple[Processes, Channel]:
    """A box in `folder`. Raises `SandboxError`."""
    control = folder / "control"
    channel = Channel(control, str(control), spec.limits, own_space=False)
    for name in ("work", "home"):
        (folder / name).mkdir()
    try:
        process = subprocess.Popen(
            [sys.executable, "-IS", "-c", _ADOPT, _bash(), str(control / "launcher")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd=folder / "work",
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "FOLDGYM_BOX": folder.name},
        )
    except OSError as problem:
        raise SandboxError(f"bash does not start: {problem}") from problem
    keeper = Processes(process, folder.name, folder)
    try:
        channel.connect(keeper.alive)
    except SandboxError:
        keeper.close()
        channel.close()
        raise
    return keeper, channel


def _bash() -> str:
    path = shutil.which("bash")
    if path is None:
        raise UserError("the process backend needs bash")
    return path
