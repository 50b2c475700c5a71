"""Files that many boxes start with, unpacked once for each content and shared read-only.

The folders belong to this process and go with it; after a kill the reaper finds them by their name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from foldgym.containers.labels import state_folder
from foldgym.containers.processes import remove_tree, started
from foldgym.containers.sandbox import Snapshot

KEPT = 32
"""Trees that no box uses and that are kept all the same."""
_PREFIX = "trees-"


class Trees:
    """The trees of this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.making: dict[str, threading.Lock] = {}
        self.used: dict[str, int] = {}
        """How many boxes each has, by digest; the one used last is the last."""
        self.folder: Path | None = None
        self.owner = 0

    @contextmanager
    def borrow(self, files: Snapshot, unpack: Callable[[Path], None]) -> Generator[Path]:
        """The folder of these files, made by `unpack` if it is not there; kept while borrowed."""
        digest = hashlib.sha256(files.archive).hexdigest()
        with self.lock:
            folder = self._folder()
            self.used[digest] = self.used.pop(digest, 0) + 1
            making = self.making.setdefault(digest, threading.Lock())
        try:
            tree = folder / digest
            with making:
                if not tree.exists():
                    fresh = folder / f"new-{uuid.uuid4().hex}"
                    try:
                        unpack(fresh)
                        fresh.rename(tree)
                    except BaseException:
                        remove_tree(fresh)
                        raise
            yield tree
        finally:
            self._give_back(digest)

    def _folder(self) -> Path:
        if self.folder is None or self.owner != os.getpid() or not self.folder.exists():
            self.owner = os.getpid()
            name = f"{_PREFIX}{self.owner}-{started(self.owner)}-{uuid.uuid4().hex}"
            self.folder = state_folder() / name
            self.folder.mkdir(mode=0o711)
            self.used.clear()
            self.making.clear()
        return self.folder

    def _give_back(self, digest: str) -> None:
        with self.lock:
            if digest not in self.used or self.folder is None:
                return
            self.used[digest] -= 1
            idle = [each for each, boxes in self.used.items() if not boxes]
            for each in idle[: max(0, len(idle) - KEPT)]:
                del self.used[each], self.making[each]
                shutil.rmtree(self.folder / each, ignore_errors=True)

    def close(self) -> None:
        """At the end of the process."""
        with self.lock:
            if self.folder is not None and self.owner == os.getpid():
                shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


def clear() -> None:
    """Remove the trees of processes that are gone."""
    for folder in state_folder().glob(f"{_PREFIX}*"):
        owner, _, rest = folder.name.removeprefix(_PREFIX).partition("-")
        with contextlib.suppress(ValueError):
            if started(int(owner)) != int(rest.partition("-")[0]):
                shutil.rmtree(folder, ignore_errors=True)


trees = Trees()
