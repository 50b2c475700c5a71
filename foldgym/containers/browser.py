"""One Chromium for all episodes of this process, one context for each: `open_seat(Setting(...))`.

All of Playwright lives in one thread with an event loop; any thread may ask, and waits. When a page
crashes or Chromium is killed, the seats on it raise `SandboxError`, and the next seat starts a new
browser. The process and its profile carry a label, so that `foldgym sandbox reap` finds them.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from foldgym.containers import process
from foldgym.containers.gateway import Gateway, Site
from foldgym.containers.labels import Label, held_by, new_label, save
from foldgym.containers.processes import end_all, parent, remove_tree
from foldgym.containers.reaper import reap
from foldgym.errors import FoldgymError, MissingExtra, SandboxError, UserError

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Dialog, Page

T = TypeVar("T")

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-breakpad",
    "--disable-crash-reporter",
    "--disable-quic",
    # Names are looked up by the gateway, and nothing goes past it: no resolver, no plain UDP.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--webrtc-ip-handling-policy=disable_non_proxied_udp",
)
CAP = 16
"""Contexts at a time, unless FOLDGYM_BROWSER_CONTEXTS says otherwise."""
_USES = 1000
"""Episodes after which a context that is used again is given up: pages grow."""
_LAUNCH = 60.0
REST = 20.0
"""Seconds without an episode after which Chromium is closed: pages that wait use the processor."""
_BROKEN = ("has been closed", "crashed", "Connection closed", "Target closed", "Browser closed")


@functools.cache
def chromium() -> str:
    """The browser's path: $FOLDGYM_CHROMIUM, or the first of `PROGRAMS`; empty if there is none."""
    given = os.environ.get("FOLDGYM_CHROMIUM")
    if given:
        return shutil.which(given) or ""
    return next(filter(None, map(shutil.which, PROGRAMS)), "")


