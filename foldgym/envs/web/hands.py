"""What can be done in a browser: each verb takes a seat, and says in words what could not be done.

A verb returns "" or a sentence that begins with "error:". None waits for a fixed time: `settle`
waits for what the verb has set going, a document, a tab, or nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from foldgym.containers.browser import Seat

Verb = Callable[..., Awaitable[str]]
_LOAD = 15.0
"""Seconds that a document may take."""
_START = 2.0
"""Seconds in which a navigation that was announced begins; a download never does."""
_BUTTONS = ("left", "middle", "right")


async def settle(seat: Seat) -> str:
    """Wait until the page in front is there and nothing that an action started is under way."""
    try:
        async with asyncio.timeout(_LOAD):
            for _ in range(100):
                seat.stirred.clear()
                page = seat.page
                try:
                    leaving, opening = await page.evaluate("__foldgym.settle()")
                except Exception:
                    if seat.gone.done() or not seat.pages:
                        raise
                    leaving, opening = True, False  # the document went while it was asked
                if page is not seat.page:
                    continue
                if not (leaving or opening or seat.moving):
                    return ""
                try:
                    async with asyncio.timeout(_LOAD if seat.moving else _START):
                        await seat.stirred.wait()
                except TimeoutError:
                    if not seat.moving:
                        return ""  # it was announced and never came, such as a download
                    raise
    except TimeoutError:
        return f"error: the page did not load in {_LOAD:g} s"
    return "error: the page keeps loading others"


async def _at(seat: Seat, ref: int) -> tuple[float, float] | str:
    found: dict[str, Any] = await seat.page.evaluate("(ref) => __foldgym.point(ref)", ref)
    return f"error: {found['error']}" if "error" in found else (found["x"], found["y"])


async def click(
    seat: Seat, ref: int, button: str = "left", modifiers: tuple[str, ...] = (), count: int = 1
) -> str:
    """Click an element at its middle."""
    at = await _at(seat, ref)
    return at if isinstance(at, str) else await click_at(seat, *at, button, modifiers, count)


def _outside(seat: Seat, *points: float) -> str:
    """Says which of the points x, y, x, y is outside of the window, where a mouse cannot be.

    Chromium never answers a move to such a point while a button is held.
    """
    width, height = seat.setting.viewport
    for x, y in zip(points[::2], points[1::2], strict=True):
        if not (0 <= x <= width and 0 <= y <= height):
            return f"error: ({x:g}, {y:g}) is outside of the window, {width} x {height} pixels"
    return ""


async def click_at(
    seat: Seat,
    x: float,
    y: float,
    button: str = "left",
    modifiers: tuple[str, ...] = (),
    count: int = 1,
) -> str:
    """Click at a point of the window."""
    if problem := _outside(seat, x, y) or _unknown(button):
        return problem
    if (button, modifiers, count) == ("left", (), 1):
        await seat.mouse(x, y, "mouseMoved", "mousePressed", "mouseReleased")
        return ""
    for key in modifiers:
        await seat.page.keyboard.down(key)
    try:
        await seat.page.mouse.click(x, y, button=button, click_count=count)  # pyright: ignore[reportArgumentType]
    finally:
        for key in modifiers:
            await seat.page.keyboard.up(key)
    return ""


def _unknown(button: str) -> str:
    if button in _BUTTONS:
        return ""
    return f"error: {button!r} is no button of a mouse; give one of {', '.join(_BUTTONS)}"


async def fill(seat: Seat, ref: int, text: str) -> str:
    """Put `text` in place of what a field holds."""
    found: dict[str, Any] = await seat.page.evaluate(
        "([ref, text]) => __foldgym.fill(ref, text)", [ref, text]
    )
    if "error" in found:
        return f"error: {found['error']}"
    if found.get("set"):
        return ""
    if text:
        await seat.page.keyboard.insert_text(text)
    elif not found["empty"]:
        await seat.page.keyboard.press("Delete")
    return ""


async def select(seat: Seat, ref: int, options: tuple[str, ...]) -> str:
    """Choose options of a list by their labels or values."""
    found: dict[str, Any] = await seat.page.evaluate(
        "([ref, options]) => __foldgym.select(ref, options)", [ref, list(options)]
    )
    return f"error: {found['error']}" if "error" in found else ""


async def focus(seat: Seat, ref: int) -> str:
    """Bring the keyboard to an element."""
    found: dict[str, Any] = await seat.page.evaluate("(ref) => __foldgym.focus(ref)", ref)
    return f"error: {found['error']}" if "error" in found else ""


async def press(seat: Seat, key: str, ref: int = 0) -> str:
    """Press a key or several at once, such as `Control+a`, on an element or where the focus is."""
    if ref and (problem := await focus(seat, ref)):
        return problem
    await seat.page.keyboard.press(key)
    return ""


async def type_text(seat: Seat, text: str) -> str:
    """Type a text key by key, where the focus is."""
    await seat.page.keyboard.type(text)
    return ""


async def insert_text(seat: Seat, text: str) -> str:
    """Put a text where the focus is, without keys."""
    await seat.page.keyboard.insert_text(text)
    return ""


async def hover(seat: Seat, ref: int) -> str:
    """Bring the mouse over an element."""
    at = await _at(seat, ref)
    return at if isinstance(at, str) else await move(seat, *at)


async def move(seat: Seat, x: float, y: float) -> str:
    """Bring the mouse to a point."""
    if problem := _outside(seat, x, y):
        return problem
    await seat.page.mouse.move(x, y)
    return ""


async def down(seat: Seat, x: float, y: float, button: str = "left") -> str:
    """Press the mouse at a point, and hold."""
    if problem := _outside(seat, x, y) or _unknown(button):
        return problem
    await seat.page.mouse.move(x, y)
    await seat.page.mouse.down(button=button)  # pyright: ignore[reportArgumentType]
    return ""


async def up(seat: Seat, x: float, y: float, button: str = "left") -> str:
    """Let the mouse go at a point."""
    if problem := _outside(seat, x, y) or _unknown(button):
        return problem
    await seat.page.mouse.move(x, y)
    await seat.page.mouse.up(button=button)  # pyright: ignore[reportArgumentType]
    return ""


async def drag_at(seat: Seat, x: float, y: float, to_x: float, to_y: float) -> str:
    """Press at one point, move, and let go at another."""
    if problem := _outside(seat, x, y, to_x, to_y):
        return problem
    mouse = seat.page.mouse
    await mouse.move(x, y)
    await mouse.down()
    await mouse.move((x + to_x) / 2, (y + to_y) / 2)  # a drag begins with the second move
    await mouse.move(to_x, to_y, steps=2)
    await mouse.up()
    return ""


async def drag(seat: Seat, ref: int, to: int) -> str:
    """Drag one element onto another."""
    ends: list[float] = []
    for each in (ref, to):
        at = await _at(seat, each)
        if isinstance(at, str):
            return at
        ends += at
    return await drag_at(seat, *ends)


async def scroll(seat: Seat, dx: float, dy: float, ref: int = 0) -> str:
    """Turn the wheel: over an element, or where the mouse is."""
    if ref:
        found = await seat.page.evaluate(
            "([ref, dx, dy]) => {"
            " const node = __foldgym.element(ref); if (!node) return false;"
            " node.scrollBy({ left: dx, top: dy, behavior: 'instant' }); return true; }",
            [ref, dx, dy],
        )
        return "" if found else f"error: there is no element {ref} on the page now"
    await seat.page.evaluate(
        "([dx, dy]) => window.scrollBy({ left: dx, top: dy, behavior: 'instant' })", [dx, dy]
    )
    return ""


async def upload(seat: Seat, ref: int, path: str) -> str:
    """Give a file to a file field."""
    handle = await seat.page.evaluate_handle("(ref) => __foldgym.element(ref)", ref)
    element = handle.as_element()
    if element is None:
        return f"error: there is no element {ref} on the page now"
    if not await element.evaluate("(node) => node.tagName === 'INPUT' && node.type === 'file'"):
        return f"error: element {ref} takes no file"
    await element.set_input_files(Path(path))
    return ""


async def goto(seat: Seat, url: str) -> str:
    """Open an address in the tab in front."""
    if urlsplit(url).scheme == "":
        url = "http://" + url
    if not seat.gateway.reaches(url):
        return f"error: {url} is outside of what may be reached here"
    await seat.page.goto(url, timeout=_LOAD * 1000)
    return ""


async def back(seat: Seat) -> str:
    """The page before this one, in this tab."""
    return "" if await seat.page.go_back(timeout=_LOAD * 1000) else "error: no page was before this"


async def forward(seat: Seat) -> str:
    """The page after this one, in this tab."""
    moved = await seat.page.go_forward(timeout=_LOAD * 1000)
    return "" if moved else "error: no page comes after this"


async def new_tab(seat: Seat, url: str = "") -> str:
    """Open a tab and bring it to the front."""
    seat.adopt(await seat.context.new_page())
    return await goto(seat, url) if url else ""


async def close_tab(seat: Seat) -> str:
    """Close the tab in front; the latest one that is left comes to the front."""
    if len(seat.pages) == 1:
        return "error: this is the only tab"
    await seat.page.close()
    return ""


async def focus_tab(seat: Seat, index: int) -> str:
    """Bring a tab to the front, counted from 0."""
    if not 0 <= index < len(seat.pages):
        return f"error: there is no tab {index}; they are 0 to {len(seat.pages) - 1}"
    seat.page = seat.pages[index]
    await seat.page.bring_to_front()
    return ""


async def nothing(seat: Seat) -> str:
    """Let time pass."""
    return ""


VERBS: dict[str, Verb] = {
    each.__name__: each
    for each in (
        *(click, click_at, fill, select, focus, press, type_text, insert_text, hover, move),
        *(down, up, drag_at, drag, scroll, upload, goto, back, forward),
        *(new_tab, close_tab, focus_tab, nothing),
    )
}
