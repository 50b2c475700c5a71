"""ALFRED's six kinds of task: what is to be true in the end, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from foldgym.envs.household.pddl import Atom, Tree
from foldgym.errors import DataError


@dataclass(frozen=True, slots=True)
class Kind:
    """`mark` is what has to become of the object on the way, `copies` how many are wanted."""

    sentences: tuple[str, str]
    mark: str = ""
    ability: str = ""
    copies: int = 1


KINDS: Mapping[str, Kind] = {
    "pick_and_place_simple": Kind(("put a {obj} in {recep}", "put some {obj} on {recep}")),
    "look_at_obj_in_light": Kind(
        ("look at {obj} under the {recep}", "examine the {obj} with the {recep}"), "istoggled"
    ),
    "pick_clean_then_place_in_recep": Kind(
        ("put a clean {obj} in {recep}", "clean some {obj} and put it in {recep}"),
        "isclean",
        "cleanable",
    ),
    "pick_heat_then_place_in_recep": Kind(
        ("put a hot {obj} in {recep}", "heat some {obj} and put it in {recep}"),
        "ishot",
        "heatable",
    ),
    "pick_cool_then_place_in_recep": Kind(
        ("put a cool {obj} in {recep}", "cool some {obj} and put it in {recep}"),
        "iscool",
        "coolable",
    ),
    "pick_two_obj_and_place": Kind(
        ("put two {obj} in {recep}", "find two {obj} and put them in {recep}"), copies=2
    ),
}
LIGHT = "look_at_obj_in_light"


def sentence(kind: str, obj: str, recep: str, form: int = 0) -> str:
    """The last line of an opening, in one of two forms; `recep` is the lamp where there is one."""
    return f"Your task is to: {KINDS[kind].sentences[form].format(obj=obj, recep=recep)}."


def formula(kind: str, obj: str, recep: str) -> Tree:
    """What has to hold in the end, with quantifiers."""
    what = KINDS[kind]
    wanted: list[Tree] = [("objecttype", "?o", f"{obj}type")]
    if kind == LIGHT:
        light: list[Tree] = [
            ("objecttype", "?t", f"{recep}type"),
            ("toggleable", "?t"),
            ("istoggled", "?t"),
            ("receptacleatlocation", "?r", "?l"),
            ("atlocation", "?a", "?l"),
            ("inreceptacle", "?t", "?r"),
        ]
        lit = _exists({"t": "object", "r": "receptacle", "a": "agent", "l": "location"}, light)
        return (
            "and",
            lit,
            _exists({"o": "object", "a": "agent"}, [*wanted, ("holds", "?a", "?o")]),
        )
    wanted += [("receptacletype", "?r", f"{recep}type"), ("inreceptacle", "?o", "?r")]
    if what.mark:
        wanted += [(what.ability, "?o"), (what.mark, "?o")]
    if what.copies == 2:
        other: list[Tree] = [
            ("not", ("=", "?o", "?p")),
            ("objecttype", "?p", f"{obj}type"),
            ("inreceptacle", "?p", "?r"),
        ]
        wanted.append(_exists({"p": "object"}, other))
    return ("and", _exists({"r": "receptacle", "o": "object"}, wanted))


def _exists(variables: Mapping[str, str], conjuncts: list[Tree]) -> Tree:
    listed = [word for name, kind in variables.items() for word in (f"?{name}", "-", kind)]
    return ("exists", tuple(listed), ("and", *conjuncts))


def described(goal: Tree) -> str:
    """The last line of an opening for a goal of one of the six kinds, in its first form.

    Raises `DataError` for a goal of another kind.
    """
    said = set(_atoms(goal))
    objects = {(name, kind.removesuffix("type")) for _, name, kind in _of(said, "objecttype", 3)}
    places = {kind.removesuffix("type") for _, _, kind in _of(said, "receptacletype", 3)}
    toggled = {each for _, each in _of(said, "istoggled", 2)}
    lamps = {kind for name, kind in objects if name in toggled}
    wanted = {kind for name, kind in objects if name not in toggled}
    marks = [name for name, kind in KINDS.items() if kind.ability and _of(said, kind.mark, 2)]
    if len(wanted) == 1 and len(marks) < 2:
        (obj,) = wanted
        if len(lamps) == 1 and _of(said, "holds", 3) and not places and not marks:
            return sentence(LIGHT, obj, lamps.pop())
        copies = len({each for _, each, _ in _of(said, "inreceptacle", 3)})
        if len(places) == 1 and not lamps and copies in (1, 2) and (copies == 1 or not marks):
            plain = "pick_and_place_simple" if copies == 1 else "pick_two_obj_and_place"
            return sentence(marks[0] if marks else plain, obj, places.pop())
    raise DataError("the goal is of none of ALFRED's six kinds; only a .tw-pddl file says its task")


def _of(atoms: set[Atom], name: str, size: int) -> list[Atom]:
    return sorted(each for each in atoms if each[0] == name and len(each) == size)


def _atoms(tree: Tree) -> Iterator[Atom]:
    if isinstance(tree, tuple):
        names = [each for each in tree if isinstance(each, str)]
        if names and len(names) == len(tree):
            yield tuple(names)
        for each in tree:
            yield from _atoms(each)