def unavailable() -> str:
    """Why no browser can be used here; empty if one can."""
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed: pip install 'foldgym[browser]'"
    if not chromium():
        return "no Chromium was found: install chromium, or set FOLDGYM_CHROMIUM"
    return ""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a context shows and may reach.

        Setting(sites={"shop.test": shop}, allow=("127.0.0.1:8000",), viewport=(1280, 720))

    `sites` answer for hosts that exist nowhere else; `allow` are further hosts, with a port unless
    it is 80 or 443. `scripts` run in every document before its own. A context with `reuse` is kept
    after its episode for another with the same name: for pages that keep nothing.
    """

    sites: Mapping[str, Site] = field(default_factory=dict[str, Site])
    allow: tuple[str, ...] = ()
    viewport: tuple[int, int] = (1280, 720)
    scripts: tuple[str, ...] = ()
    reuse: str = ""


class Seat:
    """One episode's context, with its pages: `seat.run(work)` awaits `work(seat)` in the driver.

    `pages` are the open tabs in the order of their opening, `page` the one in front. `note` is for
    whoever reuses the seat. `dialogs` holds what alerts and the like said.
    """

    def __init__(
        self, setting: Setting, browser: _Chromium, gateway: Gateway, context: BrowserContext
    ) -> None:
        self.setting, self.browser = setting, browser
        self.gateway, self.context = gateway, context
        self.pages: list[Page] = []
        self.page: Page
        self.lines: dict[Page, Any] = {}
        self.note = ""
        self.uses = 0
        self.dialogs: list[str] = []
        self.moving: set[Any] = set()
        """Requests for documents that have not been answered."""
        self.stirred = asyncio.Event()
        """Set when a document or a tab comes or goes."""
        self.gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.closed = False

    def run(self, work: Callable[[Seat], Awaitable[T]], timeout: float = 20.0) -> T:
        """What `work(seat)` returns, from any thread.

        Raises `SandboxError` if the page crashed, the browser is gone, or it took longer than
        `timeout` seconds; after that the seat is broken. Other errors of Playwright come through.
        """
        return _driver().call(self._guarded(work, timeout))

    async def _guarded(self, work: Callable[[Seat], Awaitable[T]], timeout: float) -> T:
        if self.closed:
            raise SandboxError("the browser context was closed")
        if self.gone.done():
            raise SandboxError(self.gone.result())
        task = asyncio.ensure_future(work(self))
        await asyncio.wait((task, self.gone), timeout=timeout, return_when="FIRST_COMPLETED")
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asyncio.wait((task,), timeout=1)
            self.end(f"the page did not answer in {timeout:g} s")
            raise SandboxError(self.gone.result())
        try:
            return task.result()
        except FoldgymError:
            raise
        except Exception as problem:
            said = str(problem).splitlines()[0]
            if type(problem).__module__.startswith("playwright") and any(
                word in said for word in _BROKEN
            ):
                self.end(f"the browser is gone: {said}")
            if self.gone.done():
                raise SandboxError(self.gone.result()) from problem
            raise

    def end(self, why: str) -> None:
        """Break the seat, in the driver's thread; the first reason stays."""
        if not self.gone.done():
            self.gone.set_result(why)

    def close(self) -> None:
        """Give the context back; again is fine."""
        driver = _driver()
        if self.browser.label.owner == driver.owner:
            driver.call(driver.pool.leave(self))

    # ------------------------------------------------------------ in the driver's thread

    async def mouse(self, x: float, y: float, *kinds: str) -> None:
        """Send events of the left button at a point, such as "mouseMoved", all at once.

        A move that is waited for takes until the next frame; one that is followed by a press or a
        release comes just before it.
        """
        line = self.lines.get(self.page)
        if line is None:
            line = self.lines[self.page] = await self.context.new_cdp_session(self.page)
        given: dict[str, Any] = {"x": x, "y": y, "clickCount": 1, "button": "left"}
        moved = {"type": "mouseMoved", "x": x, "y": y}
        events = [moved if kind == "mouseMoved" else {**given, "type": kind} for kind in kinds]
        await asyncio.gather(*(line.send("Input.dispatchMouseEvent", each) for each in events))

    def adopt(self, page: Page) -> None:
        """A tab was opened, by us or by a page; it comes to the front."""
        if page in self.pages:
            return
        self.pages.append(page)
        self.page = page
        self.stirred.set()
        page.on("crash", lambda _: self.end("the page crashed"))
        page.on("close", self._lost)
        page.on("dialog", self._dialog)
        page.on("load", self._came)
        page.on("request", self._asked)
        page.on("requestfinished", self._settled)
        page.on("requestfailed", self._settled)

    def _asked(self, request: Any) -> None:
        if request.is_navigation_request():
            self.moving.add(request)
            self.stirred.set()

    def _settled(self, request: Any) -> None:
        if request in self.moving:
            self.moving.discard(request)
            self.stirred.set()

    def _came(self, _: Page) -> None:
        self.stirred.set()

    def _lost(self, page: Page) -> None:
        if page in self.pages:
            self.pages.remove(page)
            self.lines.pop(page, None)
            self.stirred.set()
            if self.page is page and self.pages:
                self.page = self.pages[-1]

    async def _dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(f"{dialog.type}: {dialog.message}")
        with contextlib.suppress(Exception):  # it may have gone with its page
            await dialog.accept()


def open_seat(setting: Setting, near: str = "", wait: float = 600.0) -> Seat:
    """A context of the shared browser, which starts with the first one.

    Where the setting allows reuse, one whose `note` is `near` is preferred. Waits up to `wait`
    seconds while all are in use; in an event loop, which would stand still, it does not wait.
    Raises `MissingExtra` or `UserError` if no browser can be used, `SandboxError` if none comes up.
    """
    if importlib.util.find_spec("playwright") is None:
        raise MissingExtra("a browser", "browser")
    if why := unavailable():
        raise UserError(why)
    waits = True
    with contextlib.suppress(RuntimeError):
        waits = not asyncio.get_running_loop()
    driver = _driver()
    return driver.call(driver.pool.enter(setting, near, wait if waits else None))


# ---------------------------------------------------------------- the browser


