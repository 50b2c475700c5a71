"""What becomes of folders whose processes were killed."""

from __future__ import annotations

import threading
from pathlib import Path

from foldgym.containers.processes import remove_tree


def test_a_folder_goes_although_somebody_still_writes_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "profile"
    folder.mkdir()
    writing = threading.Event()
    written: list[int] = []

    def write() -> None:
        try:
            while True:  # until the folder is gone
                (folder / f"{len(written)}").write_text("late")
                written.append(1)
                if len(written) == 50:
                    writing.set()
        except FileNotFoundError:
            return

    late = threading.Thread(target=write)
    late.start()
    assert writing.wait(30)
    assert remove_tree(folder, 60)
    late.join(30)
    assert not folder.exists()


def test_what_is_not_there_is_removed_already(tmp_path: Path) -> None:
    assert remove_tree(tmp_path / "none")
