"""Scripted players of MiniWoB++ tasks in which something is written or chosen."""

from __future__ import annotations

import re
from datetime import datetime

from foldgym.envs.web.miniwob_scene import Scene, below, fields, filled, press
from foldgym.tools import call
from foldgym.types import Message


def text(scene: Scene) -> Message:
    """Write what is quoted into every field, in the case that is asked for."""
    word = scene.quoted[0]
    if "lower case" in scene.said:
        word = word.lower()
    elif "upper case" in scene.said:
        word = word.upper()
    return filled(scene, ((node, word) for node in fields(scene)))


def login(scene: Scene) -> Message:
    """Write a name and a password."""
    return filled(scene, zip(fields(scene), scene.quoted, strict=True))


def date(scene: Scene) -> Message:
    """Write a date into a date field."""
    day = datetime.strptime(re.findall(r"\d+/\d+/\d+", scene.said)[0], "%m/%d/%Y")
    return filled(scene, [(fields(scene)[0], f"{day:%Y-%m-%d}")])


def time(scene: Scene) -> Message:
    """Write a time into a time field."""
    at = datetime.strptime(re.findall(r"\d+:\d+ [AP]M", scene.said)[0], "%I:%M %p")
    return filled(scene, [(fields(scene)[0], f"{at:%H:%M}")])


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
    return call("fill", ref=fields(scene)[0]["ref"], text=source["value"])


def word(scene: Scene) -> Message:
    """Write the n-th word of a paragraph."""
    number = int(re.findall(r"(\d+)(?:st|nd|rd|th)", scene.said)[0])
    found = scene.all("p")[0]["text"].split()[number - 1].strip(".,")
    return filled(scene, [(fields(scene)[0], found)])


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
    return filled(scene, [(n, values[a]) for n, a in zip(fields(scene), asked, strict=True)])


def movie(scene: Scene) -> Message:
    """Search for a film by genre, director and year."""
    found = re.findall(r"for (.*) movies directed by (.*) from year (\d+)", scene.said)[0]
    words = {"Genre": found[0], "Director": found[1], "Year": found[2], "Released": found[2]}
    labels = [key for n in scene.nodes for key in words if key in n.get("text", "")]
    return filled(scene, zip(fields(scene), (words[key] for key in labels), strict=True))


def arithmetic(scene: Scene) -> Message:
    """Work out two numbers and a sign."""
    a, sign, b = re.findall(r"(-?\d+) ([-+x]) (-?\d+)", scene.all(id="math-problem")[0]["text"])[0]
    value = {"+": int(a) + int(b), "-": int(a) - int(b), "x": int(a) * int(b)}[sign]
    return filled(scene, [(fields(scene)[0], str(value))])


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
    return filled(scene, [(fields(scene)[0], str(value))])


def captcha(scene: Scene) -> Message:
    """Write the letters that stand askew."""
    at = scene.nodes.index(scene.all(id="captcha")[0])
    letters = "".join(each.get("text", "") for each in below(scene, at))
    return filled(scene, [(fields(scene)[0], letters or scene.nodes[at]["text"])])


def blocks(scene: Scene) -> Message:
    """Count blocks."""
    count = len(scene.all(kind="addition-block"))
    return filled(scene, [(fields(scene)[0], str(count))])


def form(scene: Scene) -> Message:
    """Check a radio button and write a number into a field."""
    which, number, field = re.findall(r"(\d)\w\w radio.*\"(-?\d+)\".*(\d)\w\w textbox", scene.said)[
        0
    ]
    button = [n for n in scene.all("input") if n["role"] == "radio"][int(which) - 1]
    if not button["checked"]:
        return press(button)
    return filled(scene, [(fields(scene)[int(field) - 1], number)])


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
            return press(node)
    field = scene.all("input")[0]
    if field.get("value") and scene.done:
        return scene.submit()
    return call("fill", ref=field["ref"], text=begin)
