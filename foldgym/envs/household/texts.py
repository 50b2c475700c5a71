"""What the house says: ALFWorld's commands and feedback, byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foldgym.envs.household.rules import Act, options
from foldgym.envs.household.world import State, World

NOTHING = "Nothing happens."
HELP = (
    "Available commands:\n"
    "  look:                             look around your current location\n"
    "  inventory:                        check your current inventory\n"
    "  go to (receptacle):               move to a receptacle\n"
    "  open (receptacle):                open a receptacle\n"
    "  close (receptacle):               close a receptacle\n"
    "  take (object) from (receptacle):  take an object from a receptacle\n"
    "  move (object) to (receptacle):  place an object in or on a receptacle\n"
    "  examine (something):              examine a receptacle or an object\n"
    "  use (object):                     use an object\n"
    "  heat (object) with (receptacle):  heat an object using a receptacle\n"
    "  clean (object) with (receptacle): clean an object using a receptacle\n"
    "  cool (object) with (receptacle):  cool an object using a receptacle\n"
    "  slice (object) with (object):     slice an object using a sharp object\n"
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The wordings that differ between releases of ALFWorld.

    `move` is the command with {o} and {r}, `moved` what it is answered; `locations` says that
    arriving names the location instead of the receptacle; `help` is empty where there is no such
    command.
    """

    move: str = "move {o} to {r}"
    moved: str = "You move the {o} to the {r}."
    locations: bool = False
    help: str = HELP


DIALECTS = {
    "move": Dialect(),
    "put": Dialect("put {o} in/on {r}", "You put the {o} in/on the {r}.", locations=True, help=""),
}
"""`move` since ALFWorld 0.4 (December 2024), `put` before."""

_STATES = (
    (("isclean", "ishot", "issliced"), "This is a hot and clean sliced {}."),
    (("isclean", "iscool", "issliced"), "This is a cool and clean sliced {}."),
    (("isclean", "issliced"), "This is a clean sliced {}."),
    (("ishot", "issliced"), "This is a hot sliced {}."),
    (("iscool", "issliced"), "This is a cool sliced {}."),
    (("isclean", "ishot"), "This is a hot and clean {}."),
    (("isclean", "iscool"), "This is a cool and clean {}."),
    (("ishot",), "This is a hot {}."),
    (("isclean",), "This is a clean {}."),
    (("iscool",), "This is a cold {}."),
)
"""The first line whose marks an object bears says what it looks like."""


def command(dialect: Dialect, world: World, act: Act) -> str:
    """How one does it."""
    verb, what, other = act
    if verb in ("look", "inventory", "help"):
        return verb
    name = world.names[what]
    if verb == "go":
        return f"go to {name}"
    if verb == "take":
        return f"take {name} from {world.names[other]}"
    if verb == "move":
        return dialect.move.format(o=name, r=world.names[other])
    if other:
        return f"{verb} {name} with {world.names[other]}"
    return f"{verb} {name}"


def admissible(dialect: Dialect, world: World, state: State) -> dict[str, Act]:
    """Every command that does something, in the order of the alphabet."""
    found = {command(dialect, world, act): act for act in options(world, state)}
    if not dialect.help:
        del found["help"]
    return dict(sorted(found.items()))


def opening(world: World, task: str) -> str:
    """What an episode begins with; `task` is its last line."""
    if world.beside.get(world.start.place):
        seen = _surroundings(world, world.start)
    else:
        things = _several([f"a {world.names[each]}" for each in sorted(world.location)])
        seen = f"{_MIDDLE}{things}."
    return f"-= Welcome to TextWorld, ALFRED! =-\n\n{seen}\n\n{task}"


_MIDDLE = "You are in the middle of a room. Looking quickly around you, you see "


def feedback(dialect: Dialect, world: World, state: State, act: Act) -> str:
    """What is said to somebody who did it and is now in `state`."""
    verb, what, other = act
    if verb == "look":
        return _surroundings(world, state)
    if verb == "inventory":
        held = f"a {world.names[state.held]}" if state.held else ""
        return f"You are carrying: {held}." if held else "You are not carrying anything."
    if verb == "help":
        return dialect.help
    name = world.names[what]
    if verb == "go":
        where = world.names[world.location[what]] if dialect.locations else name
        return f"You arrive at {where}. {_receptacle(world, state, what)}"
    if verb == "open":
        return f"You open the {name}. {_receptacle(world, state, what)}"
    if verb == "close":
        return f"You close the {name}."
    if verb == "examine":
        seen = _receptacle if what in world.location else _object
        return seen(world, state, what)
    if verb == "use":
        return f"You turn on the {name}."  # off is never said: the mark that decides it stays
    whom = world.names[other]
    if verb == "take":
        return f"You pick up the {name} from the {whom}."
    if verb == "move":
        return dialect.moved.format(o=name, r=whom)
    return (
        f"You sliced the {name} with the {whom}."
        if verb == "slice"
        else (f"You {verb} the {name} using the {whom}.")
    )


def shown(world: World, state: State, act: Act) -> str:
    """The receptacle whose content the feedback to an act lists; empty if none."""
    looked = act.verb in ("go", "open") or (act.verb == "examine" and act.what in world.location)
    closed = act.what in world.openable and act.what not in state.opened
    return act.what if looked and not closed else ""


def _receptacle(world: World, state: State, each: str) -> str:
    name = world.names[each]
    things = _several([f"a {world.names[thing]}" for thing in state.inside.get(each, ())])
    if each not in world.openable:
        return f"On the {name}, you see {things}."
    if each in state.opened:
        return f"The {name} is open. In it, you see {things}."
    return f"The {name} is closed."


def _object(world: World, state: State, thing: str) -> str:
    name = world.names[thing]
    if thing in world.able["isreceptacleobject"]:
        things = _several([f"a {world.names[each]}" for each in world.nested.get(thing, ())])
        return f"This is a normal {name}. In it, you see {things}."
    for marks, text in _STATES:
        if all((mark, thing) in state.marks for mark in marks):
            return text.format(name)
    if thing in world.able["toggleable"] and ("istoggled", thing) in state.marks:
        return f"This {name} is on."
    if thing in world.able["sliceable"] and ("issliced", thing) in state.marks:
        return f"This is a sliced {name}."
    return f"There's nothing special about {name}."


def _surroundings(world: World, state: State) -> str:
    here = world.beside.get(state.place, ())
    if not here:
        return f"{_MIDDLE}nothing."
    facing = _several([world.names[each] for each in here])
    loose = [
        f"a {world.names[thing]}"
        for thing, place in sorted(state.around)
        if place == state.place
        for each in here
        if (thing, each) in state.left
    ]
    return f"You are facing the {facing}. Next to it, you see {_several(loose)}."


def _several(things: Sequence[str]) -> str:
    if len(things) < 2:
        return things[0] if things else "nothing"
    return f"{', '.join(things[:-1])}, and {things[-1]}"
