"""When rows run: in rounds that do not depend on time, or as they come.

`Rounds` waits until every open episode wants tokens, then runs them all inside the event loop: the
same episodes give the same bits however slow their environments are. An episode whose lineages
take turns wants tokens when one of its sessions does; while several think at once, when they all
do. `Stream` runs rows in a thread as they come, so that a slow environment delays only itself.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar
from weakref import WeakSet

from foldgym.agents.engines.decoding import Decoder, Row, Seat
from foldgym.errors import Bug, EngineError

# Passes of the event loop without news before a round starts. A place that one episode left is
# taken by the next after a few passes (a lock, a task, a future); the round must not run between.
_SETTLE = 12
_IDLE_SECONDS = 1.0  # between looks of an idle thread at whether anybody is left
_LAST_STEP = 60.0  # seconds that the end of the process waits for a forward pass

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, eq=False)
class Ticket:
    """A row and who waits for it."""

    row: Row
    future: asyncio.Future[Row]
    loop: asyncio.AbstractEventLoop

    def deliver(self) -> None:
        """In the waiting loop: hand over the row, or what went wrong."""
        if not self.future.done():
            if self.row.error:
                failure = EngineError(self.row.error)
                failure.__cause__ = self.row.cause
                self.future.set_exception(failure)
            else:
                self.future.set_result(self.row)


class Scheduler(Protocol):
    """Sees sessions come and go and their rows in between."""

    def enter(self, seat: Seat) -> None:
        """A session opened."""
        ...

    def leave(self, seat: Seat) -> None:
        """A session closed."""
        ...

    def expect(self, seat: Seat, busy: int) -> None:
        """How many sessions of the seat's episode will ask before it goes on."""
        ...

    def submit(self, ticket: Ticket) -> None:
        """A session wants a completion."""
        ...

    def withdraw(self, ticket: Ticket) -> None:
        """A session no longer waits, for whatever reason."""
        ...

    def advance(self, version: int) -> None:
        """The weights changed; nothing held is true any more."""
        ...

    def swap(self, version: int, change: Callable[[], None]) -> None:
        """Change the weights now, between two tokens; rows in the making go on under them."""
        ...


@dataclass(slots=True)
class _Episode:
    """The open sessions of an episode, and how many of them a round waits for."""

    home: asyncio.AbstractEventLoop | None
    branches: set[int]
    busy: int = 1


