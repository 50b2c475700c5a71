"""Other ways to write actions: BrowserGym's Python calls and UI-R1's answers, read and never run.

Both become calls of the tools of `world.WebEnv`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any, cast

from foldgym.errors import UnknownName
from foldgym.types import ToolCall

_MOST = 10_000
"""Characters of a message that are read."""

# BrowserGym's functions: their parameters in order, and the tool with its names for them.
_CALLS: Mapping[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "noop": (("wait_ms",), "noop", ("ms",)),
    "click": (("bid", "button", "modifiers"), "click", ("ref", "button", "modifiers")),
    "dblclick": (("bid", "button", "modifiers"), "dblclick", ("ref", "button", "modifiers")),
    "hover": (("bid",), "hover", ("ref",)),
    "fill": (("bid", "value"), "fill", ("ref", "text")),
    "clear": (("bid",), "fill", ("ref",)),
    "press": (("bid", "key_comb"), "press", ("ref", "key")),
    "select_option": (("bid", "options"), "select", ("ref", "options")),
    "focus": (("bid",), "focus", ("ref",)),
    "drag_and_drop": (("from_bid", "to_bid"), "drag", ("ref", "to")),
    "scroll": (("delta_x", "delta_y"), "scroll", ("dx", "dy")),
    "upload_file": (("bid", "file"), "upload", ("ref", "file")),
    "mouse_move": (("x", "y"), "mouse_move", ("x", "y")),
    "mouse_click": (("x", "y", "button"), "mouse_click", ("x", "y", "button")),
    "mouse_dblclick": (("x", "y", "button"), "mouse_dblclick", ("x", "y", "button")),
    "mouse_down": (("x", "y", "button"), "mouse_down", ("x", "y", "button")),
    "mouse_up": (("x", "y", "button"), "mouse_up", ("x", "y", "button")),
    "mouse_drag_and_drop": (
        ("from_x", "from_y", "to_x", "to_y"),
        "mouse_drag",
        ("x", "y", "to_x", "to_y"),
    ),
    "keyboard_press": (("key",), "keyboard_press", ("key",)),
    "keyboard_type": (("text",), "keyboard_type", ("text",)),
    "keyboard_insert_text": (("text",), "keyboard_insert", ("text",)),
    "goto": (("url",), "goto", ("url",)),
    "go_back": ((), "go_back", ()),
    "go_forward": ((), "go_forward", ()),
    "new_tab": ((), "new_tab", ()),
    "tab_close": ((), "tab_close", ()),
    "tab_focus": (("index",), "tab_focus", ("index",)),
    "send_msg_to_user": (("text",), "answer", ("text",)),
    "report_infeasible": (("reason",), "report_infeasible", ("reason",)),
}
_REFS = frozenset({"ref", "to"})
_LISTS = frozenset({"options", "modifiers"})


def read_calls(text: str) -> list[ToolCall]:
    """Tool calls of `click("12")` or several such lines, also inside a fenced block.

    Only calls of the known functions with literal arguments are read. Raises `ValueError` with a
    sentence for the model.

    >>> read_calls('fill("7", "Ada")')[0].arguments
    '{"ref": 7, "text": "Ada"}'
    """
    if len(text) > _MOST:
        raise ValueError(f"{len(text)} characters; write a call of at most {_MOST}")
    fenced = re.findall(r"```(?:python)?\s*\n?(.*?)```", text, re.DOTALL)
    source = (fenced[-1] if fenced else text).strip()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f'{source[:80]!r} is no call such as click("12")') from None
    if not tree.body:
        raise ValueError('there is no call in your message; write one such as click("12")')
    return [_call(each) for each in tree.body]


def _call(statement: ast.stmt) -> ToolCall:
    made = statement.value if isinstance(statement, ast.Expr) else None
    if not isinstance(made, ast.Call) or not isinstance(made.func, ast.Name):
        raise ValueError(f"{ast.unparse(statement)[:80]!r} is no call of a known function")
    name = made.func.id
    if name not in _CALLS:
        raise ValueError(str(UnknownName("action", name, _CALLS)))
    theirs, tool, ours = _CALLS[name]
    if len(made.args) > len(theirs):
        raise ValueError(f"{name} takes at most {len(theirs)} arguments, not {len(made.args)}")
    given: dict[str, Any] = {}
    pairs = [
        *zip(theirs, made.args, strict=False),
        *((k.arg or "", k.value) for k in made.keywords),
    ]
    for key, value in pairs:
        if key not in theirs:
            raise ValueError(
                f"{name} has no argument {key!r}; it has {', '.join(theirs) or 'none'}"
            )
        try:
            literal = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise ValueError(f"the argument {key!r} of {name} must be a literal") from None
        given[ours[theirs.index(key)]] = _own(ours[theirs.index(key)], literal, name)
    if name == "clear":
        given["text"] = ""
    return _made(tool, **given)


def _made(tool: str, **given: Any) -> ToolCall:
    return ToolCall(tool, json.dumps(given, ensure_ascii=False, default=str))


def _own(key: str, value: Any, name: str) -> Any:
    if key in _REFS:
        digits = str(value).strip().removeprefix("a")
        if not digits.isdecimal():
            raise ValueError(f'{name}: {value!r} is no element; give a number such as "12"')
        return int(digits)
    if key in _LISTS:
        several = cast("list[Any]", list(value)) if isinstance(value, list | tuple) else [value]
        return [str(each) for each in several]
    return value


_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_WAYS = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
_PAGE = 300
"""Pixels of one scroll."""


def read_answer(text: str) -> list[ToolCall]:
    """Tool calls of UI-R1's `<think>..</think><answer>[{'action': 'click', 'coordinate': [x, y]}]`.

    The actions are click and long_press (`coordinate`), scroll (`direction`), input_text (`text`),
    navigate_back, open_app (`app_name` is an address) and wait. Raises `ValueError` with a sentence
    for the model. Source: UI-R1's format; the names of what is beside a coordinate are ours.
    """
    found = _ANSWER.findall(text[:_MOST])
    if not found:
        raise ValueError("there is no <answer>[{'action': ..., 'coordinate': [x, y]}]</answer>")
    try:
        answer = ast.literal_eval(found[-1].strip())
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(f"{found[-1].strip()[:80]!r} is no list of actions") from None
    several = cast("list[Any]", answer if isinstance(answer, list) else [answer])
    if not several:
        raise ValueError("the answer holds no action")
    return [_acted(each) for each in several]


def _acted(given: Any) -> ToolCall:
    if not isinstance(given, dict):
        raise ValueError(f"{str(given)[:80]!r} is no action; write {{'action': ...}}")
    action = cast("dict[str, Any]", given)
    kind = action.get("action")
    text = action.get("text", action.get("input_text", ""))
    if kind in ("click", "long_press"):
        x, y = _point(action.get("coordinate"))
        return _made("mouse_click", x=x, y=y)
    if kind == "scroll":
        way = str(action.get("direction", "down")).lower()
        if way not in _WAYS:
            raise ValueError(f"a scroll's direction is up, down, left or right, not {way!r}")
        return _made("scroll", dx=_WAYS[way][0] * _PAGE, dy=_WAYS[way][1] * _PAGE)
    if kind == "input_text":
        return _made("keyboard_type", text=str(text))
    if kind == "navigate_back":
        return _made("go_back")
    if kind == "open_app":
        return _made("goto", url=str(action.get("app_name", text)))
    if kind == "wait":
        return _made("noop")
    known = ("click", "long_press", "scroll", "input_text", "navigate_back", "open_app", "wait")
    raise ValueError(str(UnknownName("action", str(kind), known)))


def _point(value: Any) -> tuple[float, float]:
    if isinstance(value, list | tuple):
        numbers = cast("list[Any]", list(value))
        if len(numbers) == 2 and all(
            isinstance(each, int | float) and not isinstance(each, bool) for each in numbers
        ):
            return float(numbers[0]), float(numbers[1])
    raise ValueError(f"a click needs 'coordinate': [x, y], not {value!r}")


FORMATS = {"browsergym": read_calls, "ui-r1": read_answer}
