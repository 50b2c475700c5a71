"""Scripted players of MiniWoB++ tasks that are solved by clicking alone."""

from __future__ import annotations

import re

from foldgym.envs.web.miniwob_scene import Node, Scene, below, is_a, press
from foldgym.tools import call
from foldgym.types import Message


def first_button(scene: Scene) -> Message:
    """Click the only button."""
    return press(scene.all("button")[0])


def named_button(scene: Scene) -> Message:
    """Click the button that is named, in quotes or in capitals."""
    named = scene.quoted or re.findall(r"button (\w+)", scene.said)
    return scene.button(named[0])


def in_turn(scene: Scene) -> Message:
    """Click button ONE, then button TWO."""
    return scene.button("TWO" if scene.done else "ONE")


def link(scene: Scene) -> Message:
    """Click a link by its text."""
    return press(scene.said_by(scene.quoted[0], scene.all(kind="alink")))


def options(scene: Scene) -> Message:
    """Tick what is listed, then submit."""
    listed = re.fullmatch(r"Select (.*?) and click Submit\.?", scene.said)
    names = listed[1].split(", ") if listed else []
    for node in scene.all("input"):
        if node["name"] in names and not node["checked"]:
            return press(node)
    return scene.submit()


def colour(scene: Scene) -> Message:
    """Click the box of a colour."""
    named = re.findall(r"on the (\w+) colored", scene.said)[0]
    return press(scene.all(data_color=named)[0])


def shades(scene: Scene) -> Message:
    """Click every shade of a colour, then submit."""
    named = re.findall(r"shades of (\w+)", scene.said)[0]
    for node in scene.all("span", data_color=named):
        if not scene.times("click", node["ref"]):
            return press(node)
    return scene.submit()


def dialog(scene: Scene) -> Message:
    """Close a dialog, or press its button."""
    named = scene.quoted[0]
    return press(scene.all(title="Close")[0]) if named == "x" else scene.button(named)


def tab(scene: Scene) -> Message:
    """Open a tab by its number."""
    named = re.findall(r"Tab #\d+", scene.said)[0]
    return press(scene.said_by(named, scene.all("a")))


def tabs(scene: Scene) -> Message:
    """Open one tab after the other until the link is there."""
    found = scene.said_by(scene.quoted[0], scene.all(kind="alink"))
    if found is not None:
        return press(found)
    closed = [
        n for n in scene.all("a", kind="ui-tabs-anchor") if not scene.times("click", n["ref"])
    ]
    return press(closed[0] if closed else None)


def section(scene: Scene) -> Message:
    """Open the only section, then submit."""
    header = scene.all("h3")[0]
    return scene.submit() if scene.done else press(header)


def sections(scene: Scene) -> Message:
    """Open one section after the other until the link is there."""
    found = scene.said_by(scene.quoted[0], scene.all(kind="alink"))
    if found is not None:
        return press(found)
    closed = [node for node in scene.all("h3") if not scene.times("click", node["ref"])]
    return press(closed[0] if closed else None)


def menu(scene: Scene) -> Message:
    """Walk down a menu of menus."""
    path = scene.said.removeprefix("Select ").split(">")
    shown: dict[str, Node] = {}
    for node in scene.all(kind="ui-menu-item-wrapper"):
        inner = [node, *below(scene, scene.nodes.index(node))]
        shown["".join(each.get("text", "") for each in inner)] = node
    there = [shown[name] for name in path if name in shown]
    if len(there) == len(path):
        return press(there[-1])
    return call("hover", ref=there[-1]["ref"]) if there else call("noop")


def widget(scene: Scene) -> Message:
    """Click a kind of widget."""
    kind = scene.quoted[0]
    return press(scene.all(data_type=kind)[0])


def point(scene: Scene) -> Message:
    """Click a point of a grid."""
    named = re.findall(r"\(-?\d+,-?\d+\)", scene.said)[0]
    return press(scene.all("circle", id=named)[0])


def focus(scene: Scene) -> Message:
    """Click into the first, second or third field."""
    number = re.findall(r"(\d)(?:st|nd|rd)", scene.said)
    return press(scene.all("input")[int(number[0]) - 1 if number else 0])


def ascending(scene: Scene) -> Message:
    """Click numbers from the lowest."""
    hidden = scene.all("rect")  # in their order, once the first was clicked
    return press(hidden[0] if hidden else scene.said_by("1", scene.all("text")))


def parity(scene: Scene) -> Message:
    """Mark each number as odd or even."""
    numbers = scene.all(kind="display-number")
    for kind, rest in (("odd", 1), ("even", 0)):
        for number, node in zip(numbers, scene.all("button", kind), strict=True):
            if int(number["text"]) % 2 == rest and not scene.times("click", node["ref"]):
                return press(node)
    return scene.submit()


def tree(scene: Scene) -> Message:
    """Open folders in the order of the page until the name is there."""
    items = [*scene.all("span", "folder"), *scene.all("span", "file")]
    found = scene.said_by(scene.quoted[0], items)
    if found is not None:
        return press(found)
    closed = [n for n in scene.all("span", "folder") if not scene.times("click", n["ref"])]
    return press(closed[0] if closed else None)


def greatest(scene: Scene) -> Message:
    """Pick the card with the greatest number: turn all, then the best again."""
    cards = scene.all(kind="card")
    values = dict(zip((card["ref"] for card in cards), _numbers(scene, cards), strict=True))
    best = max(values, key=lambda ref: values[ref])
    return scene.submit() if scene.times("click", best) else call("click", ref=best)


def _numbers(scene: Scene, cards: list[Node]) -> list[int]:
    found: list[int] = []
    for card in cards:
        at = scene.nodes.index(card)
        inner = [card, *below(scene, at)]
        found += [int(each["text"]) for each in inner if each.get("text", "").isdigit()][:1]
    return found


def posts(scene: Scene) -> Message:
    """Press a button under the posts of a user: all of them, or as many as are asked for."""
    action = scene.quoted[0].lower()
    user = re.findall(r"@\w+", scene.said)[0]
    number = re.findall(r"on (\d+) posts?", scene.said)
    pressed = 0
    for post in scene.all(kind="media"):
        inner = below(scene, scene.nodes.index(post))
        if not any(each.get("text") == user for each in inner):
            continue
        if number and pressed == int(number[0]):
            break
        button = next(each for each in inner if is_a(each, action))
        pressed += 1
        if not scene.times("click", button["ref"]):
            return press(button)
    return scene.submit()


def ticket(scene: Scene) -> Message:
    """Book by price or by duration."""
    books = scene.all("button", "buy-ticket")
    if "cheap" in scene.said or "expensive" in scene.said:
        worth = [int(each["attributes"]["data-price"]) for each in books]
    else:
        times = scene.all(kind="time-duration")
        worth = [int(each["attributes"]["data-duration"]) for each in times]
    least = any(word in scene.said for word in ("cheap", "short"))
    return press(books[worth.index(min(worth) if least else max(worth))])


def shape_name(scene: Scene) -> Message:
    """Say what a figure is."""
    figure = scene.nodes[next(i for i, n in enumerate(scene.nodes) if n["tag"] == "svg") + 1]
    kinds = {"rect": "rectangle", "circle": "circle", "polygon": "triangle"}
    kind = kinds.get(figure["tag"]) or ("digit" if figure["text"].isdigit() else "letter")
    return press(scene.all("button", data_type=kind)[0])
