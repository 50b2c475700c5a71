"""Boxes that are containers: a root file system of their own, and the kernel counts what they use.

The container's first process is the launcher (see `channel`), so a command costs no call of the
engine: that is asked only to start a box and to end it. Commands run as nobody, or as you if you
are not root, without capabilities and without network; all is read-only but `/work`, `/tmp` and the
home, which are in memory. With `BoxSpec.workdir` they run as root in a folder of the image, which
they may write as they may the rest of it. A container goes with its launcher, and its launcher with
this process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foldgym.containers import engine
from foldgym.containers.channel import Channel
from foldgym.containers.labels import load, state_folder
from foldgym.containers.processes import below, end_all, marked, send, started
from foldgym.containers.sandbox import BoxSpec, Limits
from foldgym.errors import FoldgymError, SandboxError, UserError

INSIDE = "/run/foldgym"
WORK, HOME = "/work", "/home/box"
_ROOT_HOME = "/root"
_ROOT_POWERS = ["CHOWN", "DAC_OVERRIDE", "FOWNER"]
"""What root needs for files of other owners: nothing else of root's is given."""
_LAYER_EVERY = 2.0
"""Seconds between two looks at how much was written over an image."""
_NOBODY = 65534
_SHARED_MEMORY = 64_000_000
_PATIENCE, _FIRST = 30.0, 5.0
"""Seconds for an engine to come back, which may be restarting: one that has answered this process,
and one that has not."""
_CGROUPS = Path("/sys/fs/cgroup")
_seen: set[str] = set()
"""Engines that have answered."""


def unavailable() -> str:
    """Why there can be no box here; empty if there can."""
    try:
        told = engine.ask("info").get("SecurityOptions") or ()
    except FoldgymError as problem:
        return str(problem)
    if any(each.startswith("name=rootless") for each in told):
        return (
            f"the engine at {engine.address()} is rootless: its processes have ids that we cannot "
            "signal; use bubblewrap, or an engine that runs as root"
        )
    _seen.add(engine.address())
    return ""


def ready() -> None:
    """Wait for the engine. Raises `SandboxError` if it stays silent: a run outlives a restart."""
    until = time.monotonic() + (_PATIENCE if engine.address() in _seen else _FIRST)
    while True:
        try:
            engine.ask("ping")
        except engine.Silent:
            if time.monotonic() > until or not engine.address():
                raise
            time.sleep(0.2)
        else:
            _seen.add(engine.address())
            return


def unfit(spec: BoxSpec) -> str:
    """Why there can be no box of this kind; empty if there can."""
    try:
        engine.image_of(spec.image)
    except engine.Silent as problem:  # once it has answered, `start` waits for it
        return "" if engine.address() in _seen else str(problem)
    except FoldgymError as problem:
        return str(problem)
    return ""


class Container:
    """The keeper of one box."""

    def __init__(
        self,
        container: str,
        first: int,
        variables: Mapping[str, str],
        workdir: str = "",
        layer: str = "",
    ) -> None:
        """`workdir`: the folder of the image that it works in; `layer`: where this machine has what
        it writes over the image, if that can be told."""
        self.container, self.first, self.variables = container, first, variables
        self.workdir = workdir or WORK
        self.home = _ROOT_HOME if workdir else HOME
        self.layer, self.measured, self.bytes = layer, time.monotonic(), 0
        self.holders = (0, first)
        self.ticks = started(first)
        self.cgroup = _cgroup(first)

    def alive(self) -> bool:
        """Whether the launcher runs."""
        return self.ticks > 0 and started(self.first) == self.ticks

    def processes(self) -> set[int]:
        """Everyone in the container's control group but the launcher."""
        try:
            text = (self.cgroup / "cgroup.procs").read_text()
        except OSError:  # it went with its last process
            return set()
        return {int(each) for each in text.split()} - {self.first, 0}

    def of_command(self, mark: str) -> set[int]:
        """By the variable that its shell was started with, and by descent."""
        inside = self.processes()
        text = f"FOLDGYM_EXEC={mark}".encode()
        return below({each for each in inside if marked(each, text)}, inside)

    def memory(self) -> int:
        """Bytes of everyone that are not files."""
        count = _count(self.cgroup / "memory.stat", "total_rss")  # version 1 of control groups
        return count or _count(self.cgroup / "memory.stat", "anon")

    def written(self) -> int:
        """Bytes of the files written over the image, looked at now and then; 0 if nobody knows."""
        if self.layer and time.monotonic() > self.measured + _LAYER_EVERY:
            with contextlib.suppress(OSError, ValueError, subprocess.SubprocessError):
                told = subprocess.run(
                    ["du", "-sxB1", self.layer], capture_output=True, timeout=_FIRST, check=False
                )
                self.bytes = int(told.stdout.split(b"\t")[0])
            self.measured = time.monotonic()
        return self.bytes

    def renew(self, files: bool) -> bool:
        """The engine mounts nothing anew in a container that runs."""
        return False

    def struck(self) -> int:
        """How many processes the kernel has killed because all together held too much."""
        old = _count(self.cgroup / "memory.oom_control", "oom_kill")
        return old or _count(self.cgroup / "memory.events", "oom_kill")

    def close(self) -> None:
        """End the launcher, and the kernel everyone with it; then the engine forgets them."""
        if self.alive():
            send(self.first, signal.SIGKILL)
        try:
            engine.remove(self.container)
        except FoldgymError:  # the engine is away: it removes what has ended when it is back
            end_all(lambda: self.processes() | ({self.first} if self.alive() else set()))


