"""What a sandbox is: a folder to work in, a shell, limits, and an end."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Protocol, Self

from foldgym.errors import DataError, UserError

MB = 1_000_000
_MOUNTED = ("dev", "proc", "run", "sys", "tmp")


class End(Enum):
    """Why a command ended."""

    EXITED = "it ended by itself, or something in the box killed it"
    TIMEOUT = "it outlived its time and was killed with all it had started"
    MEMORY = "the box held more memory than it may, and its commands were killed"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one box may use. `Limits(memory=256 * MB, pids=64)`.

    `memory`, `disk` and `file` are bytes: of all processes together, of each writable folder, and
    of one file. `pids` counts processes and threads. `cpus` are cores. `seconds` is the wall clock
    of the whole box, after which it is ended; of one command see `exec`.
    """

    memory: int = 1_000 * MB
    disk: int = 500 * MB
    file: int = 200 * MB
    pids: int = 256
    cpus: int = 1
    seconds: float = 3600.0

    def __post_init__(self) -> None:
        for name in ("memory", "disk", "file", "pids", "cpus", "seconds"):
            if getattr(self, name) <= 0:
                raise UserError(f"a box's limit {name} is {getattr(self, name)}: give more than 0")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The files of a box's working folder, as a tar archive. Processes are not part of it."""

    archive: bytes


@dataclass(frozen=True, slots=True)
class BoxSpec:
    """What a box is made of. `BoxSpec(files=pack("project"), limits=Limits(pids=64))`.

    `files` is what the working folder `/work` starts with. `image` is the tag of an image for
    docker and the folder of a root file system for bubblewrap; without one a box has the newest
    base image, or sees this machine's programs, read-only. `workdir` is a folder of the image that
    is the working folder in the place of `/work`, as it lies there: commands are root's, without
    root's powers over the machine, and may write all of the image's files, in a layer that goes
    with the box (docker only). `environment` is all that a
    command finds set, beside PATH, HOME and the like: nothing of ours is passed on. `untrusted`
    says that the commands are a model's, so that a box that isolates nothing is refused. `run`
    names the run in listings.
    """

    files: Snapshot | None = None
    image: str = ""
    workdir: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    limits: Limits = field(default_factory=Limits)
    untrusted: bool = True
    run: str = ""

    def __post_init__(self) -> None:
        parts = PurePosixPath(self.workdir).parts
        if self.workdir and (parts[0] != "/" or len(parts) == 1 or ".." in parts):
            raise UserError(f"workdir={self.workdir!r} is no folder of an image, such as /testbed")
        if len(parts) > 1 and parts[1] in _MOUNTED:
            raise UserError(f"workdir={self.workdir!r}: a box has its own /{parts[1]}")


@dataclass(frozen=True, slots=True)
class Result:
    """`Result(0, b"3 passed\\n", b"", End.EXITED, 0.9)`: what a command did, whatever it did.

    `code` is the exit code; 128 + n if signal n ended it, so 137 after a kill. Of a stream longer
    than the cap the first and the last half of the cap are kept, with a line between that says how
    much is missing; `dropped` counts those bytes.
    """

    code: int
    stdout: bytes
    stderr: bytes
    end: End
    seconds: float
    dropped: int = 0

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with code 0."""
        return self.code == 0 and self.end is End.EXITED

    @property
    def text(self) -> str:
        """Its output, then its errors; bytes that are no UTF-8 are replaced."""
        return (self.stdout + self.stderr).decode(errors="replace")


class Sandbox(Protocol):
    """A box. Every method raises `SandboxError` once the box is gone; closing again is fine."""

    @property
    def id(self) -> str:
        """A name that no other box has."""
        ...

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
        """Run a bash command in a shell of its own; several may run at once, from threads.

        `timeout` in seconds; `cwd` absolute or below the working folder; `cap` in bytes for each of
        stdout and stderr. Variables and directories do not carry over, background processes do.
        A command that fails is a `Result`.
        """
        ...

    def read(self, path: str, *, cap: int = 20 * MB) -> bytes:
        """A file's bytes. Raises `OSError` (FileNotFoundError, ...) as `open` would, and if it is
        longer than `cap`."""
        ...

    def write(self, path: str, data: bytes) -> None:
        """Write a file; its folders are made. Raises `OSError` where the box does not allow it."""
        ...

    def snapshot(self) -> Snapshot:
        """The working folder as it is now, less what the box's own user may not read."""
        ...

    def restore(self, snapshot: Snapshot | None) -> None:
        """End every process, and make the working folder what it was (None: empty).

        Quick for the files that the box began with. Where the backend can, all else that was
        written in the box goes as well.
        """
        ...

    def close(self) -> None:
        """End the box with all its processes and files."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def pack(folder: str | Path | Mapping[str, bytes]) -> Snapshot:
    """A folder of this machine, or `{"src/a.py": b"..."}`, as files for a box.

    Links stay links and are not followed. Owners are dropped and times are zero, so that the same
    files always give the same bytes. Raises `DataError` for what is no folder.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        if isinstance(folder, Mapping):
            for name, data in sorted(folder.items()):
                if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise DataError(f"{name!r} is not below the box's working folder")
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(data), 0o644
                archive.addfile(entry, io.BytesIO(data))
        else:
            root = Path(folder)
            if not root.is_dir():
                raise DataError(f"{str(root)!r} is not a folder")
            for path in sorted(root.rglob("*")):
                if path.is_socket():  # the one kind for which there is no entry
                    continue
                entry = archive.gettarinfo(path, path.relative_to(root).as_posix())
                if not (entry.isreg() or entry.isdir() or entry.issym()):
                    continue  # pipes and devices have no place in a box
                entry.uid = entry.gid = entry.mtime = 0
                entry.uname = entry.gname = ""
                if entry.isreg():
                    with path.open("rb") as file:
                        archive.addfile(entry, file)
                else:
                    archive.addfile(entry)
    return Snapshot(stream.getvalue())
