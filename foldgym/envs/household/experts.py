"""The scripted player: a plan of acts towards a goal, knowing all or only what has been seen."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import islice, product

from foldgym.envs.household.goals import All, Fact, Goal, Not, Some
from foldgym.envs.household.pddl import Atom
from foldgym.envs.household.rules import Act, after, reachable, true_in
from foldgym.envs.household.world import State, World

Literal = tuple[bool, Atom]
"""Whether a fact is wanted, and the fact."""

_ALTERNATIVES = 400
_LONGEST = 120
_VERBS = {"isclean": "clean", "ishot": "heat", "iscool": "cool"}


class _Stuck(Exception):
    """There is no way on from here that this player knows."""


def plan(world: World, state: State, seen: Collection[str] | None = None) -> list[Act] | None:
    """The shortest of the plans for the goal's alternatives; None if there is none.

    With `seen` the player knows only what is in these receptacles, and what it holds.
    """
    best: list[Act] | None = None
    for literals in islice(_alternatives(world.goal), _ALTERNATIVES):
        found = _Player(world, literals, seen).acts(state, len(best) if best else _LONGEST)
        if found is not None and (best is None or len(found) < len(best)):
            best = found
    return best


def search(world: World, state: State, seen: Collection[str]) -> Act | None:
    """The next act of looking into every receptacle: what stands open first."""
    unseen = [each for each in sorted(world.location) if each not in seen]
    unseen.sort(key=lambda each: (world.location[each] != state.place, each in world.openable))
    for each in unseen:
        if world.location[each] != state.place:
            return Act("go", each)
        return Act("examine" if reachable(world, state, each) else "open", each)
    return None


def _alternatives(goal: Goal) -> Iterator[tuple[Literal, ...]]:
    """Sets of facts each of which makes the goal true."""
    if isinstance(goal, Fact):
        yield ((True, goal.atom),)
    elif isinstance(goal, Some):
        for part in goal.parts:
            yield from _alternatives(part)
    elif isinstance(goal, All):
        several = [list(islice(_alternatives(part), _ALTERNATIVES)) for part in goal.parts]
        for chosen in product(*several):
            yield tuple(dict.fromkeys(each for literals in chosen for each in literals))
    else:
        yield from _refused(goal.part)


def _refused(goal: Goal) -> Iterator[tuple[Literal, ...]]:
    if isinstance(goal, Fact):
        yield ((False, goal.atom),)
    elif isinstance(goal, Not):
        yield from _alternatives(goal.part)
    elif isinstance(goal, All):
        yield from _alternatives(Some(tuple(Not(part) for part in goal.parts)))
    else:
        yield from _alternatives(All(tuple(Not(part) for part in goal.parts)))


class _Player:
    def __init__(
        self, world: World, literals: Sequence[Literal], seen: Collection[str] | None
    ) -> None:
        self.world, self.literals, self.seen = world, literals, seen

    def acts(self, state: State, most: int) -> list[Act] | None:
        """What to do until all literals are true; None if that takes more than `most` acts."""
        done: list[Act] = []
        try:
            while missing := self._missing(state):
                if len(done) >= most:
                    return None
                done.append(self._next(state, missing))
                state = after(self.world, state, done[-1])
        except _Stuck:
            return None
        return done

    def _missing(self, state: State) -> list[Literal]:
        return [
            (wanted, atom)
            for wanted, atom in self.literals
            if true_in(self.world, state, atom) != wanted
        ]

    def _next(self, state: State, missing: Sequence[Literal]) -> Act:
        """The one thing to do now."""
        for wanted, atom in sorted(missing, key=lambda each: self._rank(state, each)):
            act = self._towards(state, atom) if wanted else self._against(state, atom)
            if act is not None:
                return act
        raise _Stuck

    def _rank(self, state: State, literal: Literal) -> tuple[int, bool]:
        """Slices first, then each object whole, the one in hand before others; places last."""
        wanted, (name, *of) = literal
        groups = (
            ("issliced",),
            tuple(_VERBS),
            ("inreceptacle",),
            ("holds",),
            ("istoggled", "ison"),
            ("opened",),
        )
        rank = next((at for at, names in enumerate(groups) if name in names), len(groups))
        if rank in (1, 2) and wanted:
            return (1, of[0] != state.held)
        return rank, False

    def _towards(self, state: State, atom: Atom) -> Act | None:
        name, *of = atom
        world = self.world
        if name == "issliced":
            return self._slice(state, of[0])
        if name in _VERBS:
            verb = _VERBS[name]
            machine = [each for each, verbs in world.machines.items() if verb in verbs]
            if not machine:
                raise _Stuck
            nearest = next((m for m in machine if world.location[m] == state.place), machine[0])
            return (
                self._fetch(state, of[0]) or self._go(state, nearest) or Act(verb, of[0], nearest)
            )
        if name == "inreceptacle":
            if self._pending(state, of[0]):
                return None
            return self._fetch(state, of[0]) or self._put(state, of[0], of[1])
        if name == "holds":
            return self._fetch(state, of[1])
        if name in ("istoggled", "ison"):
            where = self._where(state, of[0])
            return self._go(state, where) or Act("use", of[0])
        if name == "opened":
            return self._go(state, of[0]) or Act("open", of[0])
        if name == "atlocation":
            here = world.beside.get(of[1])
            if here:
                return Act("go", here[0])
        raise _Stuck

    def _against(self, state: State, atom: Atom) -> Act | None:
        name, *of = atom
        if name == "opened":
            return self._go(state, of[0]) or Act("close", of[0])
        if name == "ison":
            return self._go(state, self._where(state, of[0])) or Act("use", of[0])
        if name in ("holds", "holdsany"):
            return self._drop(state)
        raise _Stuck

    def _pending(self, state: State, thing: str) -> bool:
        """Whether something has to become of a thing before it is put where it belongs."""
        return any(
            wanted
            and atom[0] in _VERBS
            and atom[1] == thing
            and not true_in(self.world, state, atom)
            for wanted, atom in self.literals
        )

    def _go(self, state: State, receptacle: str) -> Act | None:
        here = self.world.location[receptacle] == state.place
        return None if here else Act("go", receptacle)

    def _where(self, state: State, thing: str) -> str:
        """The receptacle that a thing is in, the first that is at hand if there are several."""
        world = self.world
        holders = [
            each
            for each in world.location
            if thing in state.inside.get(each, ()) and (self.seen is None or each in self.seen)
        ]
        if not holders:
            raise _Stuck
        return min(holders, key=lambda each: (world.location[each] != state.place, each))

    def _fetch(self, state: State, thing: str) -> Act | None:
        if state.held == thing:
            return None
        where = self._where(state, thing)
        if state.held:
            return self._drop(state)
        if act := self._go(state, where):
            return act
        opened = reachable(self.world, state, where)
        return Act("take", thing, where) if opened else Act("open", where)

    def _put(self, state: State, thing: str, receptacle: str) -> Act:
        if thing not in self.world.accepts[receptacle]:
            raise _Stuck
        if act := self._go(state, receptacle):
            return act
        opened = reachable(self.world, state, receptacle)
        return Act("move", thing, receptacle) if opened else Act("open", receptacle)

    def _drop(self, state: State) -> Act:
        """Rid the hands of what they hold, as near and as openly as possible."""
        world = self.world
        fitting = [each for each in world.location if state.held in world.accepts[each]]
        if not fitting:
            raise _Stuck

        def effort(each: str) -> tuple[int, str]:
            far = world.location[each] != state.place
            return far + (not reachable(world, state, each)), each

        return self._put(state, state.held, min(fitting, key=effort))

    def _slice(self, state: State, thing: str) -> Act | None:
        if state.held == thing:
            return self._drop(state)
        if state.held not in self.world.knives:
            knives = [each for each in sorted(self.world.knives) if self._known(state, each)]
            if not knives:
                raise _Stuck
            return self._fetch(state, knives[0])
        where = self._where(state, thing)
        return self._go(state, where) or Act("slice", thing, state.held)

    def _known(self, state: State, thing: str) -> bool:
        try:
            self._where(state, thing)
        except _Stuck:
            return False
        return True
