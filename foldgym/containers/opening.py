"""Which backend makes a box, how many may live, and that none outlives this process."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import threading
import time
from importlib import import_module
from typing import Any

from foldgym.containers.box import Box
from foldgym.containers.labels import held_by, new_label, save
from foldgym.containers.processes import remove_tree
from foldgym.containers.reaper import reap
from foldgym.containers.sandbox import BoxSpec, Sandbox
from foldgym.containers.trees import trees
from foldgym.errors import FoldgymError, SandboxError, UnknownName, UserError

BACKENDS = {
    "docker": "foldgym.containers.docker",
    "bubblewrap": "foldgym.containers.bubblewrap",
    "process": "foldgym.containers.process",
}
"""In the order in which `auto` looks at them."""
LIVE_CAP = 64
"""Boxes that one process may hold at a time, unless FOLDGYM_LIVE_BOXES says otherwise."""
_WATCH_EVERY = 0.25


@functools.cache
def available(backend: str) -> str:
    """Why a backend cannot be used here; empty if it can. Looks once per process.

    Raises `UnknownName`.
    """
    return _module(backend).unavailable()


def _module(backend: str) -> Any:
    if backend not in BACKENDS:
        raise UnknownName("sandbox backend", backend, [*BACKENDS, "auto"])
    return import_module(BACKENDS[backend])


def choose(backend: str, spec: BoxSpec) -> str:
    """The backend that `open_box` takes. Raises `UserError` if there is none, and `SandboxError` if
    docker was named and its engine does not answer: it may be back for the next episode."""
    if backend != "auto":
        if backend == "docker":
            _module(backend).ready()
        if why := available(backend):
            raise UserError(f"no {backend} boxes on this machine: {why}")
        if why := _module(backend).unfit(spec):
            raise UserError(why)
        return backend
    reasons: list[str] = []
    for name in BACKENDS:
        why = available(name) or _module(name).unfit(spec)
        if not why and name == "process" and spec.untrusted:
            why = "isolates nothing, and the task is untrusted: name it to allow it"
        if not why:
            return name
        reasons.append(f"{name}: {why}")
    raise UserError(f"no sandbox for untrusted commands; {'; '.join(reasons)}")


def open_box(spec: BoxSpec | None = None, backend: str = "auto", wait: float = 600.0) -> Sandbox:
    """A new box: `with open_box(BoxSpec(files=pack("project"))) as box: box.exec("pytest -q")`.

    `backend` is docker, bubblewrap, process or auto: the first that works and has the image, but
    never process for untrusted commands. Waits up to `wait` seconds while this process holds as
    many boxes as it may. The first one clears away what runs that were killed have left. Raises
    `UserError` if no backend can do it and `SandboxError` if the box does not come up.
    """
    spec = spec or BoxSpec()
    name = choose(backend, spec)
    _live.enter(name, wait)
    box: Box | None = None
    try:
        label, folder = new_label(name, spec.run)
        try:
            keeper, channel = _module(name).start(spec, folder)
            save(held_by(label, *keeper.holders), folder)
            box = _Counted(label.id, spec, keeper, channel, folder)
            _live.add(box)
            if spec.workdir and not box.exec(":").ok:
                raise UserError(f"image {spec.image!r} has no folder {spec.workdir!r} to work in")
            if spec.files is not None and not getattr(keeper, "filled", False):
                box.restore(spec.files)
        except BaseException:
            if box is not None:
                box.close()
            remove_tree(folder)
            raise
    except BaseException as problem:
        if box is None:
            _live.leave(None)
        if isinstance(problem, OSError) and not isinstance(problem, FoldgymError):
            raise SandboxError(f"no {name} box: {problem}") from problem
        raise
    return box


class _Counted(Box):
    """A box that gives its place back."""

    def end(self, why: str) -> None:
        before = self.ended
        super().end(why)
        if not before:
            _live.leave(self)


class _Live:
    """The boxes of this process."""

    def __init__(self) -> None:
        self.change = threading.Condition()
        self.boxes: dict[str, Box] = {}
        self.count, self.owner = 0, 0

    def enter(self, name: str, wait: float) -> None:
        """Take a place. Raises `SandboxError` if none comes free."""
        cap = _cap()
        with self.change:
            if self.owner != os.getpid():  # new, or forked: the boxes are another process'
                reap(engine=name == "docker")  # may fail, and then the next one begins anew
                self.boxes, self.count, self.owner = {}, 0, os.getpid()
                threading.Thread(target=self.watch, name="box watch", daemon=True).start()
                atexit.register(self.close)
            if not self.change.wait_for(lambda: self.count < cap, wait):
                raise SandboxError(
                    f"{cap} boxes live already and none was closed in {wait:g} s: close some, or "
                    "raise FOLDGYM_LIVE_BOXES"
                )
            self.count += 1

    def add(self, box: Box) -> None:
        """It lives."""
        with self.change:
            self.boxes[box.id] = box

    def leave(self, box: Box | None) -> None:
        """Give the place back."""
        with self.change:
            if box is not None and self.boxes.pop(box.id, None) is None:
                return
            self.count -= 1
            self.change.notify()

    def watch(self) -> None:
        """Look after the limits of all boxes, for as long as this process lives."""
        while self.owner == os.getpid():
            time.sleep(_WATCH_EVERY)
            with self.change:
                boxes = list(self.boxes.values())
            for box in boxes:
                with contextlib.suppress(Exception):  # its own exec tells of a box that is gone
                    box.watch()

    def close(self) -> None:
        """At the end of the process."""
        if self.owner == os.getpid():
            for box in list(self.boxes.values()):
                box.close()
            trees.close()


def _cap() -> int:
    given = os.environ.get("FOLDGYM_LIVE_BOXES", str(LIVE_CAP))
    if not given.isdigit() or int(given) < 1:
        raise UserError(f"FOLDGYM_LIVE_BOXES={given!r} is no number of boxes above 0")
    return int(given)


_live = _Live()
