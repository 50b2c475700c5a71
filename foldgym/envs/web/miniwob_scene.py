"""What a scripted player of MiniWoB++ sees, and what it does most often."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from foldgym.tools import call
from foldgym.types import Message

Node = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scene:
    """The question, the elements in document order, and what the player has done so far."""

    said: str
    nodes: tuple[Node, ...]
    done: tuple[Message, ...] = ()

    @property
    def quoted(self) -> list[str]:
        """What the question has in quotation marks."""
        return re.findall(r'"([^"]*)"', self.said)

    def all(self, tag: str = "", kind: str = "", **attributes: str) -> list[Node]:
        """Elements of a tag and a class, with these attributes."""
        return [
            node
            for node in self.nodes
            if node["ref"]
            and (not tag or node["tag"] == tag)
            and (not kind or kind in node["attributes"].get("class", "").split())
            and all(node["attributes"].get(k.replace("_", "-")) == v for k, v in attributes.items())
        ]

    def said_by(self, text: str, among: Iterable[Node] | None = None) -> Node | None:
        """The first element with this text or name."""
        for node in self.all() if among is None else among:
            if text in (node.get("text"), node["name"]):
                return node
        return None

    def times(self, tool: str, ref: int) -> int:
        """How often the player has used a tool on an element."""
        made = [each.tool_calls[0] for each in self.done]
        return sum(
            each.name == tool and json.loads(each.arguments).get("ref") == ref for each in made
        )

    def button(self, text: str) -> Message:
        """Click the button of this text, or press Enter on it if others lie over it."""
        buttons = self.all("button")
        node = self.said_by(text, buttons)
        if node is not None and any(_touch(node, each) for each in buttons if each is not node):
            return call("press", key="Enter", ref=node["ref"])
        return press(node)

    def submit(self) -> Message:
        """Click the button that ends the task."""
        for node in self.all():
            if node.get("text", "").strip() in ("Submit", "Search", "Login", "OK", "Go!"):
                return press(node)
        return press(None)


Expert = Callable[[Scene], Message]


def _touch(a: Node, b: Node) -> bool:
    (left, top, width, height), (x, y, wide, high) = a["box"], b["box"]
    return left < x + wide and x < left + width and top < y + high and y < top + height


def press(node: Node | None) -> Message:
    """Click an element; wait if it is not there."""
    return call("noop") if node is None else call("click", ref=node["ref"])


HASTE = 0.65


def in_haste(scene: Scene, message: Message, rng: random.Random) -> Message:
    """The same action, but with probability `HASTE` on the first element of the same kind."""
    made = message.tool_calls[0]
    given = json.loads(made.arguments)
    if "ref" not in given or rng.random() >= HASTE:
        return message
    tag = next(node["tag"] for node in scene.nodes if node["ref"] == given["ref"])
    return call(made.name, **{**given, "ref": scene.all(tag)[0]["ref"]})


def filled(scene: Scene, wanted: Iterable[tuple[Node, str]]) -> Message:
    """Fill the first field that holds something else, then submit."""
    for node, text in wanted:
        if node.get("value") != text:
            return call("fill", ref=node["ref"], text=text)
    return scene.submit()


def fields(scene: Scene) -> list[Node]:
    """The fields that take text."""
    return [
        n for n in scene.all("input") if n["attributes"].get("type") not in ("checkbox", "radio")
    ]


def below(scene: Scene, at: int) -> list[Node]:
    """What is inside the element at a position."""
    depth, inner = scene.nodes[at]["depth"], []
    for node in scene.nodes[at + 1 :]:
        if node["depth"] <= depth:
            break
        inner.append(node)
    return inner


def is_a(node: Node, kind: str) -> bool:
    """Whether an element is of a class."""
    return bool(node["ref"]) and kind in node["attributes"].get("class", "").split()
