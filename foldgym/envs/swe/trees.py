"""A project's files outside any box: read from an archive, compared, and written as one."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from foldgym.containers import Snapshot
from foldgym.envs.swe.task import SweTask
from foldgym.errors import DataError

IGNORED = frozenset(
    (".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".tox")
)
"""Folders that are no part of a project, wherever they lie."""
_COMPILED = (".pyc", ".pyo")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file's bytes, or where a link points; `executable` is all that counts of its mode."""

    data: bytes
    executable: bool = False
    link: bool = False

    @property
    def mode(self) -> str:
        """As git writes it."""
        return "120000" if self.link else "100755" if self.executable else "100644"


Tree: TypeAlias = dict[str, Entry]
"""Files and links by path; folders are there by what is in them."""


@dataclass(frozen=True, slots=True)
class Change:
    """One path, before and after; None where there is nothing."""

    path: str
    before: Entry | None
    after: Entry | None


def ignored(path: str) -> bool:
    """Whether a path is nobody's work: caches, compiled files, git's own."""
    return path.endswith(_COMPILED) or not IGNORED.isdisjoint(PurePosixPath(path).parts)


def remains() -> str:
    """What is ignored, as a condition of `find`."""
    names = [*sorted(IGNORED), *(f"*{each}" for each in _COMPILED)]
    return "\\( " + " -o ".join(f"-name '{each}'" for each in names) + " \\)"


def read_tree(archive: bytes) -> Tree:
    """The files and links of a tar archive, plain or compressed.

    What is neither, what is ignored and names that leave the folder are left out. Raises
    `DataError` for what is no archive.
    """
    tree: Tree = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                path = _clean(member.name)
                if not path or ignored(path):
                    continue
                if member.issym():
                    tree[path] = Entry(member.linkname.encode(errors="surrogateescape"), link=True)
                elif member.islnk():
                    if first := tree.get(_clean(member.linkname)):
                        tree[path] = first
                elif member.isreg():
                    file = tar.extractfile(member)
                    data = file.read() if file is not None else b""
                    tree[path] = Entry(data, bool(member.mode & 0o100))
    except (tarfile.TarError, EOFError, OSError) as problem:
        raise DataError(f"no tar archive: {problem}") from None
    return tree


def _clean(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        return ""
    return "" if path == PurePosixPath(".") else path.as_posix()


def write_tree(tree: Mapping[str, Entry]) -> Snapshot:
    """The same tree always gives the same bytes; owners are dropped and times are zero."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, entry in sorted(tree.items()):
            member = tarfile.TarInfo(path)
            member.mode = 0o755 if entry.executable else 0o644
            if entry.link:
                member.type = tarfile.SYMTYPE
                member.linkname = entry.data.decode(errors="surrogateescape")
                tar.addfile(member)
            else:
                member.size = len(entry.data)
                tar.addfile(member, io.BytesIO(entry.data))
    return Snapshot(stream.getvalue())


def compare(before: Mapping[str, Entry], after: Mapping[str, Entry]) -> tuple[Change, ...]:
    """What differs, by path."""
    return tuple(
        Change(path, before.get(path), after.get(path))
        for path in sorted({*before, *after})
        if before.get(path) != after.get(path)
    )


def put(tree: Tree, path: str, entry: Entry | None) -> None:
    """Set or remove a path; a file or link that lies where a folder must be makes way."""
    if entry is None:
        tree.pop(path, None)
        return
    for parent in PurePosixPath(path).parents:
        tree.pop(parent.as_posix(), None)
    for below in [each for each in tree if each.startswith(path + "/")]:
        del tree[below]
    tree[path] = entry


@lru_cache(maxsize=8)
def _archive(path: str, size: int, changed: int) -> Tree:
    try:
        return read_tree(Path(path).read_bytes())
    except OSError as problem:
        raise DataError(f"cannot read {path}: {problem.strerror}") from None
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None


def base_tree(task: SweTask) -> Tree | None:
    """What the agent starts from; None if only the task's image holds it.

    Raises `DataError` for an archive that cannot be read, or a fault that does not apply.
    """
    if not task.archive and not task.files:
        return None
    tree: Tree = {}
    if task.archive:
        try:
            found = Path(task.archive).stat()
        except OSError as problem:
            raise DataError(f"task {task.id}: {task.archive}: {problem.strerror}") from None
        tree.update(_archive(task.archive, found.st_size, found.st_mtime_ns))
    for path, data in task.files.items():
        before = tree.get(path)
        put(tree, path, Entry(data, before is not None and before.executable))
    return with_bug(tree, task)


def with_bug(tree: Tree, task: SweTask) -> Tree:
    """The tree with the task's fault in it. Raises `DataError` if that does not apply."""
    from foldgym.envs.swe.patches import PatchError, apply_patch

    if not task.bug:
        return tree
    try:
        return apply_patch(tree, task.bug)
    except PatchError as problem:
        raise DataError(f"task {task.id}: its fault does not apply: {problem}") from None
