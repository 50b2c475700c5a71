"""What runs that were killed have left behind: found by their labels, and ended."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from foldgym.containers import process, trees
from foldgym.containers.labels import Label, load, state_folder
from foldgym.containers.processes import boot_id, end_all, everyone, namespace, started


@dataclass(frozen=True, slots=True)
class Found:
    """A box on this machine: its label, its folder, and the processes that are still in it."""

    label: Label
    folder: Path
    processes: frozenset[int]


def find() -> list[Found]:
    """Every box of this user, by age of its owner's id."""
    found: list[Found] = []
    for folder in sorted(state_folder().iterdir()):
        label = load(folder)
        if label is not None:
            found.append(Found(label, folder, frozenset(_processes(label))))
    return found


def _processes(label: Label) -> set[int]:
    if label.boot != boot_id():
        return set()
    pairs = ((label.keeper, label.keeper_started), (label.inner, label.inner_started))
    holders = {each for each, ticks in pairs if each and ticks and started(each) == ticks}
    inside: set[int] = set()
    if label.inner in holders:
        space = namespace(label.inner)
        inside = {each for each in everyone() if space and namespace(each) == space}
    elif label.backend != "bubblewrap":
        inside = process.members(label.id, holders)
    return holders | {each for each in inside if started(each)}


def reap() -> list[Found]:
    """End the boxes whose owner is gone, and remove what they left; what it found is returned."""
    orphans = [each for each in find() if each.label.orphan]
    for each in orphans:
        end_all(lambda label=each.label: _processes(label))
        shutil.rmtree(each.folder, ignore_errors=True)
    trees.clear()
    return orphans
