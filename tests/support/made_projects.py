"""A small project with tests of its own, and pytest for a box that has none."""

from __future__ import annotations

import io
import tarfile
import zipfile
from importlib.metadata import files
from pathlib import Path

from foldgym.envs.swe.making.sources import Project

TALLY = b'''"""Counting things."""


def clamp(value, low, high):
    """The value, or the bound that it passes."""
    if value < low:
        return low
    if value > high:
        return high
    return value


def runs(items):
    """Lengths of equal neighbours: [1, 1, 2] gives [2, 1]."""
    found = []
    last = object()
    for item in items:
        if item == last:
            found[-1] += 1
        else:
            found.append(1)
        last = item
    return found


class Counter:
    """Counts up to a limit."""

    def __init__(self, limit):
        self.limit = limit
        self.count = 0

    def up(self, by=1):
        self.count = clamp(self.count + by, 0, self.limit)
        return self.count
'''
TESTS = b"""import pytest

from tally import Counter, clamp, runs


def test_clamp():
    assert clamp(5, 0, 3) == 3
    assert clamp(-1, 0, 3) == 0


@pytest.mark.parametrize("word, wanted", [("a b", [1, 1, 1]), ("aab", [2, 1])])
def test_runs(word, wanted):
    assert runs(word) == wanted
"""
MORE = b"""from tally import Counter


class TestCounter:
    def test_up(self):
        counter = Counter(3)
        assert counter.up() == 1
        assert counter.up(9) == 3


def test_broken():
    assert False
"""
SKETCH = {
    "PKG-INFO": b"Metadata-Version: 2.1\nName: Tally\nVersion: 1.5\n\ntext\n",
    "tally/__init__.py": b"from tally.things import Counter, clamp, runs\n",
    "tally/things.py": TALLY,
    "tests/test_runs.py": TESTS,
    "tests/test_counter.py": MORE,
    "tests/__init__.py": b"",
}


def tally(**files_: bytes) -> Project:
    """The project, with some files put over it; `__` in a name stands for a slash, `_dot_py` for
    the suffix."""
    over = {name.replace("__", "/").replace("_dot_", "."): data for name, data in files_.items()}
    return Project("tally", "1.5", {**SKETCH, **over}, ("tally/things.py",), ("tests",))


def sdist(path: Path, members: dict[str, bytes], top: str = "tally-1.5") -> Path:
    """A source distribution as a `.tar.gz`."""
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(f"{top}/{name}" if top else name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def pytest_archive() -> bytes:
    """This interpreter's own pytest with what it needs, none of which is compiled."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("pytest", "pluggy", "iniconfig", "packaging", "pygments"):
            for entry in files(name) or ():
                if entry.suffix == ".py" and not entry.parts[0].startswith(".."):
                    archive.add(str(entry.locate()), entry.as_posix())
    return stream.getvalue()


def wheel(folder: Path) -> Path:
    """The same as the one wheel in `folder`, where `tools` looks before it asks pip."""
    folder.mkdir(parents=True)
    path = folder / "pytest-0-py3-none-any.whl"
    with (
        zipfile.ZipFile(path, "w") as zipped,
        tarfile.open(fileobj=io.BytesIO(pytest_archive())) as archive,
    ):
        for member in archive:
            stream = archive.extractfile(member)
            if stream is not None:
                zipped.writestr(member.name, stream.read())
    return path
