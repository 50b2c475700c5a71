"""Boxes that are ready before they are asked for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from foldgym.containers.opening import choose, open_box
from foldgym.containers.sandbox import BoxSpec, Sandbox
from foldgym.errors import SandboxError, UserError


class Pool:
    """`with Pool(spec, warm=4) as pool, pool.box() as box: ...`: boxes of one kind.

    Each box serves once and is closed after; another is made in its place, in the background, so
    that `warm` of them wait. At most `cap` exist at a time, and who asks for more waits. A box that
    went while it waited, as when its engine restarts, is nobody's: the next one is given.
    """

    def __init__(
        self, spec: BoxSpec | None = None, backend: str = "auto", warm: int = 2, cap: int = 16
    ) -> None:
        if warm < 0 or cap < 1 or warm > cap:
            raise UserError(f"a pool of warm={warm} and cap={cap}: give 0 <= warm <= cap, cap >= 1")
        self.spec = spec or BoxSpec()
        self.backend = choose(backend, self.spec)
        self.warm, self.cap = warm, cap
        self.change = threading.Condition()
        self.ready: deque[Sandbox] = deque()
        self.made = 0
        """Boxes that exist or are being made."""
        self.problem: BaseException | None = None
        self.closed = False
        self.filler = threading.Thread(target=self._fill, name="box pool", daemon=True)
        self.filler.start()

    @contextmanager
    def box(self, wait: float = 600.0) -> Generator[Sandbox]:
        """A fresh box, closed at the end. Raises `SandboxError` if none comes in `wait` seconds."""
        box = self._take(wait)
        try:
            yield box
        finally:
            box.close()
            with self.change:
                self.made -= 1
                self.change.notify_all()

    def _take(self, wait: float) -> Sandbox:
        until = time.monotonic() + wait
        while True:
            box = self._next(max(0.0, until - time.monotonic()))
            try:
                box.exec(":", timeout=30.0)
            except SandboxError:
                box.close()
                with self.change:
                    self.made -= 1
                    self.change.notify_all()
            else:
                return box

    def _next(self, wait: float) -> Sandbox:
        with self.change:
            usable = self.change.wait_for(
                lambda: self.closed or self.problem or self.ready or self._room(), wait
            )
            if self.closed:
                raise SandboxError("the pool is closed")
            if self.ready:
                box = self.ready.popleft()
                self.change.notify_all()
                return box
            if self.problem is not None:
                problem, self.problem = self.problem, None
                self.change.notify_all()  # the filler may try again
                raise problem
            if not usable:
                raise SandboxError(f"all {self.cap} boxes of the pool were in use for {wait:g} s")
            self.made += 1
        try:
            return open_box(self.spec, self.backend)
        except BaseException:
            with self.change:
                self.made -= 1
                self.change.notify_all()
            raise

    def _room(self) -> bool:
        """Whether who asks may make a box: none is warm, and none is being made that would be."""
        return self.made < self.cap and not self.ready

    def _fill(self) -> None:
        while True:
            with self.change:
                self.change.wait_for(
                    lambda: (
                        self.closed
                        or (
                            self.problem is None
                            and len(self.ready) < self.warm
                            and self.made < self.cap
                        )
                    )
                )
                if self.closed:
                    return
                self.made += 1
            try:
                box = open_box(self.spec, self.backend)
            except BaseException as problem:  # told to whoever asks next
                with self.change:
                    self.made -= 1
                    self.problem = problem
                    self.change.notify_all()
                continue
            with self.change:
                if self.closed:
                    self.made -= 1
                else:
                    self.ready.append(box)
                    self.change.notify_all()
                    continue
            box.close()

    def close(self) -> None:
        """End the boxes that wait; those in use end with their blocks."""
        with self.change:
            self.closed = True
            waiting = list(self.ready)
            self.ready.clear()
            self.made -= len(waiting)
            self.change.notify_all()
        for box in waiting:
            box.close()
        self.filler.join(timeout=60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
