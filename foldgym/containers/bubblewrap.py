"""Boxes of Linux namespaces, by bubblewrap: no daemon, no root, gone with their first process.

A box sees programs read-only (this machine's, or those of a root file system), its own processes
and no network. `/work`, `/tmp` and its home are in memory, of limited size; the files that a box
starts with are unpacked once for all boxes, and each writes into a layer of its own. The launcher
is process 1 of the box's process namespace: nothing inside can kill it, and the kernel ends all
others with it. Memory is limited per process by the kernel and for all together by `watch`; cores
by affinity, which a program may change for itself.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from foldgym.containers.box import Box
from foldgym.containers.channel import Channel
from foldgym.containers.labels import state_folder
from foldgym.containers.mounts import mounter
from foldgym.containers.processes import (
    below,
    end_all,
    everyone,
    heeding,
    marked,
    namespace,
    private_memory,
)
from foldgym.containers.sandbox import BoxSpec
from foldgym.containers.trees import trees
from foldgym.errors import SandboxError, UserError

INSIDE = "/run/foldgym"
WORK, HOME = "/work", "/home/box"
TREE = "/run/tree"
"""Where a box's own files are shared from; covered once they are in its working folder."""
_PROBE = "rm -r a && mkdir a && ! ls -A a | grep . && [ -w . ]"
"""What older kernels cannot do in an overlay without root: replace a folder."""
_WRITABLE = {"/tmp": "1777", "/dev/shm": "1777", HOME: "755", WORK: "755"}
_NOBODY = 65534
_turns = itertools.count()
_OWN = {"proc", "dev", "sys", "tmp", "run", "work", "home", "root", "lost+found", "mnt", "media"}
_PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_SETTINGS = ("alternatives", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "mime.types", "localtime")


def unavailable() -> str:
    """Why there can be no box here; empty if there can."""
    if shutil.which("bwrap") is None:
        return "bwrap is not installed (apt-get install bubblewrap)"
    command = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=20,
            user=_nobody(),
            group=_nobody(),
            extra_groups=() if _nobody() else None,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as problem:
        return f"bwrap does not start: {problem}"
    if done.returncode:
        said = " ".join(done.stderr.split())
        return f"{said} (are user namespaces allowed? sysctl kernel.unprivileged_userns_clone)"
    return ""


def unfit(spec: BoxSpec) -> str:
    """Why there can be no box of this kind; empty if there can."""
    if spec.workdir:
        return f"workdir={spec.workdir!r}: only docker boxes work in a folder of their image"
    if (Path(spec.image or "/") / "usr").is_dir():
        return ""
    return f"image={spec.image!r} is no root file system: it has no folder usr"


def _nobody() -> int | None:
    """Never root, not even outside: the kernel exempts root from the limit on processes."""
    return _NOBODY if os.geteuid() == 0 else None


class Namespaces:
    """The keeper of one box."""

    workdir, home = WORK, HOME
    variables: Mapping[str, str] = {}

    def __init__(self, process: subprocess.Popen[bytes], first: int, disk: int) -> None:
        self.process, self.first, self.disk = process, first, disk
        self.holders = (process.pid, first)
        self.space, self.mounts = namespace(first), namespace(first, "mnt")
        self.shared = ExitStack()
        """Gives the tree back that the box starts with."""
        self.tree, self.filled = False, False
        self.mounted: list[str] = []
        if not self.space or self.space == namespace(os.getpid()):
            raise SandboxError("the box's processes cannot be told from ours")

    def alive(self) -> bool:
        """Whether bubblewrap still waits for the launcher."""
        return self.process.poll() is None

    def processes(self) -> set[int]:
        """Everyone in the box's process namespace but the launcher.

        A process that is a namespace of its own inside (none can be made) would not be seen.
        """
        return {each for each in everyone() if namespace(each) == self.space} - {self.first}

    def of_command(self, mark: str) -> set[int]:
        """By the variable that its shell was started with, and by descent."""
        inside = self.processes()
        text = f"FOLDGYM_EXEC={mark}".encode()
        return below({each for each in inside if marked(each, text)}, inside)

    def memory(self) -> int:
        """Private bytes of everyone."""
        return private_memory(self.processes())

    def renew(self, files: bool) -> bool:
        """Mount anew all that can be written; in the working folder over the box's own files."""
        if not can_mount() or (files and not self.tree):
            return False
        self.mount(files)
        return True

    def mount(self, files: bool) -> None:
        """Have it mounted. Raises `SandboxError`."""
        mounter.ask(
            {
                "process": self.first,
                "space": self.mounts,
                "user": _nobody() or 0,
                "unmount": self.mounted,
                "places": {place: [self.disk, mode] for place, mode in _WRITABLE.items()},
                "base": TREE if files else "",
                "over": WORK,
            }
        )
        self.mounted = [WORK, TREE] if files else []
        self.mounted += _WRITABLE

    def struck(self) -> int:
        """The kernel limits each process alone."""
        return 0

    def close(self) -> None:
        """End the first process; the kernel ends the rest."""
        if self.alive():
            end_all(lambda: {self.first} if self.alive() else set())
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.shared.close()


