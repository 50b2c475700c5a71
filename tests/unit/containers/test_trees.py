"""Boxes share the files they start with, and what one writes nobody else sees, nor it again."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from foldgym.containers import BoxSpec, Limits, Snapshot, available, bubblewrap, open_box, pack
from foldgym.containers import reap as reap_boxes
from foldgym.containers.labels import state_folder
from foldgym.containers.sandbox import MB
from foldgym.containers.trees import KEPT, Trees
from foldgym.errors import SandboxError

pytestmark = pytest.mark.skipif(available("bubblewrap") != "", reason="needs bubblewrap")
FILES = pack({"src/a.py": b"1\n", "src/b.py": b"2\n", "c": b"3\n"})
LISTING = "find . -type f -exec grep -H . {} + | sort"
CLEAN = b"./c:3\n./src/a.py:1\n./src/b.py:2\n"


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="boxes-") as name:
        Path(name).chmod(0o711)
        monkeypatch.setenv("FOLDGYM_STATE", name)
        yield Path(name)


@pytest.fixture(params=["mounted", "copied"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With overlays, and as on kernels that have none for us."""
    if request.param == "copied":
        monkeypatch.setattr(bubblewrap, "can_mount", lambda: False)
    elif not bubblewrap.can_mount():
        pytest.skip("this kernel mounts no overlay for users")
    return request.param


def test_a_box_starts_clean_and_becomes_clean_again(way: str) -> None:
    spec = BoxSpec(files=FILES)
    with open_box(spec, "bubblewrap") as first, open_box(spec, "bubblewrap") as second:
        for _ in range(2):
            assert first.exec(LISTING).stdout == CLEAN
            assert first.exec("rm -r src; mkdir src; echo x > src/x; echo 4 >> c").ok
            assert first.exec(LISTING).stdout == b"./c:3\n./c:4\n./src/x:x\n"
            assert second.exec(LISTING).stdout == CLEAN
            first.restore(FILES)
        changed = Snapshot(pack({"d": b"5\n"}).archive)
        first.restore(changed)
        assert first.exec(LISTING).stdout == b"./d:5\n"
        first.restore(None)
        assert first.exec("ls -A").stdout == b""
        first.restore(FILES)
        assert first.exec(LISTING).stdout == CLEAN


def test_nothing_written_anywhere_outlives_a_restore() -> None:
    if not bubblewrap.can_mount():
        pytest.skip("this kernel mounts no overlay for users")
    with open_box(BoxSpec(files=FILES), "bubblewrap") as box:
        places = "/tmp /dev/shm /home/box /work"
        assert box.exec(f"for p in {places}; do echo x > $p/planted || exit 1; done").ok
        box.restore(FILES)
        assert box.exec(f"find {places} -name planted").stdout == b""
        assert box.exec("ls -A /run/tree; touch /run/tree/x").stdout == b""  # covered
        found = box.exec("grep -c ' /work ' /proc/mounts")
        assert found.stdout == b"3\n"  # bwrap's, its room and the overlay: none piles up


def test_the_number_of_files_is_limited_too() -> None:
    if not bubblewrap.can_mount():
        pytest.skip("this kernel mounts no overlay for users")
    with open_box(BoxSpec(limits=Limits(disk=4 * MB)), "bubblewrap") as box:
        made = box.exec("seq 20000 | xargs touch 2>/dev/null; ls | wc -l", timeout=120)
        assert 9_000 < int(made.stdout) <= 10_000
        box.restore(None)
        assert box.exec("touch one").ok


def test_a_tree_is_unpacked_once_and_goes_when_it_is_not_used() -> None:
    trees, made = Trees(), list[Path]()

    def unpack(folder: Path) -> None:
        folder.mkdir()
        made.append(folder)

    with trees.borrow(FILES, unpack) as first, trees.borrow(FILES, unpack) as second:
        assert first == second
        for number in range(KEPT + 5):
            with trees.borrow(pack({"n": str(number).encode()}), unpack):
                pass
        assert first.exists()
    assert len(made) == KEPT + 6
    assert trees.folder is not None
    assert len(list(trees.folder.iterdir())) == KEPT
    trees.close()
    assert list(state_folder().iterdir()) == []


def test_a_tree_that_cannot_be_unpacked_leaves_nothing() -> None:
    broken = BoxSpec(files=Snapshot(b"no archive"))
    with pytest.raises(SandboxError, match="not restored"):
        open_box(broken, "bubblewrap")
    for folder in state_folder().glob("trees-*"):
        assert list(folder.iterdir()) == []


def test_trees_of_a_process_that_is_gone_are_reaped() -> None:
    gone = state_folder() / "trees-999999999-1-abc"
    (gone / "digest").mkdir(parents=True)
    mine = state_folder() / f"trees-{os.getpid()}-0-abc"  # an earlier process with our id
    mine.mkdir()
    assert reap_boxes() == []
    assert not gone.exists()
    assert not mine.exists()
