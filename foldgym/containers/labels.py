"""Whose a box is: a small file beside it, so that a later process can find what a run left."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from foldgym.containers.processes import boot_id, started
from foldgym.errors import SandboxError

LABEL = "label.json"


@dataclass(frozen=True, slots=True)
class Label:
    """The run and the process that own a box, and the processes that hold it.

    A process is named by its id and the tick at which it started; `keeper` is the outermost process
    of the box, `inner` the first one inside. 0: not started yet, or none.
    """

    id: str
    backend: str
    run: str
    boot: str
    owner: int
    owner_started: int
    keeper: int = 0
    keeper_started: int = 0
    inner: int = 0
    inner_started: int = 0

    @property
    def orphan(self) -> bool:
        """Whether the process that owned it is gone."""
        return self.boot != boot_id() or started(self.owner) != self.owner_started


def state_folder() -> Path:
    """Where the boxes of this user keep their files: below $FOLDGYM_STATE, or the temporary folder.

    Raises `SandboxError` if somebody else made it: what lies there could not be trusted.
    """
    base = os.environ.get("FOLDGYM_STATE") or tempfile.gettempdir()
    folder = Path(base) / f"foldgym-boxes-{os.getuid()}"
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise SandboxError(f"{folder} is not ours alone; remove it, or set FOLDGYM_STATE")
    return folder


def new_label(backend: str, run: str) -> tuple[Label, Path]:
    """A label for a new box of this process, and its folder with the label in it."""
    owner = os.getpid()
    ticks = started(owner)
    name = f"{owner}-{ticks}-{uuid.uuid4().hex}"  # two runs with one seed share this machine
    label = Label(name, backend, run, boot_id(), owner, ticks)
    folder = state_folder() / name
    folder.mkdir(mode=0o711)
    save(label, folder)
    return label, folder


def held_by(label: Label, keeper: int, inner: int) -> Label:
    """The label, now that the box runs."""
    return replace(
        label,
        keeper=keeper,
        keeper_started=started(keeper),
        inner=inner,
        inner_started=started(inner),
    )


def save(label: Label, folder: Path) -> None:
    """Write it in one piece: a reader sees the old one or the new one."""
    fresh = folder / (LABEL + ".new")
    fresh.write_text(json.dumps(asdict(label)))
    fresh.rename(folder / LABEL)


def load(folder: Path) -> Label | None:
    """The label of a box's folder; of one whose owner was killed early, what its name tells.

    None if it is no folder of a box.
    """
    try:
        return Label(**json.loads((folder / LABEL).read_text()))
    except (OSError, ValueError, TypeError):
        pass
    owner, _, rest = folder.name.partition("-")
    ticks = rest.partition("-")[0]
    if not (owner.isdigit() and ticks.isdigit()):
        return None
    return Label(folder.name, "", "", boot_id(), int(owner), int(ticks))
