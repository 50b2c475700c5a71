"""How a model writes where to click: UI-R1's tags, or a bare point."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from foldgym.envs.grounding.steps import Point, Said

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_PAIR = re.compile(rf"{_NUMBER}\s*[,\s]\s*{_NUMBER}")
_LISTED = re.compile(rf"\[\s*{_NUMBER}\s*,\s*{_NUMBER}\s*\]")
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_THOUGHT = re.compile(r"<think>.*?</think>\s*<answer>.*?</answer>", re.DOTALL)
_BARE = re.compile(r"<answer>.*?</answer>", re.DOTALL)


def _field(name: str, text: str) -> str:
    """The value of a quoted key; the model writes Python or JSON, and often neither quite."""
    found = re.search(rf"""['"]{name}['"]\s*:\s*(['"])(.*?)(?<!\\)\1""", text, re.DOTALL)
    return found.group(2) if found else ""


def ui_r1(text: str, think: bool = True) -> Said:
    """`<think>...</think> <answer>[{'action': 'click', 'coordinate': [x, y]}]</answer>`.

    Well formed only if nothing stands around it; without `think`, if it is one answer and nothing
    else. Of several points the first counts. A click without a point has none, where the reference
    takes [0, 0]; decimals are read, where the reference reads whole numbers only. The argument is
    under `text`, `direction`, `app_name` or `input_text`. Source: UI-R1's code.
    """
    formed = (_THOUGHT if think else _BARE).fullmatch(text.strip()) is not None
    found = _TAGGED.search(text)
    if not found:
        return Said(formed=formed)
    inner = found.group(1)
    place = _LISTED.search(inner)
    argument = next(
        filter(None, (_field(k, inner) for k in ("text", "direction", "app_name", "input_text"))),
        "",
    )
    return Said(_field("action", inner), _pair(place), argument, formed)


def point(text: str) -> Said:
    """A click at the first two numbers: `(12, 40)`, `[12, 40]`, `<point>12 40</point>`, `12, 40`.

    Four numbers in a row are a box, of which the middle is meant.
    """
    numbers = [float(each) for each in re.findall(_NUMBER, text)]
    found = _PAIR.search(text)
    if not found:
        return Said()
    if len(numbers) == 4 and re.search(rf"[\[(]\s*(?:{_NUMBER}\s*,\s*){{3}}{_NUMBER}", text):
        left, top, right, bottom = numbers
        return Said("click", ((left + right) / 2, (top + bottom) / 2), formed=True)
    return Said("click", _pair(found), formed=True)


def _pair(found: re.Match[str] | None) -> Point | None:
    return (float(found.group(1)), float(found.group(2))) if found else None


def ui_r1_nothink(text: str) -> Said:
    """UI-R1's variant without thinking: one answer and nothing else."""
    return ui_r1(text, think=False)


READERS: Mapping[str, Callable[[str], Said]] = {
    "point": point,
    "ui-r1": ui_r1,
    "ui-r1-nothink": ui_r1_nothink,
}
