"""What can be done in a house: ALFRED's rules as functions from states to states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from foldgym.envs.household.goals import reached
from foldgym.envs.household.pddl import Atom
from foldgym.envs.household.world import MACHINES, State, World


class Act(NamedTuple):
    """`Act("take", "mug_1", "shelf_2")`: a verb, the object or receptacle, the other one."""

    verb: str
    what: str = ""
    other: str = ""


def options(world: World, state: State) -> Iterator[Act]:
    """Everything that can be done."""
    yield from (Act("look"), Act("inventory"), Act("help"))
    for each, place in world.location.items():
        if place != state.place:
            yield Act("go", each)
    here = world.beside.get(state.place, ())
    for each in here:
        yield Act("examine", each)
        if each in world.openable:
            yield Act("close" if each in state.opened else "open", each)
        for thing in state.inside.get(each, ()):
            if thing in world.able["toggleable"]:
                yield Act("use", thing)
        if reachable(world, state, each) and not state.held:
            for thing in state.inside.get(each, ()):
                if thing in world.able["pickupable"]:
                    yield Act("take", thing, each)
    if state.held:
        yield from _with_held(world, state, here)


def _with_held(world: World, state: State, here: tuple[str, ...]) -> Iterator[Act]:
    held = state.held
    yield Act("examine", held)
    for each in here:
        if held in world.accepts[each] and reachable(world, state, each):
            yield Act("move", held, each)
        for verb in world.machines[each]:
            if held in world.able[MACHINES[verb][0]]:
                yield Act(verb, held, each)
    if held in world.knives:
        for thing, place in state.around:
            if place == state.place and thing in world.able["sliceable"]:
                yield Act("slice", thing, held)


def reachable(world: World, state: State, receptacle: str) -> bool:
    """Whether a receptacle needs no opening."""
    return receptacle not in world.openable or receptacle in state.opened


def after(world: World, state: State, act: Act) -> State:
    """The state that one of the `options` leads to."""
    verb, what, other = act
    if verb == "go":
        return replace(state, place=world.location[what])
    if verb == "open":
        return replace(state, opened=state.opened | {what})
    if verb == "close":
        return replace(state, opened=state.opened - {what})
    if verb == "take":
        rest = tuple(each for each in state.inside[other] if each != what)
        return replace(
            state,
            held=what,
            inside={**state.inside, other: rest},
            around=state.around - {(what, state.place)},
            left=state.left | {(what, other)},
        )
    if verb == "move":
        there = tuple(sorted({*state.inside.get(other, ()), what}))
        return replace(
            state,
            held="",
            inside={**state.inside, other: there},
            around=state.around | {(what, state.place)},
            left=state.left - {(what, other)},
        )
    marks = state.marks
    if verb == "clean":
        marks |= {("isclean", what)}
    elif verb == "heat":
        marks = marks - {("iscool", what)} | {("ishot", what)}
    elif verb == "cool":
        marks = marks - {("ishot", what)} | {("iscool", what)}
    elif verb == "slice":
        marks |= {("issliced", what)}
    elif verb == "use":
        marks = (marks ^ {("ison", what)}) | {("istoggled", what)}
    return state if marks is state.marks else replace(state, marks=marks)


def true_in(world: World, state: State, atom: Atom) -> bool:
    """Whether a fact that can change holds."""
    name, *of = atom
    if name == "atlocation":
        return of[1] == state.place
    if name == "holds":
        return of[1] == state.held
    if name == "holdsany":
        return state.held != ""
    if name == "opened":
        return of[0] in state.opened
    if name == "inreceptacle":
        return of[0] in state.inside.get(of[1], ())
    if name == "objectatlocation":
        return (of[0], of[1]) in state.around
    return (name, of[0]) in state.marks


def won(world: World, state: State) -> bool:
    """Whether the goal is reached."""
    return reached(world.goal, lambda atom: true_in(world, state, atom))
