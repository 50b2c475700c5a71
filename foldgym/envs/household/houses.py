"""Seeded houses: a room with furniture and things in it, and one of ALFRED's tasks to do there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from foldgym.envs.household.catalogue import LAMP, OPENABLE, PARTS, ROOMS, THINGS
from foldgym.envs.household.pddl import Atom, Problem
from foldgym.envs.household.tasks import KINDS, LIGHT, formula
from foldgym.seeding import derive_seed

_MACHINES = {"isclean": "sinkbasin", "ishot": "microwave", "iscool": "fridge"}
_SHARED = 0.1
"""Share of the receptacles that stand where another one stands."""
FEWEST = 8


@dataclass(frozen=True, slots=True)
class Errand:
    """`Errand("pick_heat_then_place_in_recep", "kitchen", "mug", "coffeemachine")`.

    `target` is the kind of receptacle that the object has to end in, or the lamp.
    """

    kind: str
    room: str
    thing: str
    target: str


def errands(kinds: Sequence[str], split: str) -> dict[str, tuple[Errand, ...]]:
    """All that can be asked for in a split, by kind of task.

    A kind of task with its object and target belongs to one split, whatever the room: of each kind
    a tenth is kept for val, another tenth for test.
    """
    return {kind: _kept(kind, split) for kind in kinds}


@cache
def _kept(kind: str, split: str) -> tuple[Errand, ...]:
    return tuple(each for each in _errands(kind) if _split(kind)[each.thing, each.target] == split)


@cache
def _split(kind: str) -> dict[tuple[str, str], str]:
    """The split of every object with its target."""
    pairs = {(each.thing, each.target) for each in _errands(kind)}
    order = sorted(pairs, key=lambda pair: derive_seed("errand", kind, *pair))
    tenth = len(order) // 10
    names = ["val"] * tenth + ["test"] * tenth + ["train"] * (len(order) - 2 * tenth)
    return dict(zip(order, names, strict=True))


def _errands(kind: str) -> Iterator[Errand]:
    what = KINDS[kind]
    machine = _MACHINES.get(what.mark, "")
    for room, furniture in ROOMS.items():
        for thing, facts in THINGS.items():
            if (
                room not in facts.rooms
                or not {"pickupable", what.ability or "pickupable"} <= facts.able
            ):
                continue
            if kind == LIGHT:
                if room in THINGS[LAMP].rooms:
                    yield Errand(kind, room, thing, LAMP)
                continue
            if machine and machine not in furniture:
                continue
            fitting = [each for each in furniture if each in facts.places]
            if len([each for each in fitting if each != machine]) < 2:
                continue  # it must lie somewhere else at first, and not where it is treated
            for target in fitting:
                if target != machine:
                    yield Errand(kind, room, thing, target)


def furnish(errand: Errand, receptacles: int, things: int, rng: random.Random) -> Problem:
    """A house with this errand in it: about as many receptacles and things as asked for."""
    return _House(errand, rng).problem(receptacles, things)


class _House:
    def __init__(self, errand: Errand, rng: random.Random) -> None:
        self.errand, self.rng = errand, rng
        self.kinds: dict[str, str] = {}
        self.types: dict[str, str] = {"agent1": "agent"}
        self.facts: list[Atom] = []
        self.at: dict[str, str] = {}

    def problem(self, receptacles: int, things: int) -> Problem:
        start = self._location()
        for kind in self._furniture(receptacles):
            self._receptacle(kind)
        self.facts.append(("atlocation", "agent1", start))
        self._things(things)
        self._types()
        what = self.errand
        name = f"{what.kind}-{what.thing}-{what.target}-{what.room}"
        goal = formula(what.kind, what.thing, what.target)
        return Problem(name, self.types, tuple(self.facts), goal)

    def _furniture(self, receptacles: int) -> list[str]:
        """What is needed first, then what a room must have, then more by chance."""
        menu = ROOMS[self.errand.room]
        kinds = dict.fromkeys(menu, 0)
        needed = [self.errand.target, _MACHINES.get(KINDS[self.errand.kind].mark, "")]
        if self.errand.kind == LIGHT:
            needed = [self.rng.choice([each for each in menu if each in THINGS[LAMP].places])]
        places = THINGS[self.errand.thing].places
        elsewhere = [each for each in menu if each in places and each not in needed]
        for kind in [each for each in needed if each] + [self.rng.choice(elsewhere)]:
            kinds[kind] = max(kinds[kind], 1)
        for kind, (least, _) in menu.items():
            kinds[kind] = max(kinds[kind], least)
        while sum(kinds.values()) < receptacles:
            free = [each for each, (_, most) in menu.items() if kinds[each] < most]
            if not free:
                break
            kinds[self.rng.choice(free)] += 1
        return [kind for kind, number in kinds.items() for _ in range(number)]

    def _receptacle(self, kind: str) -> None:
        whole = PARTS.get(kind, kind)
        name = self._id(whole) + (f"_bar_{kind}" if kind in PARTS else "")
        self.types[name], self.kinds[name] = "receptacle", kind
        taken = sorted(set(self.at.values()))
        share = taken and self.rng.random() < _SHARED
        self.at[name] = self.rng.choice(taken) if share else self._location()
        self.facts += [
            ("receptacletype", name, f"{kind}type"),
            ("receptacleatlocation", name, self.at[name]),
        ]
        if kind in OPENABLE:
            self.facts.append(("openable", name))

    def _things(self, things: int) -> None:
        what = self.errand
        copies = self.rng.randint(KINDS[what.kind].copies, KINDS[what.kind].copies + 1)
        not_in = {what.target, _MACHINES.get(KINDS[what.kind].mark, "")}
        for _ in range(copies):
            self._thing(what.thing, not_in)
        if what.kind == LIGHT:
            self._thing(LAMP, set())
        others = [
            each
            for each, facts in THINGS.items()
            if what.room in facts.rooms and each not in (what.thing, LAMP)
        ]
        for _ in range(things - copies):
            self._thing(self.rng.choice(others), set())

    def _thing(self, kind: str, not_in: set[str]) -> None:
        facts = THINGS[kind]
        places = [
            name
            for name, each in self.kinds.items()
            if self.types[name] == "receptacle" and each in facts.places - not_in
        ]
        if not places:
            return
        name, where = self._id(kind), self.rng.choice(places)
        self.types[name], self.kinds[name] = "object", kind
        self.facts += [("objecttype", name, f"{kind}type")]
        self.facts += [(able, name) for able in sorted(facts.able)]
        self.facts += [("inreceptacle", name, where), ("objectatlocation", name, self.at[where])]

    def _types(self) -> None:
        """Kinds are names, too; those that the rules speak of are always there."""
        rtypes = {"sinkbasin", "microwave", "fridge", *ROOMS[self.errand.room]}
        otypes = {"knife", "butterknife", LAMP, *THINGS}
        self.types.update((f"{each}type", "rtype") for each in sorted(rtypes))
        self.types.update((f"{each}type", "otype") for each in sorted(otypes))
        there = {each for name, each in self.kinds.items() if self.types[name] == "receptacle"}
        lying = {each for name, each in self.kinds.items() if self.types[name] == "object"}
        self.facts += [
            ("cancontain", f"{place}type", f"{thing}type")
            for place in sorted(there)
            for thing in sorted(lying)
            if place in THINGS[thing].places
        ]

    def _id(self, kind: str) -> str:
        """An id that nothing has: the kind and a place in space, as ALFRED writes them."""
        while True:
            x, y, z = (self._number(self.rng.randint(-300, 300)) for _ in range(3))
            name = f"{kind}_bar_{x}_bar_{y}_bar_{z}"
            if name not in self.types and f"{name}_bar_{kind}basin" not in self.types:
                return name

    @staticmethod
    def _number(hundredths: int) -> str:
        sign = "minus" if hundredths < 0 else "plus"
        return f"_{sign}_{abs(hundredths) // 100:02d}_dot_{abs(hundredths) % 100:02d}"

    def _location(self) -> str:
        while True:
            x, z = self.rng.randint(-12, 12), self.rng.randint(-12, 12)
            parts = (x, z, self.rng.randrange(4), self.rng.choice((-30, 0, 30, 45, 60)))
            written = "_bar_".join(f"_minus_{-each}" if each < 0 else str(each) for each in parts)
            name = f"loc_bar_{written}"
            if name not in self.types:
                self.types[name] = "location"
                return name
