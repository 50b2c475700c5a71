"""Packages as their authors publish them: fetched through the user's pip, or given as a file."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath

from foldgym.errors import DataError

_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9.!+_-]+)?")
_LEFT_OUT = re.compile(
    r"(^|/)(\.git|\.hg|\.svn|\.github|__pycache__|\.pytest_cache|\.tox|build|dist|docs?|benchmarks?"
    r"|examples?|[^/]+\.(egg-info|dist-info))(/|$)|\.(pyc|pyo|so|pyd)$"
)
"""History, caches, build products and what no test needs: nothing that could hold a good copy."""
_TESTS = ("tests", "test")
_NO_CODE = {"setup.py", "conftest.py", "noxfile.py", "tasks.py"}
_FILE_CAP = 2_000_000


@dataclass(frozen=True, slots=True)
class Project:
    """`Project("toolz", "1.2.0", {"toolz/core.py": b"..."}, ("toolz/core.py",), ("tests",))`.

    `files` are all files of the tree; `code` those where a fault may be planted, `tests` the
    folders that the test command is given. `address` is a hash of the files.
    """

    name: str
    version: str
    files: Mapping[str, bytes] = field(repr=False)
    code: tuple[str, ...] = field(repr=False)
    tests: tuple[str, ...]

    @property
    def address(self) -> str:
        """A hash of paths and contents."""
        digest = blake2b(digest_size=8)
        for path, data in sorted(self.files.items()):
            digest.update(f"{path}\0{len(data)}\0".encode() + data)
        return digest.hexdigest()

    def is_test(self, path: str) -> bool:
        """Whether a file belongs to the tests."""
        return any(path.startswith(f"{folder}/") for folder in self.tests) or (
            PurePosixPath(path).name == "conftest.py"
        )


def fetch(package: str, folder: Path, seconds: float = 120.0) -> Path:
    """The source distribution of `toolz` or `toolz==1.0`, downloaded by pip into `folder`.

    pip runs the package's build script to learn its name, as it does on every installation.
    Raises `DataError` with pip's last words if there is none.
    """
    if not _REQUIREMENT.fullmatch(package):
        raise DataError(f"{package!r} is neither a file nor a package: write toolz or toolz==1.0")
    place = folder / package.replace("==", "-")
    place.mkdir(parents=True, exist_ok=True)
    if found := _archives(place):
        return found[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-binary", ":all:", "--no-deps", "--dest", str(place)]
    try:
        done = subprocess.run(
            [*command, package], capture_output=True, text=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        raise DataError(f"pip could not download {package}: {problem}") from None
    found = _archives(place)
    if not found:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it said nothing"]
        raise DataError(f"pip found no source distribution of {package}: {said[0]}")
    return found[0]


def _archives(folder: Path) -> list[Path]:
    return sorted(each for each in folder.iterdir() if each.name.endswith((".tar.gz", ".zip")))


def load(source: Path) -> Project:
    """A project from a `.tar.gz`, a `.zip` or a folder. Nothing of it is run.

    Raises `DataError` if it cannot be read, has no tests of its own or no Python modules.
    """
    try:
        files = _read(source)
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as problem:
        raise DataError(f"cannot read {source}: {problem}") from None
    tops = {PurePosixPath(path).parts[0] for path in files}
    stem = re.sub(r"\.(tar\.gz|tgz|zip)$", "", source.name)
    if len(tops) == 1 and all("/" in path for path in files) and not source.is_dir():
        stem = tops.pop()
        files = {path.split("/", 1)[1]: data for path, data in files.items()}
    files = {path: data for path, data in sorted(files.items()) if not _LEFT_OUT.search(path)}
    tests = _test_folders(files)
    if not tests:
        raise DataError(f"{source.name} brings no folder tests/ or test/ with test modules")
    name, version = _named(stem, files)
    project = Project(name, version, files, (), tests)
    code = tuple(path for path in files if path.endswith(".py") and _is_code(project, path))
    if not code:
        raise DataError(f"{source.name} has no Python modules beside its tests")
    return Project(name, version, files, code, tests)


def _read(source: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= _FILE_CAP:
                files[path.relative_to(source).as_posix()] = path.read_bytes()
    elif source.suffix == ".zip":
        with zipfile.ZipFile(source) as archive:
            for entry in archive.infolist():
                if not entry.is_dir() and entry.file_size <= _FILE_CAP:
                    files[_inside(entry.filename)] = archive.read(entry)
    else:
        with tarfile.open(source, "r:*") as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is not None and member.size <= _FILE_CAP:
                    files[_inside(member.name)] = stream.read()
    return files


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(f"the archive holds {name!r}, which leaves its folder")
    return path.as_posix()


def _test_folders(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """The outermost folders called tests or test that hold test modules."""
    found: set[str] = set()
    for path in files:
        parts = PurePosixPath(path).parts
        depth = next((i for i, part in enumerate(parts[:-1]) if part in _TESTS), None)
        if depth is not None and re.fullmatch(r"test_.*\.py|.*_test\.py|tests?\.py", parts[-1]):
            found.add("/".join(parts[: depth + 1]))
    return tuple(sorted(found))


def _is_code(project: Project, path: str) -> bool:
    parts = PurePosixPath(path).parts
    return not (
        project.is_test(path)
        or parts[-1] in _NO_CODE
        or re.search(r"(^|_)version", parts[-1])
        or any(part in ("_vendor", "vendor", *_TESTS) for part in parts)
        or (len(parts) == 1 and f"{parts[0][:-3]}/__init__.py" in project.files)
    )


def _named(stem: str, files: Mapping[str, bytes]) -> tuple[str, str]:
    """Name and version as PKG-INFO says them, else as the file is called."""
    head = files.get("PKG-INFO", b"").decode(errors="replace").split("\n\n")[0]
    said = dict(re.findall(r"^(Name|Version): *(\S+)", head, re.MULTILINE))
    name, _, version = stem.rpartition("-")
    if not name:
        name, version = stem, "0"
    return said.get("Name", name).lower().replace("_", "-"), said.get("Version", version)