class _Chromium:
    """A running browser with its profile; `seats` are the contexts on it."""

    def __init__(self, label: Label, folder: Path) -> None:
        self.label, self.folder = label, folder
        self.seats: set[Seat] = set()
        self.base: Any = None
        self.door = Gateway({})
        self.tmp = -1
        self.dead = False

    async def launch(self, playwright: Any) -> None:
        await self.door.open()
        for name in ("profile", "artifacts", "tmp"):
            (self.folder / name).mkdir()
        # Chromium makes a socket there, and the name of a socket has 107 bytes at most.
        self.tmp = os.open(self.folder / "tmp", os.O_RDONLY | os.O_DIRECTORY)
        self.base = await playwright.chromium.launch_persistent_context(
            self.folder / "profile",
            artifacts_dir=self.folder / "artifacts",
            executable_path=chromium(),
            headless=True,
            args=list(ARGUMENTS),
            proxy={"server": f"http://127.0.0.1:{self.door.port}", "bypass": "<-loopback>"},
            accept_downloads=False,
            handle_sigint=False,
            handle_sigterm=False,
            handle_sighup=False,
            timeout=_LAUNCH * 1000,
            env={
                "PATH": os.environ.get("PATH", os.defpath),
                "HOME": str(self.folder),
                "TMPDIR": f"/proc/{os.getpid()}/fd/{self.tmp}",
                "LANG": "C.UTF-8",
                "TZ": "UTC",
                "FOLDGYM_BOX": self.label.id,
            },
        )
        self.base.on("close", self._lost)
        here = self._members()
        first = min(here, key=lambda each: (parent(each) in here, each))
        save(held_by(self.label, first, 0), self.folder)

    def _lost(self, _: Any) -> None:
        self.end("Chromium is gone: it was killed, or it crashed")

    def _members(self) -> set[int]:
        return process.members(self.label.id, set())

    def end(self, why: str) -> None:
        """Every seat on it breaks, and nothing of it stays."""
        if self.dead:
            return
        self.dead = True
        for seat in list(self.seats):
            seat.end(why)
        end_all(self._members)
        remove_tree(self.folder)
        if self.tmp >= 0:
            os.close(self.tmp)

    async def close(self) -> None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(self.base.close(), 5)
        self.end("the browser was closed")
        await asyncio.gather(self.door.close(), *(seat.gateway.close() for seat in self.seats))

    async def seat(self, setting: Setting) -> Seat:
        gateway = Gateway(setting.sites, setting.allow)
        await gateway.open()
        try:
            width, height = setting.viewport
            context = await self.base.browser.new_context(
                viewport={"width": width, "height": height},
                proxy={"server": f"http://127.0.0.1:{gateway.port}", "bypass": "<-loopback>"},
                accept_downloads=False,
                service_workers="block",
                locale="en-US",
                timezone_id="UTC",
                color_scheme="light",
                reduced_motion="reduce",
            )
            seat = Seat(setting, self, gateway, context)
            for script in setting.scripts:
                await context.add_init_script(script)
            context.on("page", seat.adopt)
            seat.adopt(await context.new_page())
        except Exception as problem:
            await gateway.close()
            raise SandboxError(f"no browser context: {problem}") from problem
        self.seats.add(seat)
        return seat


# ---------------------------------------------------------------- the pool


