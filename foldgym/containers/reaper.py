"""What runs that were killed have left behind: found by their labels, and ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from foldgym.containers import engine as engines
from foldgym.containers import process, trees
from foldgym.containers.labels import Label, load, state_folder
from foldgym.containers.processes import (
    boot_id,
    end_all,
    everyone,
    namespace,
    remove_tree,
    started,
)
from foldgym.errors import FoldgymError


@dataclass(frozen=True, slots=True)
class Found:
    """A box on this machine: its label, its folder, its processes, and its container's id.

    The folder may be gone while the container is there, and the other way round.
    """

    label: Label
    folder: Path
    processes: frozenset[int]
    container: str = ""


def find(engine: bool = True) -> list[Found]:
    """Every box of this user, by age of its owner's id.

    `engine` False asks the container engine only if a box's folder says that it has one.
    """
    labels: dict[str, Label] = {}
    for folder in sorted(state_folder().iterdir()):
        label = load(folder)
        if label is not None:
            labels[folder.name] = label
    held: dict[str, str] = {}
    if engine or any(each.backend == "docker" for each in labels.values()):
        for label, container in _containers():
            labels.setdefault(label.id, label)
            held[label.id] = container
    return [
        Found(label, state_folder() / name, frozenset(_processes(label)), held.get(name, ""))
        for name, label in sorted(labels.items())
    ]


def _containers() -> list[tuple[Label, str]]:
    """The labels of our containers; none if no engine answers."""
    if not engines.address():
        return []
    try:
        found = engines.containers(str(state_folder()))
    except FoldgymError:
        return []
    return [
        (
            Label(
                each["foldgym.box"],
                "docker",
                each["foldgym.run"],
                each["foldgym.boot"],
                int(each["foldgym.pid"]),
                int(each["foldgym.started"]),
            ),
            each[""],
        )
        for each in found
    ]


def _processes(label: Label) -> set[int]:
    if label.boot != boot_id():
        return set()
    pairs = ((label.keeper, label.keeper_started), (label.inner, label.inner_started))
    holders = {each for each, ticks in pairs if each and ticks and started(each) == ticks}
    inside: set[int] = set()
    if label.inner in holders:
        space = namespace(label.inner)
        inside = {each for each in everyone() if space and namespace(each) == space}
    elif label.backend not in ("bubblewrap", "docker"):
        inside = process.members(label.id, holders)
    return holders | {each for each in inside if started(each)}


def reap(engine: bool = True) -> list[Found]:
    """End the boxes whose owner is gone, and remove what they left; what it found is returned.

    The folder of a container whose engine does not answer stays, so that a later one finds it.
    """
    orphans = [each for each in find(engine) if each.label.orphan]
    for each in orphans:
        end_all(lambda label=each.label: _processes(label))
        try:
            if each.label.backend == "docker":
                engines.remove(each.container or f"foldgym-{each.label.id}")
        except FoldgymError:
            continue
        remove_tree(each.folder)
    trees.clear()
    return orphans