def start(spec: BoxSpec, folder: Path) -> tuple[Namespaces, Channel]:
    """A box whose control files are below `folder`. Raises `SandboxError`."""
    if not can_mount():
        return _launch(spec, folder, [])
    with ExitStack() as stack:
        options: list[str] = []
        if spec.files is not None:
            unpack = functools.partial(_unpack, spec, folder)
            tree = stack.enter_context(trees.borrow(spec.files, unpack))
            options = ["--ro-bind", str(tree), TREE]
        keeper, channel = _launch(spec, folder, options)
        keeper.tree = keeper.filled = spec.files is not None
        try:
            keeper.renew(keeper.tree)
        except SandboxError:
            keeper.close()
            channel.close()
            raise
        keeper.shared = stack.pop_all()
    return keeper, channel


def _unpack(spec: BoxSpec, folder: Path, tree: Path) -> None:
    """Done in a box: an archive may come from a model's box, and name what it likes."""
    tree.mkdir(mode=0o755)
    if user := _nobody():
        os.chown(tree, user, user)
    inner = folder / "unpacking"
    inner.mkdir(mode=0o711)
    keeper, channel = _launch(spec, inner, ["--bind", str(tree), WORK])
    with Box(f"{folder.name}/unpacking", spec, keeper, channel, inner) as box:
        box.fill(spec.files)


@functools.cache
def can_mount() -> bool:
    """Whether this kernel lets the owner of a box mount in it, overlays too: tried out once."""
    with tempfile.TemporaryDirectory(dir=state_folder()) as name:
        folder, tree = Path(name), Path(name) / "tree"
        folder.chmod(0o711)
        (tree / "a").mkdir(parents=True)
        (tree / "a" / "b").touch()
        if user := _nobody():
            for path in (tree, tree / "a", tree / "a" / "b"):
                os.chown(path, user, user)
        inner = folder / "box"
        inner.mkdir(mode=0o711)
        keeper, channel = _launch(BoxSpec(), inner, ["--ro-bind", str(tree), TREE])
        with Box("probe", BoxSpec(), keeper, channel, inner) as box:
            try:
                keeper.mount(True)
            except SandboxError:
                return False
            return box.exec(_PROBE).ok


def _launch(spec: BoxSpec, folder: Path, options: list[str]) -> tuple[Namespaces, Channel]:
    channel = Channel(folder / "control", INSIDE, spec.limits, own_space=True)
    passwd, group = folder / "passwd", folder / "group"
    user = _nobody() or os.getuid()
    passwd.write_text(f"box:x:{user}:{user}:box:{HOME}:/bin/bash\n")
    group.write_text(f"box:x:{user}:\n")
    ours, theirs = os.pipe()
    log = folder / "bwrap.log"
    try:
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [*heeding(), *_command(spec, channel.folder, passwd, group, theirs, options)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=(theirs,),
                start_new_session=True,
                cwd="/",
                env={},
                user=_nobody(),
                group=_nobody(),
                extra_groups=() if _nobody() else None,
            )
    except OSError as problem:
        os.close(ours)
        raise SandboxError(f"bwrap does not start: {problem}") from problem
    finally:
        os.close(theirs)
    with os.fdopen(ours) as stream:
        told = stream.read()
    try:
        first = int(json.loads(told)["child-pid"])
        keeper = Namespaces(process, first, spec.limits.disk)
        channel.connect(keeper.alive)
    except (ValueError, KeyError, SandboxError) as problem:
        process.kill()
        process.wait()
        channel.close()
        said = " ".join(log.read_text(errors="replace").split())
        raise SandboxError(f"no bubblewrap box: {said or problem}") from problem
    return keeper, channel


def _command(
    spec: BoxSpec, control: Path, passwd: Path, group: Path, info: int, options: list[str]
) -> list[str]:
    disk = str(spec.limits.disk)
    words = [_bwrap(), "--unshare-all", "--unshare-user", "--disable-userns", "--as-pid-1"]
    words += ["--new-session", "--cap-drop", "ALL", "--hostname", "box", "--clearenv"]
    words += ["--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin", "--info-fd", str(info)]
    words += _system(spec.image)
    words += ["--ro-bind", str(passwd), "/etc/passwd", "--ro-bind", str(group), "/etc/group"]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for place in _WRITABLE:
        words += ["--size", disk, "--tmpfs", place]
    words += [*options, "--ro-bind", str(control), INSIDE]
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
    launch = ["/bin/bash", "--noprofile", "--norc", f"{INSIDE}/launcher"]
    cores, taskset = sorted(os.sched_getaffinity(0)), shutil.which("taskset")
    if taskset is not None and spec.limits.cpus < len(cores):
        first = next(_turns) * spec.limits.cpus  # the boxes share all cores, each has its own few
        some = [cores[(first + each) % len(cores)] for each in range(spec.limits.cpus)]
        words = [taskset, "--cpu-list", ",".join(map(str, some)), *words]
    return [*words, "--", *launch]


def _bwrap() -> str:
    path = shutil.which("bwrap")
    if path is None:
        raise UserError("bwrap is not installed: apt-get install bubblewrap")
    return path


def _system(image: str) -> list[str]:
    """The options that show the programs: of a root file system, or of this machine."""
    root = Path(image or "/")
    names = sorted(os.listdir(root)) if image else list(_PROGRAMS)
    words: list[str] = []
    for name in names:
        path = root / name
        if name in _OWN or name == "etc":
            continue
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), f"/{name}"]
        elif path.is_dir():
            words += ["--ro-bind", str(path), f"/{name}"]
    settings = sorted(os.listdir(root / "etc")) if image else [*_SETTINGS, "ssl/certs"]
    for name in settings:
        path = root / "etc" / name
        if name not in ("passwd", "group", "shadow", "gshadow") and path.exists():
            words += ["--ro-bind", str(path), f"/etc/{name}"]
    return words