def _count(path: Path, name: str) -> int:
    with contextlib.suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[0] == name:
                return int(words[1])
    return 0


def _cgroup(process: int) -> Path:
    """Where the kernel accounts for the box of this process. Raises `SandboxError`."""
    own: str = ""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{process}/cgroup").read_text().splitlines():
            _, kind, place = line.split(":", 2)
            if kind == "memory" or (not kind and not own):
                own = f"{kind}{place}"
    found = _CGROUPS / own
    if not own.strip("/") or not (found / "cgroup.procs").exists():
        raise SandboxError("the engine's containers cannot be seen here: is it on this machine?")
    return found


def start(spec: BoxSpec, folder: Path) -> tuple[Container, Channel]:
    """A box whose control files are below `folder`. Raises `SandboxError`, `UserError`."""
    channel = Channel(folder / "control", INSIDE, spec.limits, own_space=True, own_users=False)
    user = 0 if spec.workdir else _NOBODY if os.geteuid() == 0 else os.getuid()
    (folder / "passwd").write_text(
        f"root:x:0:0:root:/root:/bin/bash\nbox:x:{user}:{user}:box:{HOME}:/bin/bash\n"
    )
    (folder / "group").write_text(f"root:x:0:\nbox:x:{user}:\n")
    until = time.monotonic() + _PATIENCE
    try:
        while True:
            try:
                return _launch(spec, folder, channel, user), channel
            except engine.Silent:
                if time.monotonic() > until:
                    raise
                ready()
    except BaseException:
        channel.close()
        raise


def _launch(spec: BoxSpec, folder: Path, channel: Channel, user: int) -> Container:
    image = engine.image_of(spec.image)
    _seen.add(engine.address())
    name = f"foldgym-{folder.name}"
    engine.remove(name)  # of an attempt during which the engine went
    try:
        engine.ask(
            "create_container",
            image,
            ["--noprofile", "--norc", f"{INSIDE}/launcher"],
            entrypoint=["/bin/bash"],
            name=name,
            hostname="box",
            user=f"{user}:{user}",
            working_dir="/" if spec.workdir else WORK,  # one that is missing would be made
            network_disabled=True,
            stop_signal="SIGKILL",  # the launcher, a first process, hears no other
            labels=_labels(folder),
            host_config=engine.ask("create_host_config", **_host_config(spec, folder, user)),
        )
        engine.ask("start", name)
    except engine.Refused as problem:
        engine.remove(name)
        if problem.status < 500 or "bash" in str(problem):
            raise UserError(f"image {image!r} cannot hold a box: {problem}") from problem
        raise SandboxError(f"no docker box: {problem}") from problem
    try:
        sheet = engine.ask("inspect_container", name)
        variables = dict(each.split("=", 1) for each in sheet["Config"]["Env"] or () if "=" in each)
        for ours in ("HOME", "HOSTNAME"):
            variables.pop(ours, None)
        keeper = Container(
            name, int(sheet["State"]["Pid"]), variables, spec.workdir, _layer(spec, sheet)
        )
        channel.connect(keeper.alive)
    except engine.Silent:
        raise
    except SandboxError as problem:
        engine.remove(name)
        raise SandboxError(f"no docker box: {problem}") from problem
    return keeper


def _layer(spec: BoxSpec, sheet: Mapping[str, Any]) -> str:
    place = str(((sheet.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir") or "")
    return place if spec.workdir and os.access(place, os.R_OK) else ""


def _labels(folder: Path) -> dict[str, str]:
    """What tells whose it is, should the folder be lost."""
    label = load(folder)
    if label is None:
        raise SandboxError(f"{folder} is no folder of a box")
    return {
        "foldgym.state": str(state_folder()),
        "foldgym.box": label.id,
        "foldgym.run": label.run,
        "foldgym.pid": str(label.owner),
        "foldgym.started": str(label.owner_started),
        "foldgym.boot": label.boot,
    }


def _host_config(spec: BoxSpec, folder: Path, user: int) -> dict[str, Any]:
    limits = spec.limits
    owner = f"uid={user},gid={user}"
    sizes = f"rw,exec,nosuid,nodev,size={limits.disk},nr_inodes={max(10_000, limits.disk // 4096)}"
    memory = _memory(limits, 0 if spec.workdir else 3)
    mounts = {INSIDE: folder / "control"}
    folders: dict[str, str] = {}
    if not spec.workdir:
        mounts |= {"/etc/passwd": folder / "passwd", "/etc/group": folder / "group"}
        folders = {
            WORK: f"{sizes},mode=755,{owner}",
            HOME: f"{sizes},mode=755,{owner}",
            "/tmp": f"{sizes},mode=1777",
        }
    return {
        "auto_remove": True,
        "mounts": [
            {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": True}
            for target, source in mounts.items()
        ],
        "tmpfs": folders,
        "shm_size": min(limits.disk, _SHARED_MEMORY),
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": limits.pids + 1,
        "nano_cpus": limits.cpus * 10**9,
        "network_mode": "none",
        "cap_drop": ["ALL"],
        "cap_add": _ROOT_POWERS if spec.workdir else [],
        "security_opt": ["no-new-privileges"],
        "read_only": not spec.workdir,
        "log_config": {"Type": "none"},
    }


def _memory(limits: Limits, folders: int) -> int:
    """What the kernel allows: files in memory count too, and must not be able to starve the box.

    What the processes hold beside them is seen by `Box.watch`.
    """
    return limits.memory + folders * limits.disk + min(limits.disk, _SHARED_MEMORY)