class Rounds:
    """A round starts when every open episode waits; rows stand in the order of opening.

    A session belongs to the event loop it was opened in; when that loop is gone, so is it.
    """

    def __init__(self, decoder: Decoder, max_batch: int, version: int = 0) -> None:
        self._decoder = decoder
        self._max_batch = max_batch
        self._version = version
        self._open: dict[int, _Episode] = {}
        self._waiting: dict[tuple[int, int], Ticket] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._quiet = 0
        self._ticking = False

    def enter(self, seat: Seat) -> None:
        """A session opened."""
        self._episode(seat, _running())
        self._news()

    def leave(self, seat: Seat) -> None:
        """A session closed."""
        episode = self._open.get(seat.number)
        if episode is not None:
            episode.branches.discard(seat.branch)
            if not episode.branches:
                del self._open[seat.number]
        self._news()

    def expect(self, seat: Seat, busy: int) -> None:
        """How many sessions of the seat's episode a round waits for."""
        self._episode(seat, _running()).busy = busy
        self._news()

    def submit(self, ticket: Ticket) -> None:
        """A session wants a completion."""
        self._episode(ticket.row.seat, ticket.loop).home = ticket.loop
        self._waiting[ticket.row.seat.key] = ticket
        self._news()

    def withdraw(self, ticket: Ticket) -> None:
        """A session no longer waits."""
        self._waiting.pop(ticket.row.seat.key, None)

    def advance(self, version: int) -> None:
        """The weights changed."""
        self._version = version
        self._decoder.forget()

    def swap(self, version: int, change: Callable[[], None]) -> None:
        """Change the weights between two rounds: call it in the event loop, where rounds run."""
        change()
        self.advance(version)

    def _news(self) -> None:
        loop = _running()
        if loop is None:
            return
        if loop is not self._loop:
            lost = _orphans({number: episode.home for number, episode in self._open.items()})
            for number in lost:
                del self._open[number]
            for key in [key for key in self._waiting if key[0] in lost]:
                del self._waiting[key]
            self._loop, self._ticking = loop, False
        self._quiet = 0
        if not self._ticking:
            self._ticking = True
            loop.call_soon(self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        self._ticking = False
        if not self._waiting or not self._all_wait():
            return  # whoever is missing will wait, or leave, and that is news
        self._quiet += 1
        if self._quiet < _SETTLE:
            self._ticking = True
            loop.call_soon(self._tick, loop)
            return
        tickets = [self._waiting[key] for key in sorted(self._waiting)]
        self._waiting.clear()
        for first in range(0, len(tickets), self._max_batch):
            block = tickets[first : first + self._max_batch]
            self._run([ticket.row for ticket in block])
        for ticket in tickets:
            ticket.deliver()

    def _episode(self, seat: Seat, home: asyncio.AbstractEventLoop | None) -> _Episode:
        episode = self._open.setdefault(seat.number, _Episode(home, set()))
        episode.branches.add(seat.branch)
        return episode

    def _all_wait(self) -> bool:
        waiting = Counter(number for number, _ in self._waiting)
        return all(waiting[number] == episode.busy for number, episode in self._open.items())

    def _run(self, rows: list[Row]) -> None:
        for row in rows:
            row.version = self._version
        try:
            self._decoder.admit(rows)
            while self._decoder.live:
                self._decoder.step()
        except Exception as error:  # a forward pass failed: every row of the batch is lost
            _lose(rows, error)
        finally:
            if not all(row.over for row in rows) or any(row.cause for row in rows):
                self._decoder.forget()  # interrupted half-way


class Stream:
    """Continuous batching in one daemon thread, which lives while sessions are open."""

    def __init__(self, decoder: Decoder, max_batch: int, version: int = 0) -> None:
        self._decoder = decoder
        self._max_batch = max_batch
        self._version = version
        self._news = threading.Condition()
        self._busy = threading.Lock()  # held by whoever uses the decoder or changes its weights
        self._holds = 0  # how many want it; a lock alone would let the thread take it every time
        self._open: dict[tuple[int, int], asyncio.AbstractEventLoop | None] = {}
        self._arrived: list[Ticket] = []
        self._running: list[Ticket] = []
        self._thread: threading.Thread | None = None
        self._ended = False
        _streams.add(self)

    def end(self) -> None:
        """No more steps: the process ends, and would abort if a thread of its were in torch."""
        with self._news:
            self._ended = True
            self._news.notify()
            thread = self._thread
        if thread is not None:
            thread.join(_LAST_STEP)

    def enter(self, seat: Seat) -> None:
        """A session opened."""
        with self._news:
            self._open[seat.key] = _running()
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="foldgym-engine", daemon=True
                )
                self._thread.start()

    def leave(self, seat: Seat) -> None:
        """A session closed."""
        with self._news:
            self._open.pop(seat.key, None)
            self._news.notify()

    def expect(self, seat: Seat, busy: int) -> None:
        """Nobody waits for anybody here."""

    def submit(self, ticket: Ticket) -> None:
        """A session wants a completion."""
        with self._news:
            self._arrived.append(ticket)
            self._news.notify()

    def withdraw(self, ticket: Ticket) -> None:
        """A session no longer waits; its row is dropped at the next step."""
        ticket.row.dropped = True

    def advance(self, version: int) -> None:
        """The weights changed. Raises `Bug` while rows are being sampled."""
        with self._pause():
            running = sum(not ticket.row.over for ticket in self._running)
            if running:
                raise Bug(
                    f"advance() while {running} sessions are sampling: their tokens would come "
                    "from weights half-way; change weights only when no session waits, or in swap()"
                )
            self._version = version
            self._decoder.forget()

    def swap(self, version: int, change: Callable[[], None]) -> None:
        """Change the weights between two decode steps, which wait for it.

        What was computed under the old ones is dropped: every row that is being sampled computes
        its context anew with its next token.
        """
        with self._pause():
            change()
            self._version = version
            self._decoder.forget()
            for ticket in self._running:
                ticket.row.seated = False

    @contextmanager
    def _pause(self) -> Generator[None]:
        with self._news:
            self._holds += 1
        try:
            with self._busy:
                yield
        finally:
            with self._news:
                self._holds -= 1
                self._news.notify()

    def _work(self) -> None:
        while True:
            with self._news:
                while self._holds and not self._ended:
                    self._news.wait()
                if self._ended:
                    return
                self._running = [ticket for ticket in self._running if not ticket.row.over]
                while not self._arrived and not self._running:
                    for key in _orphans(self._open):
                        del self._open[key]
                    if not self._open:
                        self._thread = None
                        return
                    self._news.wait(_IDLE_SECONDS)
                    if self._ended:
                        return
                room = self._max_batch - len(self._running)
                taken, self._arrived = self._arrived[:room], self._arrived[room:]
                self._running += [ticket for ticket in taken if not ticket.row.dropped]
            with self._busy:
                self._advance_rows()
            for ticket in self._running:
                if ticket.row.over:
                    _tell(ticket)

    def _advance_rows(self) -> None:
        rows = [ticket.row for ticket in self._running if not ticket.row.over]
        arrived = [row for row in rows if not row.seated]
        for row in arrived:
            row.version, row.seated = self._version, True
        try:
            if arrived:
                self._decoder.admit(arrived)
            else:
                self._decoder.step()
        except Exception as error:  # a forward pass failed: every row of the batch is lost
            _lose((ticket.row for ticket in self._running), error)
            self._decoder.forget()


_streams: WeakSet[Stream] = WeakSet()


@atexit.register
def _end_streams() -> None:
    for stream in list(_streams):
        stream.end()


def _running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _orphans(homes: Mapping[Key, asyncio.AbstractEventLoop | None]) -> list[Key]:
    """Sessions that nobody closed although their event loop is gone."""
    return [number for number, home in homes.items() if home is not None and home.is_closed()]


def _lose(rows: Iterable[Row], error: Exception) -> None:
    for row in rows:
        if not row.over:
            row.error = f"session {row.seat.name}: {type(error).__name__}: {error}"
            row.cause = error


def _tell(ticket: Ticket) -> None:
    try:
        ticket.loop.call_soon_threadsafe(ticket.deliver)
    except RuntimeError:  # the loop is closed: nobody waits
        ticket.row.dropped = True
