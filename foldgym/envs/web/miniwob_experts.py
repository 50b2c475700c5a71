"""Scripted players of MiniWoB++ tasks: they read what a player sees, and act by ref."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
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
        """Click the button of this text; wait if it is not there."""
        return _click(self.said_by(text, self.all("button")))

    def submit(self) -> Message:
        """Click the button that ends the task."""
        for node in self.all():
            if node.get("text", "").strip() in ("Submit", "Search", "Login", "OK", "Go!"):
                return _click(node)
        return _click(None)


Expert = Callable[[Scene], Message]


def _click(node: Node | None) -> Message:
    return call("noop") if node is None else call("click", ref=node["ref"])


def _filled(scene: Scene, wanted: Iterable[tuple[Node, str]]) -> Message:
    """Fill the first field that holds something else, then submit."""
    for node, text in wanted:
        if node.get("value") != text:
            return call("fill", ref=node["ref"], text=text)
    return scene.submit()


def _inputs(scene: Scene) -> list[Node]:
    return [
        n for n in scene.all("input") if n["attributes"].get("type") not in ("checkbox", "radio")
    ]


# ---------------------------------------------------------------- clicking


def first_button(scene: Scene) -> Message:
    """Click the only button."""
    return _click(scene.all("button")[0])


def named_button(scene: Scene) -> Message:
    """Click the button that is named, in quotes or in capitals."""
    named = scene.quoted or re.findall(r"button (\w+)", scene.said)
    return scene.button(named[0])


def in_turn(scene: Scene) -> Message:
    """Click button ONE, then button TWO."""
    return scene.button("TWO" if scene.done else "ONE")


def link(scene: Scene) -> Message:
    """Click a link by its text."""
    return _click(scene.said_by(scene.quoted[0], scene.all(kind="alink")))


def options(scene: Scene) -> Message:
    """Tick what is listed, then submit."""
    listed = re.fullmatch(r"Select (.*?) and click Submit\.?", scene.said)
    names = listed[1].split(", ") if listed else []
    for node in scene.all("input"):
        if node["name"] in names and not node["checked"]:
            return _click(node)
    return scene.submit()


def colour(scene: Scene) -> Message:
    """Click the box of a colour."""
    named = re.findall(r"on the (\w+) colored", scene.said)[0]
    return _click(scene.all(data_color=named)[0])


def shades(scene: Scene) -> Message:
    """Click every shade of a colour, then submit."""
    named = re.findall(r"shades of (\w+)", scene.said)[0]
    for node in scene.all("span", data_color=named):
        if not scene.times("click", node["ref"]):
            return _click(node)
    return scene.submit()


def dialog(scene: Scene) -> Message:
    """Close a dialog, or press its button."""
    named = scene.quoted[0]
    return _click(scene.all(title="Close")[0]) if named == "x" else scene.button(named)


def tab(scene: Scene) -> Message:
    """Open a tab by its number."""
    named = re.findall(r"Tab #\d+", scene.said)[0]
    return _click(scene.said_by(named, scene.all("a")))


def tabs(scene: Scene) -> Message:
    """Open one tab after the other until the link is there."""
    found = scene.said_by(scene.quoted[0], scene.all(kind="alink"))
    if found is not None:
        return _click(found)
    closed = [
        n for n in scene.all("a", kind="ui-tabs-anchor") if not scene.times("click", n["ref"])
    ]
    return _click(closed[0] if closed else None)


def section(scene: Scene) -> Message:
    """Open the only section, then submit."""
    header = scene.all("h3")[0]
    return scene.submit() if scene.done else _click(header)


def sections(scene: Scene) -> Message:
    """Open one section after the other until the link is there."""
    found = scene.said_by(scene.quoted[0], scene.all(kind="alink"))
    if found is not None:
        return _click(found)
    closed = [node for node in scene.all("h3") if not scene.times("click", node["ref"])]
    return _click(closed[0] if closed else None)


def menu(scene: Scene) -> Message:
    """Walk down a menu of menus."""
    path = scene.said.removeprefix("Select ").split(">")
    shown: dict[str, Node] = {}
    for node in scene.all(kind="ui-menu-item-wrapper"):
        inner = [node, *_below(scene, scene.nodes.index(node))]
        shown["".join(each.get("text", "") for each in inner)] = node
    there = [shown[name] for name in path if name in shown]
    if len(there) == len(path):
        return _click(there[-1])
    return call("hover", ref=there[-1]["ref"]) if there else call("noop")


def widget(scene: Scene) -> Message:
    """Click a kind of widget."""
    kind = scene.quoted[0]
    return _click(scene.all(data_type=kind)[0])


def point(scene: Scene) -> Message:
    """Click a point of a grid."""
    named = re.findall(r"\(-?\d+,-?\d+\)", scene.said)[0]
    return _click(scene.all("circle", id=named)[0])


def focus(scene: Scene) -> Message:
    """Click into the first, second or third field."""
    number = re.findall(r"(\d)(?:st|nd|rd)", scene.said)
    return _click(scene.all("input")[int(number[0]) - 1 if number else 0])


def ascending(scene: Scene) -> Message:
    """Click numbers from the lowest."""
    hidden = scene.all("rect")  # in their order, once the first was clicked
    return _click(hidden[0] if hidden else scene.said_by("1", scene.all("text")))


def parity(scene: Scene) -> Message:
    """Mark each number as odd or even."""
    numbers = scene.all(kind="display-number")
    for kind, rest in (("odd", 1), ("even", 0)):
        for number, node in zip(numbers, scene.all("button", kind), strict=True):
            if int(number["text"]) % 2 == rest and not scene.times("click", node["ref"]):
                return _click(node)
    return scene.submit()


def tree(scene: Scene) -> Message:
    """Open folders in the order of the page until the name is there."""
    items = [*scene.all("span", "folder"), *scene.all("span", "file")]
    found = scene.said_by(scene.quoted[0], items)
    if found is not None:
        return _click(found)
    closed = [n for n in scene.all("span", "folder") if not scene.times("click", n["ref"])]
    return _click(closed[0] if closed else None)


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
        inner = [card, *_below(scene, at)]
        found += [int(each["text"]) for each in inner if each.get("text", "").isdigit()][:1]
    return found


def _below(scene: Scene, at: int) -> list[Node]:
    """What is inside the element at a position."""
    depth, inner = scene.nodes[at]["depth"], []
    for node in scene.nodes[at + 1 :]:
        if node["depth"] <= depth:
            break
        inner.append(node)
    return inner


def posts(scene: Scene) -> Message:
    """Press a button under the posts of a user: all of them, or as many as are asked for."""
    action = scene.quoted[0].lower()
    user = re.findall(r"@\w+", scene.said)[0]
    number = re.findall(r"on (\d+) posts?", scene.said)
    pressed = 0
    for post in scene.all(kind="media"):
        inner = _below(scene, scene.nodes.index(post))
        if not any(each.get("text") == user for each in inner):
            continue
        if number and pressed == int(number[0]):
            break
        button = next(each for each in inner if _is(each, action))
        pressed += 1
        if not scene.times("click", button["ref"]):
            return _click(button)
    return scene.submit()


def _is(node: Node, kind: str) -> bool:
    return bool(node["ref"]) and kind in node["attributes"].get("class", "").split()


def ticket(scene: Scene) -> Message:
    """Book by price or by duration."""
    books = scene.all("button", "buy-ticket")
    if "cheap" in scene.said or "expensive" in scene.said:
        worth = [int(each["attributes"]["data-price"]) for each in books]
    else:
        times = scene.all(kind="time-duration")
        worth = [int(each["attributes"]["data-duration"]) for each in times]
    least = any(word in scene.said for word in ("cheap", "short"))
    return _click(books[worth.index(min(worth) if least else max(worth))])


def shape_name(scene: Scene) -> Message:
    """Say what a figure is."""
    figure = scene.nodes[next(i for i, n in enumerate(scene.nodes) if n["tag"] == "svg") + 1]
    kinds = {"rect": "rectangle", "circle": "circle", "polygon": "triangle"}
    kind = kinds.get(figure["tag"]) or ("digit" if figure["text"].isdigit() else "letter")
    return _click(scene.all("button", data_type=kind)[0])


# ---------------------------------------------------------------- writing


def text(scene: Scene) -> Message:
    """Write what is quoted into every field, in the case that is asked for."""
    word = scene.quoted[0]
    if "lower case" in scene.said:
        word = word.lower()
    elif "upper case" in scene.said:
        word = word.upper()
    return _filled(scene, ((node, word) for node in _inputs(scene)))


def login(scene: Scene) -> Message:
    """Write a name and a password."""
    return _filled(scene, zip(_inputs(scene), scene.quoted, strict=True))


def date(scene: Scene) -> Message:
    """Write a date into a date field."""
    day = datetime.strptime(re.findall(r"\d+/\d+/\d+", scene.said)[0], "%m/%d/%Y")
    return _filled(scene, [(_inputs(scene)[0], f"{day:%Y-%m-%d}")])


def time(scene: Scene) -> Message:
    """Write a time into a time field."""
    at = datetime.strptime(re.findall(r"\d+:\d+ [AP]M", scene.said)[0], "%I:%M %p")
    return _filled(scene, [(_inputs(scene)[0], f"{at:%H:%M}")])


def chosen(scene: Scene) -> Message:
    """Choose from a list, then submit."""
    named = re.findall(r"Select (.*) from the", scene.said)[0]
    field = scene.all("select")[0]
    wanted = [named] if "multiple" not in field["attributes"] else named.split(", ")
    if [name for name, on in field["options"] if on] == wanted or scene.done:
        return scene.submit()
    return call("select", ref=field["ref"], options=wanted)


def copied(scene: Scene) -> Message:
    """Copy a text from one field to another."""
    number = re.findall(r"(\d)(?:st|nd|rd)", scene.said)
    source = scene.all("textarea")[int(number[0]) - 1 if number else 0]
    if scene.done:
        return scene.submit()
    return call("fill", ref=_inputs(scene)[0]["ref"], text=source["value"])


def word(scene: Scene) -> Message:
    """Write the n-th word of a paragraph."""
    number = int(re.findall(r"(\d+)(?:st|nd|rd|th)", scene.said)[0])
    found = scene.all("p")[0]["text"].split()[number - 1].strip(".,")
    return _filled(scene, [(_inputs(scene)[0], found)])


def table(scene: Scene) -> Message:
    """Copy values of a table into the fields that are named."""
    cells = [each.get("text", "") for each in scene.all("td")]
    values = dict(zip(cells[::2], cells[1::2], strict=True))
    asked = re.findall(r"value of (.*) into", scene.said)
    if not asked:
        asked = [
            n["text"].rstrip(": ")
            for n in scene.nodes
            if n.get("text", "").rstrip(": ") in values and n["tag"] != "td"
        ]
    return _filled(scene, [(n, values[a]) for n, a in zip(_inputs(scene), asked, strict=True)])


def movie(scene: Scene) -> Message:
    """Search for a film by genre, director and year."""
    found = re.findall(r"for (.*) movies directed by (.*) from year (\d+)", scene.said)[0]
    words = {"Genre": found[0], "Director": found[1], "Year": found[2], "Released": found[2]}
    labels = [key for n in scene.nodes for key in words if key in n.get("text", "")]
    return _filled(scene, zip(_inputs(scene), (words[key] for key in labels), strict=True))


def arithmetic(scene: Scene) -> Message:
    """Work out two numbers and a sign."""
    a, sign, b = re.findall(r"(-?\d+) ([-+x]) (-?\d+)", scene.all(id="math-problem")[0]["text"])[0]
    value = {"+": int(a) + int(b), "-": int(a) - int(b), "x": int(a) * int(b)}[sign]
    return _filled(scene, [(_inputs(scene)[0], str(value))])


def algebra(scene: Scene) -> Message:
    """Solve an equation with one x and one sign."""
    a, sign, b, c = re.findall(
        r"(x|-?\d+) ([-+]) (x|-?\d+) = (-?\d+)", scene.all(id="math-problem")[0]["text"]
    )[0]
    plus = sign == "+"
    if a == "x":
        value = int(c) - int(b) if plus else int(c) + int(b)
    else:
        value = int(c) - int(a) if plus else int(a) - int(c)
    return _filled(scene, [(_inputs(scene)[0], str(value))])


def captcha(scene: Scene) -> Message:
    """Write the letters that stand askew."""
    at = scene.nodes.index(scene.all(id="captcha")[0])
    letters = "".join(each.get("text", "") for each in _below(scene, at))
    return _filled(scene, [(_inputs(scene)[0], letters or scene.nodes[at]["text"])])


def blocks(scene: Scene) -> Message:
    """Count blocks."""
    count = len(scene.all(kind="addition-block"))
    return _filled(scene, [(_inputs(scene)[0], str(count))])


def form(scene: Scene) -> Message:
    """Check a radio button and write a number into a field."""
    which, number, field = re.findall(r"(\d)\w\w radio.*\"(-?\d+)\".*(\d)\w\w textbox", scene.said)[
        0
    ]
    button = [n for n in scene.all("input") if n["role"] == "radio"][int(which) - 1]
    if not button["checked"]:
        return _click(button)
    return _filled(scene, [(_inputs(scene)[int(field) - 1], number)])


def generated(scene: Scene) -> Message:
    """Generate numbers until one is right."""
    shown = scene.all(id="display-number")[0]["text"]
    how, bound = re.findall(r"(less|greater) than (-?\d+)|$", scene.said)[0]
    right = False
    if re.fullmatch(r"-?\d+", shown):
        number = int(shown)
        if how:
            right = number < int(bound) if how == "less" else number > int(bound)
        else:
            right = number % 2 == ("odd" in scene.said)
    return scene.submit() if right else scene.button("Generate")


def completed(scene: Scene) -> Message:
    """Write the beginning of a word, and take it from the list that comes."""
    begin, *end = scene.quoted
    for node in scene.all(kind="ui-menu-item-wrapper"):
        if node["text"].startswith(begin) and node["text"].endswith(end[0] if end else ""):
            return _click(node)
    field = scene.all("input")[0]
    if field.get("value") and scene.done:
        return scene.submit()
    return call("fill", ref=field["ref"], text=begin)


EXPERTS: Mapping[str, Expert] = {
    "ascending-numbers": ascending,
    "buy-ticket": ticket,
    "choose-list": chosen,
    "click-button": named_button,
    "click-button-sequence": in_turn,
    "click-checkboxes": options,
    "click-checkboxes-large": options,
    "click-checkboxes-transfer": options,
    "click-collapsible": section,
    "click-collapsible-2": sections,
    "click-collapsible-2-nodelay": sections,
    "click-collapsible-nodelay": section,
    "click-color": colour,
    "click-dialog": dialog,
    "click-dialog-2": dialog,
    "click-link": link,
    "click-menu": menu,
    "click-option": options,
    "click-scroll-list": chosen,
    "click-shades": shades,
    "click-tab": tab,
    "click-tab-2": tabs,
    "click-tab-2-easy": tabs,
    "click-tab-2-hard": tabs,
    "click-tab-2-medium": tabs,
    "click-test": first_button,
    "click-test-2": named_button,
    "click-test-transfer": named_button,
    "click-widget": widget,
    "copy-paste": copied,
    "copy-paste-2": copied,
    "enter-date": date,
    "enter-password": text,
    "enter-text": text,
    "enter-text-2": text,
    "enter-text-dynamic": text,
    "enter-time": time,
    "find-greatest": greatest,
    "find-word": word,
    "focus-text": focus,
    "focus-text-2": focus,
    "form-sequence-2": form,
    "generate-number": generated,
    "grid-coordinate": point,
    "identify-shape": shape_name,
    "login-user": login,
    "multi-layouts": movie,
    "multi-orderings": movie,
    "navigate-tree": tree,
    "odd-or-even": parity,
    "read-table": table,
    "read-table-2": table,
    "simple-algebra": algebra,
    "simple-arithmetic": arithmetic,
    "social-media-all": posts,
    "social-media-some": posts,
    "text-transform": captcha,
    "unicode-test": named_button,
    "use-autocomplete": completed,
    "use-autocomplete-nodelay": completed,
    "visual-addition": blocks,
}
"""Tasks with a player, which solves nearly every seed."""
