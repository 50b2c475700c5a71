"""Patches: written, read and applied to the same tree, by us and by git; trees and archives."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.envs.swe.patches import PatchError, apply_patch, read_patch, write_patch
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import Entry, Tree, base_tree, compare, put, read_tree, write_tree
from foldgym.errors import DataError

LINES = st.lists(
    st.sampled_from(["a", "b", "", "déjà", "@@ -1 +1 @@", "--- a", "\\x"]), max_size=12
)
DATA = st.one_of(
    LINES.map(lambda lines: "".join(f"{line}\n" for line in lines).encode()),
    LINES.map(lambda lines: "\n".join(lines).encode()),
    st.binary(max_size=60),
)
ENTRIES = st.builds(Entry, DATA, st.booleans())
NAMES = st.sampled_from(["x", "d/y.py", "d/with space", "ü", 'q"uote', "tab\t", "z b/z"])
TREES = st.dictionaries(NAMES, ENTRIES, max_size=5)


@settings(max_examples=200)
@given(before=TREES, after=TREES)
def test_what_is_written_can_be_applied(before: Tree, after: Tree) -> None:
    changes = compare(before, after)
    if changes:
        assert apply_patch(before, write_patch(changes)) == after
    assert read_tree(write_tree(after).archive) == after


BEFORE: Tree = {
    "kept": Entry(b"1\n2\n3\n4\n5\n6\n7\n8\n9\n"),
    "gone": Entry(b"bye"),
    "run.sh": Entry(b"#!/bin/sh\n"),
    "blob": Entry(bytes(range(256))),
    "with space": Entry(b"a\n"),
}
AFTER: Tree = {
    "kept": Entry(b"1\n2\n3\nfour\n5\n6\n7\n8\n9\nten"),
    "run.sh": Entry(b"#!/bin/sh\n", executable=True),
    "blob": Entry(bytes(range(255, -1, -1)) * 3),
    "with space": Entry(b"b\n"),
    "new/ü.txt": Entry(b"new\n"),
    "empty": Entry(b""),
    "link": Entry(b"kept", link=True),
}


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_and_we_understand_each_other(tmp_path: Path) -> None:
    def git(*words: str, text: str = "") -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=x", "-c", "user.email=x@x", *words],
            cwd=tmp_path,
            input=text.encode(),
            capture_output=True,
            check=True,
        )
        return done.stdout.decode()

    git("init", "-q", ".")
    with tarfile.open(fileobj=io.BytesIO(write_tree(BEFORE).archive)) as tar:
        tar.extractall(tmp_path, filter="data")
    git("add", "-A")
    git("commit", "-q", "-m", "x")
    git("apply", "--index", text=write_patch(compare(BEFORE, AFTER)))
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        tar.add(tmp_path, ".")
    assert read_tree(stream.getvalue()) == AFTER
    assert apply_patch(BEFORE, git("diff", "--cached", "--binary", "--no-renames")) == AFTER
    moved = git("diff", "--cached", "--binary", "-M", "--unified=0")
    assert apply_patch(BEFORE, moved) == AFTER


def test_offsets_and_fuzz() -> None:
    text = "--- a/f\n+++ b/f\n@@ -2,3 +2,3 @@\n b\n-c\n+C\n d\n"
    shifted: Tree = {"f": Entry(b"0\n0\n0\na\nb\nc\nd\n")}
    assert apply_patch(shifted, text)["f"].data == b"0\n0\n0\na\nb\nC\nd\n"
    other: Tree = {"f": Entry(b"a\nother\nc\nd\n")}
    assert apply_patch(other, text)["f"].data == b"a\nother\nC\nd\n"
    with pytest.raises(PatchError, match="hunk 1 of f does not apply"):
        apply_patch({"f": Entry(b"a\nb\nd\n")}, text)
    assert shifted == {"f": Entry(b"0\n0\n0\na\nb\nc\nd\n")}


def test_renames_and_modes() -> None:
    tree: Tree = {"old": Entry(b"x\n")}
    moved = "diff --git a/old b/new\nsimilarity index 100%\nrename from old\nrename to new\n"
    assert apply_patch(tree, moved) == {"new": Entry(b"x\n")}
    mode = "diff --git a/old b/old\nold mode 100644\nnew mode 100755\n"
    assert apply_patch(tree, mode) == {"old": Entry(b"x\n", executable=True)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("@@ -1 +1 @@\n-a\n+b\n", "a hunk of no file"),
        ("--- a/x\n+++ b/x\n@@ -1,2 +1 @@\n-a\n", "longer than|before its end|no line of a hunk"),
        ("--- a/x\n+++ b/x\n@@ -1 +1 @@\n*a\n", "no line of a hunk"),
        ("--- a/x\nno plus\n", "'---' without"),
        ("diff --git a/x b/x\nBinary files a/x and b/x differ\n", "without its content"),
        ("diff --git a/x b/x\nGIT binary patch\ndelta 3\nc~~\n\n", "no literal"),
        ("diff --git a/x b/x\nGIT binary patch\nliteral 3\nzzzz\n\n", "cannot be read"),
        ("--- a/y\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n", "y is not there"),
        ("--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+b\n", "x is there already"),
        ("--- /dev/null\n+++ b/a/../../x\n@@ -0,0 +1 @@\n+b\n", "no path below"),
    ],
)
def test_patches_that_are_none(text: str, says: str) -> None:
    with pytest.raises(PatchError, match=says):
        apply_patch({"x": Entry(b"a\n")}, text)


@settings(max_examples=200)
@given(st.text(alphabet="-+@ ab/\n1,0", max_size=80))
def test_any_text_is_a_patch_or_an_error(text: str) -> None:
    try:
        read_patch(text)
        apply_patch({"a": Entry(b"a\n"), "b": Entry(b"b\n")}, text)
    except PatchError:
        pass


def test_archives_cannot_leave_their_folder() -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in ("../up", "/abs", "./fine", "a/.git/config", "a/__pycache__/x.pyc", "pipe"):
            member = tarfile.TarInfo(name)
            member.type = tarfile.FIFOTYPE if name == "pipe" else tarfile.REGTYPE
            tar.addfile(member)
        twin = tarfile.TarInfo("twin")
        twin.type, twin.linkname = tarfile.LNKTYPE, "fine"
        tar.addfile(twin)
    assert read_tree(stream.getvalue()) == {"fine": Entry(b""), "twin": Entry(b"")}
    with pytest.raises(DataError, match="no tar archive"):
        read_tree(b"nothing of the kind")


def test_what_lies_in_the_way_makes_way() -> None:
    tree: Tree = {"a": Entry(b"elsewhere", link=True), "b/c": Entry(b"1")}
    put(tree, "a/x", Entry(b"2"))
    put(tree, "b", Entry(b"3"))
    put(tree, "none", None)
    assert tree == {"a/x": Entry(b"2"), "b": Entry(b"3")}


def test_the_base_of_a_task(tmp_path: Path) -> None:
    archive = tmp_path / "base.tar"
    archive.write_bytes(write_tree({"x": Entry(b"a\n"), "y": Entry(b"y")}).archive)
    bug = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n"
    task = SweTask("t", "r", "p", archive=str(archive), files={"y": b"z"}, bug=bug)
    assert base_tree(task) == {"x": Entry(b"b\n"), "y": Entry(b"z")}
    assert base_tree(SweTask("t", "r", "p", image="somewhere")) is None
    with pytest.raises(DataError, match="its fault does not apply: q is not there"):
        base_tree(SweTask("t", "r", "p", files={"x": b""}, bug=bug.replace("/x", "/q")))
    with pytest.raises(DataError, match="No such file"):
        base_tree(SweTask("t", "r", "p", archive=str(tmp_path / "none.tar")))