class _Pool:
    """Who sits where; only the driver's thread touches it."""

    def __init__(self) -> None:
        self.browser: _Chromium | None = None
        self.playwright: Any = None
        self.idle: list[Seat] = []
        self.busy = 0
        self.starting = asyncio.Lock()
        self.change = asyncio.Condition()
        self.rest: asyncio.TimerHandle | None = None
        self.closing: asyncio.Task[None] | None = None

    async def enter(self, setting: Setting, near: str, wait: float | None) -> Seat:
        cap = most_contexts()
        async with self.change:
            if wait is None and self.busy >= cap:
                raise UserError(
                    f"all {cap} browser contexts are in use, and no event loop may wait: set "
                    'isolation = "thread", or lower rollout.concurrency'
                )
            try:
                await asyncio.wait_for(self.change.wait_for(lambda: self.busy < cap), wait)
            except TimeoutError:
                raise SandboxError(
                    f"all {cap} browser contexts were in use for {wait:g} s: close some, or raise "
                    "FOLDGYM_BROWSER_CONTEXTS"
                ) from None
            self.busy += 1
        try:
            return await self._seat(setting, near, cap)
        except BaseException:
            await self._freed()
            raise

    async def _seat(self, setting: Setting, near: str, cap: int) -> Seat:
        self.idle = [seat for seat in self.idle if not seat.gone.done()]
        fitting = [seat for seat in self.idle if setting.reuse and seat.setting == setting]
        fitting.sort(key=lambda seat: seat.note == near)
        if fitting and (fitting[-1].note == near or self.busy + len(self.idle) > cap):
            self.idle.remove(fitting[-1])
            return fitting[-1]
        while self.idle and self.busy + len(self.idle) > cap:
            await _vacate(self.idle.pop(0))
        return await (await self._running()).seat(setting)

    async def _running(self) -> _Chromium:
        async with self.starting:
            if self.browser is not None and not self.browser.dead:
                return self.browser
            from playwright.async_api import async_playwright

            if self.playwright is None:
                await asyncio.get_running_loop().run_in_executor(None, reap)
                self.playwright = await async_playwright().start()
            label, folder = new_label("chromium", "")
            browser = _Chromium(label, folder)
            try:
                await browser.launch(self.playwright)
            except Exception as problem:
                browser.end("it did not start")
                await browser.door.close()
                said = str(problem).splitlines()[:1]
                raise SandboxError(f"{chromium()} does not start: {said}") from problem
            self.browser = browser
            return browser

    async def leave(self, seat: Seat) -> None:
        if seat.closed or seat in self.idle:
            return
        seat.uses += 1
        whole = not seat.gone.done() and len(seat.pages) == 1
        if seat.setting.reuse and whole and seat.uses < _USES:
            self.idle.append(seat)
        else:
            await _vacate(seat)
        await self._freed()

    async def _freed(self) -> None:
        async with self.change:
            self.busy -= 1
            self.change.notify()
        if self.rest is not None:
            self.rest.cancel()
        self.rest = asyncio.get_running_loop().call_later(REST, self._rest)

    def _rest(self) -> None:
        """Close the browser if nobody sits there; the next seat starts another."""
        if not self.busy and self.browser is not None:
            gone, self.browser, self.idle = self.browser, None, []
            self.closing = asyncio.create_task(gone.close())

    async def close(self) -> None:
        if self.closing is not None:
            await self.closing
        if self.browser is not None:
            await self.browser.close()
        if self.playwright is not None:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self.playwright.stop(), 5)
        self.browser = self.playwright = None


async def _vacate(seat: Seat) -> None:
    seat.closed = True
    seat.end("the browser context was closed")
    seat.browser.seats.discard(seat)
    with contextlib.suppress(Exception):  # a context of a dead browser is closed already
        await asyncio.wait_for(seat.context.close(), 10)
    await seat.gateway.close()


def most_contexts() -> int:
    """Contexts at a time; raises `UserError` for a FOLDGYM_BROWSER_CONTEXTS that is no number."""
    given = os.environ.get("FOLDGYM_BROWSER_CONTEXTS", str(CAP))
    if not given.isdigit() or int(given) < 1:
        raise UserError(f"FOLDGYM_BROWSER_CONTEXTS={given!r} is no number of contexts above 0")
    return int(given)


# ---------------------------------------------------------------- the thread


class _Driver:
    """The thread in which Playwright runs; of this process, not of one it was forked from."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.pool = _Pool()
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self._live, name="browser driver", daemon=True).start()
        atexit.register(self.close)

    def _live(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine returns; the caller's thread waits."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """At the end of the process."""
        if self.owner == os.getpid():
            self.call(self.pool.close())


_drivers: dict[int, _Driver] = {}
_lock = threading.Lock()


def _driver() -> _Driver:
    with _lock:
        if os.getpid() not in _drivers:
            _drivers[os.getpid()] = _Driver()
        return _drivers[os.getpid()]
