"""What a player sees of a page: elements as text, what changed, pictures with marks."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from foldgym.errors import MissingExtra

Node = Mapping[str, Any]
"""An element: ref, depth, tag, role, name, text, value, box [x, y, width, height], attributes."""

_BY_CONTENT = frozenset({"button", "link", "option", "heading", "cell", "label", "tab", "menuitem"})
_NAMED = frozenset({"textbox", "checkbox", "radio", "slider", "spinbutton", "combobox", "button"})
_ACTIVE = _NAMED | {"link", "file", "color", "date", "time", "tab", "menuitem", "option", "switch"}
_GROUPS = frozenset({"list", "table", "row", "paragraph", "listitem", "form", "label"})


@dataclass(frozen=True, slots=True)
class View:
    """A page as it was after an action.

    `nodes` are in document order; those with ref 0 are pieces of text between elements. `scroll` is
    left, top, and the size of the whole page. `state` is what a world read beside it.
    """

    url: str
    title: str
    nodes: tuple[Node, ...]
    scroll: tuple[int, int, int, int] = (0, 0, 0, 0)
    tabs: tuple[str, ...] = ()
    tab: int = 0
    dialogs: tuple[str, ...] = ()
    state: Mapping[str, Any] | None = None


def tree(nodes: Sequence[Node]) -> list[str]:
    """Roles, names and states, one line each, of elements that mean something by themselves.

    `[4] textbox "User" value="ada" focused`
    """
    lines: list[str] = []
    open_at: list[int] = []  # depths of the lines that enclose the next one
    for node in nodes:
        while open_at and open_at[-1] >= node["depth"]:
            open_at.pop()
        line = _line(node)
        if not line:
            continue
        lines.append("  " * len(open_at) + line)
        open_at.append(node["depth"])
    return lines


def _line(node: Node) -> str:
    if not node["ref"]:
        return node["text"]
    role, text = node["role"], node.get("text", "")
    name = node["name"]
    if role in _BY_CONTENT or not role:
        name = name or text
    drawn = node["tag"] in ("circle", "rect", "polygon", "ellipse", "path", "line")
    if not role and not name and not drawn and "scroll" not in node:
        return ""
    if role in _GROUPS and not (name or text):
        return ""
    parts = [f"[{node['ref']}]", role or (node["tag"] if drawn else "")]
    if name:
        parts.append(_quoted(name))
    elif text:
        parts.append(_quoted(text))
    if node.get("value"):
        parts.append(f"value={_quoted(node['value'])}")
    if "options" in node:
        parts.append(
            "options=" + "|".join(f"{'*' if on else ''}{each}" for each, on in node["options"])
        )
    parts += _states(node)
    if drawn:
        x, y, width, height = node["box"]
        parts.append(f"{width:g}x{height:g} at {x:g},{y:g}")
        parts += [node["paint"]] if "paint" in node else []
    return " ".join(filter(None, parts))


def _states(node: Node) -> Iterator[str]:
    for name in ("checked", "disabled", "focused"):
        if node.get(name):
            yield name
    if "expanded" in node:
        yield "expanded" if node["expanded"] else "collapsed"
    if "scroll" in node:
        yield "scroll={}/{}".format(*node["scroll"])


def _quoted(text: str, most: int = 200) -> str:
    return '"' + (text if len(text) <= most else text[: most - 3] + "...") + '"'


def dom(nodes: Sequence[Node]) -> list[str]:
    """Every visible element with its attributes: `<input ref=4 id="user" value="ada">`."""
    lines: list[str] = []
    for node in nodes:
        indent = " " * node["depth"]
        if not node["ref"]:
            lines.append(indent + node["text"])
            continue
        given = dict(node["attributes"])
        given.pop("value", None)
        if node.get("value"):
            given["value"] = node["value"]
        parts = [f"{node['tag']} ref={node['ref']}"]
        parts += [f"{key}={_quoted(value)}" for key, value in given.items()]
        parts += _states(node)
        if "options" in node:
            parts.append(
                "options=" + "|".join(f"{'*' if on else ''}{o}" for o, on in node["options"])
            )
        lines.append(f"{indent}<{' '.join(parts)}>{node.get('text', '')}")
    return lines


RENDERERS = {"tree": tree, "dom": dom}


def changes(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """Lines that went (`-`) and came (`+`), in the order of the page."""
    out: list[str] = []
    for kind, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind != "equal":
            out += [f"- {line}" for line in before[i:j]]
            out += [f"+ {line}" for line in after[k:m]]
    return out


def header(view: View, addresses: bool) -> list[str]:
    """Tabs, address and dialogs, as far as there is anything to say."""
    lines: list[str] = []
    if addresses:
        lines.append(f"{view.title or 'untitled'} ({view.url})")
    if len(view.tabs) > 1:
        lines += [f"tab {i}{'*' if i == view.tab else ''}: {t}" for i, t in enumerate(view.tabs)]
    return lines + [f"dialog {each}" for each in view.dialogs]


def active(nodes: Sequence[Node]) -> list[Node]:
    """The elements that marks are drawn on: those that take clicks or text."""
    found: list[Node] = []
    for node in nodes:
        attributes = node.get("attributes", {})
        if node["ref"] and (node["role"] in _ACTIVE or "tabindex" in attributes):
            found.append(node)
    return found


def marked(picture: bytes, nodes: Sequence[Node]) -> bytes:
    """A PNG with the box and the number of every active element drawn over it.

    Raises `MissingExtra` without pillow.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError:
        raise MissingExtra("drawing marks", "browser") from None
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    draw = ImageDraw.Draw(image)
    colours = ("#c0392b", "#2471a3", "#1e8449", "#7d3c98", "#b9770e", "#117a65")
    for node in active(nodes):
        x, y, width, height = node["box"]
        colour = colours[node["ref"] % len(colours)]
        draw.rectangle((x, y, x + width - 1, y + height - 1), outline=colour)
        label = str(node["ref"])
        left, top, right, bottom = draw.textbbox((x, y), label)
        at_y = y - (bottom - top) - 2 if y >= bottom - top + 2 else y
        draw.rectangle((x, at_y, x + right - left + 2, at_y + bottom - top + 2), fill=colour)
        draw.text((x + 1, at_y + 1 - (top - y)), label, fill="white")
    out = io.BytesIO()
    image.save(out, "PNG", optimize=False)
    return out.getvalue()
