"""Reading packages as they are published: what is kept, what is hidden, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_projects import SKETCH, sdist

from foldgym.envs.swe.making.sources import fetch, load
from foldgym.errors import DataError


def test_a_source_distribution_is_read_without_history_caches_and_built_copies(
    tmp_path: Path,
) -> None:
    extra = {
        ".git/config": b"x",
        "tally/__pycache__/things.cpython-311.pyc": b"good code",
        "tally.egg-info/PKG-INFO": b"x",
        "build/lib/tally/things.py": b"good code",
        "tally/_version.py": b"v = 1\n",
        "setup.py": b"x = 1\n",
        "tests/data.bin": b"\xff",
    }
    project = load(sdist(tmp_path / "Tally-1.5.tar.gz", {**SKETCH, **extra}))
    kept = {**SKETCH, **{k: extra[k] for k in ("tally/_version.py", "setup.py", "tests/data.bin")}}
    assert project.files == kept
    assert (project.name, project.version) == ("tally", "1.5")
    assert project.tests == ("tests",)
    assert project.code == ("tally/__init__.py", "tally/things.py")
    assert project.is_test("tests/data.bin")
    assert not project.is_test("tally/things.py")


def test_a_folder_is_the_same_project_as_its_archive(tmp_path: Path) -> None:
    archived = load(sdist(tmp_path / "tally-1.5.tar.gz", SKETCH))
    for name, data in SKETCH.items():
        path = tmp_path / "tally-1.5" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    assert load(tmp_path / "tally-1.5").address == archived.address
    (tmp_path / "tally-1.5" / "tally" / "things.py").write_bytes(b"x = 1\n")
    assert load(tmp_path / "tally-1.5").address != archived.address


def test_tests_inside_the_package_count(tmp_path: Path) -> None:
    files = {"p/core.py": b"x = 1\n", "p/tests/test_core.py": b"", "p/sub/tests/test_a.py": b""}
    project = load(sdist(tmp_path / "p-2.tar.gz", files, top="p-2"))
    assert (project.name, project.version) == ("p", "2")
    assert project.tests == ("p/sub/tests", "p/tests")
    assert project.code == ("p/core.py",)


def test_what_cannot_be_used_is_refused_with_the_reason(tmp_path: Path) -> None:
    no_tests = {name: data for name, data in SKETCH.items() if not name.startswith("tests/")}
    with pytest.raises(DataError, match="brings no folder tests/"):
        load(sdist(tmp_path / "a-1.tar.gz", no_tests))
    with pytest.raises(DataError, match="no Python modules"):
        load(sdist(tmp_path / "b-1.tar.gz", {"tests/test_a.py": b"", "a.txt": b""}))
    with pytest.raises(DataError, match="leaves its folder"):
        load(sdist(tmp_path / "c-1.tar.gz", {"../../etc/passwd": b""}, top=""))
    broken = tmp_path / "d-1.tar.gz"
    broken.write_bytes(b"not an archive")
    with pytest.raises(DataError, match="cannot read"):
        load(broken)
    with pytest.raises(DataError, match="neither a file nor a package"):
        fetch("--index-url=x", tmp_path)


def test_a_package_that_was_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    (tmp_path / "tally-1.5").mkdir()
    here = sdist(tmp_path / "tally-1.5" / "tally-1.5.tar.gz", SKETCH)
    assert fetch("tally==1.5", tmp_path) == here
