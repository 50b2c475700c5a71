"""A house as ALFRED describes it: what can change, what cannot, and how a problem says it."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from foldgym.envs.household.goals import Goal, ground
from foldgym.envs.household.names import called
from foldgym.envs.household.pddl import Atom, Problem
from foldgym.errors import DataError

Pair = tuple[str, str]

MACHINES = {
    "clean": ("cleanable", "sinkbasintype"),
    "heat": ("heatable", "microwavetype"),
    "cool": ("coolable", "fridgetype"),
}
_KNIVES = ("knifetype", "butterknifetype")
CHANGES = {
    "isclean": ("cleanable",),
    "ishot": ("heatable", "coolable"),
    "iscool": ("heatable", "coolable"),
    "issliced": ("sliceable",),
    "istoggled": ("toggleable",),
    "ison": ("toggleable",),
}
"""Facts about an object that an act can change, and what the object must be for that."""


@dataclass(frozen=True, slots=True)
class State:
    """What can change. `marks` are facts about one object, such as ("isclean", "mug_1").

    An object may be in several receptacles, as it is in some problems of ALFRED. `left` holds the
    (object, receptacle) of every taking that no putting back undid: that is what is seen next to a
    receptacle when another one stands at the same location.
    """

    place: str
    held: str
    opened: frozenset[str]
    inside: Mapping[str, tuple[str, ...]]
    around: frozenset[Pair]
    left: frozenset[Pair]
    marks: frozenset[Pair]


@dataclass(frozen=True, slots=True)
class World:
    """What cannot change, by id; `names` says what an id is called.

    `beside` are the receptacles at a location, `accepts` the objects that a receptacle can hold,
    `machines` the verbs it is good for, `able` the objects of each ability (pickupable, ...).
    """

    agent: str
    names: Mapping[str, str]
    location: Mapping[str, str]
    beside: Mapping[str, tuple[str, ...]]
    openable: frozenset[str]
    accepts: Mapping[str, frozenset[str]]
    machines: Mapping[str, tuple[str, ...]]
    able: Mapping[str, frozenset[str]]
    knives: frozenset[str]
    nested: Mapping[str, tuple[str, ...]]
    goal: Goal
    start: State

    def __deepcopy__(self, memo: dict[int, Any]) -> World:
        """Snapshots share it."""
        return self


_PAIRS = frozenset(
    (
        *("atlocation", "holds", "receptacleatlocation", "objectatlocation", "inreceptacle"),
        *("inreceptacleobject", "receptacletype", "objecttype", "cancontain"),
    )
)
_ONES = frozenset(
    (
        *("holdsany", "opened", "openable", "pickupable", "isreceptacleobject"),
        *CHANGES,
        *(need for needs in CHANGES.values() for need in needs),
    )
)


def _check(atom: Atom) -> None:
    name, *of = atom
    size = 2 if name in _PAIRS else 1 if name in _ONES else len(of)
    if len(of) != size:
        raise DataError(f"({' '.join(atom)}): {name} is said of {size}, not of {len(of)}")


class _Facts:
    """The facts of a problem by predicate, each in the order of the alphabet."""

    def __init__(self, facts: Iterable[Atom]) -> None:
        self.by_name: dict[str, list[tuple[str, ...]]] = {}
        for fact in sorted(facts):
            _check(fact)
            self.by_name.setdefault(fact[0], []).append(fact[1:])

    def ones(self, name: str) -> frozenset[str]:
        return frozenset(each for (each,) in self.by_name.get(name, ()))

    def pairs(self, name: str) -> list[Pair]:
        return [(left, right) for left, right in self.by_name.get(name, ())]

    def lists(self, name: str, key: int = 1) -> dict[str, tuple[str, ...]]:
        lists: dict[str, list[str]] = {}
        for pair in self.pairs(name):
            lists.setdefault(pair[key], []).append(pair[1 - key])
        return {each: tuple(held) for each, held in lists.items()}


def build(problem: Problem, rng: random.Random | None = None) -> World:
    """The house of a problem; `rng` shuffles the numbers in its names.

    Raises `DataError` for a problem that is not one of ALFRED's kind.
    """
    facts = _Facts(problem.facts)
    agents = [name for name, kind in problem.objects.items() if kind == "agent"]
    if len(agents) != 1:
        raise DataError(f"{problem.name}: there must be one agent, not {len(agents)}")
    (agent,) = agents
    places = [place for who, place in facts.pairs("atlocation") if who == agent]
    if len(places) != 1:
        raise DataError(f"{problem.name}: the agent must be at one location, not {len(places)}")
    held = [thing for who, thing in facts.pairs("holds") if who == agent]
    if len(held) > 1 or bool(held) != bool(facts.ones("holdsany")):
        raise DataError(f"{problem.name}: holds and holdsAny must agree, on one object at most")
    places_of = facts.lists("receptacleatlocation", key=0)
    for each, several in places_of.items():
        if len(several) > 1:
            raise DataError(f"{problem.name}: {each} is at {len(several)} locations, not at one")
    able = {name: facts.ones(name) for name in sorted(_ONES)}
    start = State(
        places[0],
        held[0] if held else "",
        facts.ones("opened"),
        facts.lists("inreceptacle"),
        frozenset(facts.pairs("objectatlocation")),
        frozenset(),
        frozenset((name, each) for name in CHANGES for each in facts.ones(name)),
    )
    kinds = facts.lists("receptacletype", key=0)
    fits = facts.lists("cancontain", key=0)
    members = facts.lists("objecttype")
    accepts = {
        each: frozenset(
            thing
            for kind in kinds.get(each, ())
            for fitting in fits.get(kind, ())
            for thing in members.get(fitting, ())
        )
        for each in places_of
    }
    machines = {
        each: tuple(verb for verb, (_, kind) in MACHINES.items() if kind in kinds.get(each, ()))
        for each in places_of
    }
    movable = able["pickupable"] | {start.held}
    openable = able["openable"]
    standing = frozenset(problem.facts)

    def settled(atom: Atom) -> bool | None:
        _check(atom)
        name, *of = atom
        if name in ("checked", "examined"):
            raise DataError(f"{problem.name}: no rule here keeps ({' '.join(atom)}) of the goal")
        changes = (
            name in ("atlocation", "holdsany")
            or (name in ("inreceptacle", "objectatlocation") and of[0] in movable)
            or (name == "holds" and of[-1] in movable)
            or (name == "opened" and of[0] in openable)
            or any(of[0] in able[need] for need in CHANGES.get(name, ()))
        )
        return None if changes else atom in standing

    return World(
        agent=agent,
        names=called({each for fact in problem.facts for each in fact[1:]}, rng),
        location={each: several[0] for each, several in places_of.items()},
        beside=facts.lists("receptacleatlocation"),
        openable=openable,
        accepts=accepts,
        machines=machines,
        able=able,
        knives=frozenset(each for kind in _KNIVES for each in members.get(kind, ())),
        nested=facts.lists("inreceptacleobject"),
        goal=ground(problem.goal, problem.objects, settled),
        start=start,
    )
