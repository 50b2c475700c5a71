"""Tasks as folders: Harbor's and Terminal-Bench's, read, written, converted and run here."""

from __future__ import annotations

from pathlib import Path

from foldgym.envs.swe.folders.harbor import read_harbor, read_reward, write_harbor
from foldgym.envs.swe.folders.task import FolderTask
from foldgym.envs.swe.folders.terminal_bench import (
    read_terminal_bench,
    terminal_results,
    write_terminal_bench,
)
from foldgym.errors import DataError


def read_folder(folder: str | Path) -> FolderTask:
    """The task of a folder, Harbor's (task.toml) or Terminal-Bench's (task.yaml).

    Raises `DataError`.
    """
    root = Path(folder)
    if (root / "task.toml").is_file():
        return read_harbor(root)
    if (root / "task.yaml").is_file():
        return read_terminal_bench(root)
    raise DataError(f"{root} has neither task.toml (Harbor) nor task.yaml (Terminal-Bench)")


__all__ = [
    "FolderTask",
    "read_folder",
    "read_harbor",
    "read_reward",
    "read_terminal_bench",
    "terminal_results",
    "write_harbor",
    "write_terminal_bench",
]
