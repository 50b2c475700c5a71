"""The folder where root file systems are kept, and the lock under which one is made."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

from foldgym.containers.images.recipe import Recipe, grounded, sheet, tag
from foldgym.errors import DataError, UserError


def cache_folder() -> Path:
    """$FOLDGYM_CACHE; else /var/cache/foldgym for root, and `foldgym` in a user's own cache folder.

    Root's is not below /root, since boxes run as nobody, who may not look in there.
    """
    if given := os.environ.get("FOLDGYM_CACHE"):
        return Path(given).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/foldgym")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "foldgym"


def images_folder() -> Path:
    """Made if it is missing. Raises `DataError`."""
    folder = cache_folder() / "images"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise DataError(f"no folder {folder}: {problem.strerror}; set FOLDGYM_CACHE") from None
    return folder


def place(name: str) -> Path:
    """Where the tree with this tag is, or would be."""
    return images_folder() / name.removeprefix("foldgym/").replace(":", "-")


@contextlib.contextmanager
def locked(name: str) -> Generator[None]:
    """Only one process makes what has this tag; others wait, and find it made."""
    path = place(name)
    path = path.with_name(f".{path.name}.lock")
    file = path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    while not _is(path, file.fileno()):  # who held it has removed it meanwhile
        file.close()
        file = path.open("w")
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _is(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def half_made(recipe: Recipe) -> Generator[Path]:
    """A folder for the tree of `recipe`, which is there for others when the block ends well.

    What a killed build has left is cleared away first; call it under the lock.
    """
    final = place(tag(recipe))
    half = final.with_name(f".{final.name}.half")
    discard(half)
    (half / "root").mkdir(parents=True)
    try:
        yield half / "root"
        facts = {"tag": tag(recipe), "size": _size(half), "recipe": sheet(grounded(recipe))}
        (half / "recipe.json").write_text(json.dumps(facts, indent=2) + "\n")
        half.rename(final)
    finally:
        discard(half)


def discard(folder: Path) -> None:
    """Remove a tree, unless something is mounted in it."""
    if not folder.exists():
        return
    mounts = Path("/proc/self/mounts").read_text().split("\n")
    inside = [line.split()[1] for line in mounts if f"{folder}/" in line]
    if inside:
        raise UserError(f"{inside[0]} is mounted: umount it before {folder} can be removed")
    shutil.rmtree(folder)


def _size(folder: Path) -> int:
    """Bytes on the disk."""
    done = subprocess.run(["du", "-sxB1", str(folder)], stdout=subprocess.PIPE, check=False)
    return int(done.stdout.split()[0])
