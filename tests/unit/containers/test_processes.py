"""What becomes of folders whose processes were killed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from late_writer import late_writer

from foldgym.containers import pack
from foldgym.containers.channel import Running
from foldgym.containers.processes import remove_tree
from foldgym.containers.trees import Trees
from foldgym.errors import SandboxError


def test_a_folder_goes_although_somebody_still_writes_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    folder.mkdir()
    late = late_writer(folder)
    assert remove_tree(folder, 60)
    late.wait(120)
    assert not folder.exists()


def test_what_is_not_there_is_removed_already(tmp_path: Path) -> None:
    assert remove_tree(tmp_path / "none")


def test_what_cannot_be_removed_is_given_up_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[object] = []

    def refused(*_: object, **__: object) -> None:
        tries.append(1)
        raise PermissionError(errno.EPERM, "Operation not permitted")

    (tmp_path / "kept").touch()
    monkeypatch.setattr(os, "unlink", refused)
    assert not remove_tree(tmp_path, 0.05)
    assert len(tries) > 1
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


def test_what_a_command_left_goes_although_somebody_still_writes_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "command"
    folder.mkdir()
    running = Running(folder)
    late = late_writer(folder)
    running.close()
    late.wait(120)
    assert not folder.exists()


def test_a_tree_that_was_not_unpacked_goes_although_somebody_still_writes_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDGYM_STATE", str(tmp_path))
    trees, writers = Trees(), []

    def unpack(folder: Path) -> None:
        folder.mkdir()
        writers.append(late_writer(folder))
        raise SandboxError("the box ended")

    with pytest.raises(SandboxError), trees.borrow(pack({"a": b"1"}), unpack):
        pass
    writers[0].wait(120)
    assert [*tmp_path.glob("*/*/new-*")] == []
    trees.close()
