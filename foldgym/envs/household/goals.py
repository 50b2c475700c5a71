"""Goals: a formula with quantifiers becomes one over facts that can change, ready to be checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, product
from typing import TypeAlias

from foldgym.envs.household.pddl import ROOT, Atom, Tree, typed, write
from foldgym.errors import DataError

_MOST = 50_000


@dataclass(frozen=True, slots=True)
class Fact:
    """True while this holds."""

    atom: Atom


@dataclass(frozen=True, slots=True)
class Not:
    """True while its part is not."""

    part: Goal


@dataclass(frozen=True, slots=True)
class All:
    """True while each part is; without parts, always."""

    parts: tuple[Goal, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """True while one part is; without parts, never."""

    parts: tuple[Goal, ...]


Goal: TypeAlias = Fact | Not | All | Some
ALWAYS, NEVER = All(()), Some(())

Settled = Callable[[Atom], "bool | None"]
"""Whether a fact holds for ever (True), never (False), or may change (None)."""


def reached(goal: Goal, holds: Callable[[Atom], bool]) -> bool:
    """Whether a goal is true where exactly these facts hold."""
    if isinstance(goal, Fact):
        return holds(goal.atom)
    if isinstance(goal, Not):
        return not reached(goal.part, holds)
    if isinstance(goal, All):
        return all(reached(part, holds) for part in goal.parts)
    return any(reached(part, holds) for part in goal.parts)


def subgoals(goal: Goal, steps: Callable[[Atom], tuple[int, int]]) -> tuple[int, int]:
    """(steps done, steps in all) on the alternative that is furthest; `steps` says it of a fact."""
    if isinstance(goal, Fact):
        return steps(goal.atom)
    if isinstance(goal, Not):
        done, of = subgoals(goal.part, steps)
        return int(done < of), 1
    counts = [subgoals(part, steps) for part in goal.parts]
    if isinstance(goal, All):
        return sum(done for done, _ in counts), sum(of for _, of in counts)
    return max(counts, key=lambda each: each[0] / each[1] if each[1] else 1.0, default=(0, 1))


def ground(tree: Tree, types: Mapping[str, str], settled: Settled) -> Goal:
    """A formula without variables, in which only facts that may change are left.

    `types` are those of all names. Reads and, or, not, imply, exists, forall and `=`. Raises
    `DataError` for anything else, and for a formula over too many names.
    """
    return _Grounding(types, settled).of(tree, {})


class _Grounding:
    def __init__(self, types: Mapping[str, str], settled: Settled) -> None:
        self.types, self.settled = types, settled
        self.fresh, self.tried = count(), 0
        self.by_type: dict[str, list[str]] = {ROOT: list(types)}
        for name, kind in types.items():
            if kind != ROOT:
                self.by_type.setdefault(kind, []).append(name)

    def of(self, tree: Tree, bound: Mapping[str, str]) -> Goal:
        head, parts = _parts(tree)
        if head == "and":
            return _all([self.of(part, bound) for part in parts])
        if head == "or":
            return _some([self.of(part, bound) for part in parts])
        if head == "not" and len(parts) == 1:
            return _not(self.of(parts[0], bound))
        if head == "imply" and len(parts) == 2:
            return _some([_not(self.of(parts[0], bound)), self.of(parts[1], bound)])
        if head == "exists" and len(parts) == 2:
            levels = _ordered(*self._flat(tree), bound.keys())
            return _some(list(self._search(levels, bound)))
        if head == "forall" and len(parts) == 2:
            own = list(typed(_list(parts[0])))
            names = [name for name, _ in own]
            choices = product(*(self.by_type.get(kind, ()) for _, kind in own))
            return _all([self.of(parts[1], self._bind(bound, names, each)) for each in choices])
        return self._atom(tree, bound)

    def _bind(
        self, bound: Mapping[str, str], names: Sequence[str], values: Sequence[str]
    ) -> dict[str, str]:
        self.tried += 1
        if self.tried > _MOST:
            raise DataError(f"the goal ranges over more than {_MOST} combinations of names")
        return {**bound, **dict(zip(names, values, strict=True))}

    def _atom(self, tree: Tree, bound: Mapping[str, str]) -> Goal:
        head, parts = _parts(tree)
        names: list[str] = []
        for part in parts:
            name = bound.get(part, part) if isinstance(part, str) else ""
            if name not in self.types:
                raise DataError(
                    f"the goal has {write(tree)!r}, of which {write(part)!r} is no name"
                )
            names.append(name)
        if head == "=" and len(names) == 2:
            return ALWAYS if names[0] == names[1] else NEVER
        atom = (head, *names)
        truth = self.settled(atom)
        return Fact(atom) if truth is None else ALWAYS if truth else NEVER

    def _flat(self, tree: Tree) -> tuple[list[tuple[str, str]], list[Tree]]:
        """Variables and conjuncts of a formula, those of inner `and` and `exists` among them."""
        head, parts = _parts(tree)
        if head == "and":
            several = [self._flat(part) for part in parts]
            variables = [each for some, _ in several for each in some]
            return variables, [each for _, some in several for each in some]
        if head == "exists" and len(parts) == 2:
            own = list(typed(_list(parts[0])))
            renamed = {name: f"{name}#{next(self.fresh)}" for name, _ in own}
            variables, conjuncts = self._flat(_renamed(parts[1], renamed))
            return [(renamed[name], kind) for name, kind in own] + variables, conjuncts
        return [], [tree]

    def _search(self, levels: Sequence[_Level], bound: Mapping[str, str]) -> Iterator[Goal]:
        """The alternatives for the variables of these levels."""
        if not levels:
            yield ALWAYS
            return
        variable, kind, conjuncts = levels[0]
        for value in self.by_type.get(kind, ()) if variable else ("",):
            wider = self._bind(bound, (variable,), (value,)) if variable else bound
            here = self._conjunction(conjuncts, wider)
            if here != NEVER:
                for rest in self._search(levels[1:], wider):
                    yield _all([here, rest])

    def _conjunction(self, conjuncts: Sequence[Tree], bound: Mapping[str, str]) -> Goal:
        parts: list[Goal] = []
        for each in conjuncts:
            part = self.of(each, bound)
            if part == NEVER:
                return NEVER
            parts.append(part)
        return _all(parts)


_Level = tuple[str, str, "list[Tree]"]
"""A variable (empty for none), its type, and the conjuncts that it is the last to complete."""


def _ordered(
    variables: Sequence[tuple[str, str]], conjuncts: Sequence[Tree], bound: Collection[str]
) -> list[_Level]:
    """Levels in an order in which many conjuncts are complete early."""
    left = [(_free(each) - set(bound), each) for each in conjuncts]
    levels: list[_Level] = [("", "", [each for free, each in left if not free])]
    left = [(free, each) for free, each in left if free]
    waiting = list(variables)
    while waiting:
        chosen = max(waiting, key=lambda each: sum(free == {each[0]} for free, _ in left))
        waiting.remove(chosen)
        left = [(free - {chosen[0]}, each) for free, each in left]
        levels.append((*chosen, [each for free, each in left if not free]))
        left = [(free, each) for free, each in left if free]
    if left:
        raise DataError(f"the goal has {write(left[0][1])!r}, of which a variable is not bound")
    return levels


def _parts(tree: Tree) -> tuple[str, tuple[Tree, ...]]:
    if isinstance(tree, str) or not tree or not isinstance(tree[0], str):
        raise DataError(f"the goal has {write(tree)!r} where a condition should be")
    return tree[0], tree[1:]


def _list(tree: Tree) -> tuple[Tree, ...]:
    if isinstance(tree, str) or not tree:
        raise DataError(f"the goal has {write(tree)!r} where variables should be")
    return tree


def _renamed(tree: Tree, names: Mapping[str, str]) -> Tree:
    if isinstance(tree, str):
        return names.get(tree, tree)
    if tree[:1] in (("exists",), ("forall",)) and len(tree) == 3:
        inner = {name for name, _ in typed(_list(tree[1]))}
        names = {name: new for name, new in names.items() if name not in inner}
        return (tree[0], tree[1], _renamed(tree[2], names))
    return tuple(_renamed(each, names) for each in tree)


def _free(tree: Tree) -> set[str]:
    """Variables that nothing inside the formula binds."""
    if isinstance(tree, str):
        return {tree} if tree.startswith("?") else set()
    if tree[:1] in (("exists",), ("forall",)) and len(tree) == 3:
        return _free(tree[2]) - {name for name, _ in typed(_list(tree[1]))}
    return set[str]().union(*(_free(each) for each in tree))


def _all(parts: Sequence[Goal]) -> Goal:
    flat: dict[Goal, None] = {}
    for part in parts:
        if part == NEVER:
            return NEVER
        flat.update(dict.fromkeys(part.parts if isinstance(part, All) else (part,)))
    return next(iter(flat)) if len(flat) == 1 else All(tuple(flat))


def _some(parts: Sequence[Goal]) -> Goal:
    flat: dict[Goal, None] = {}
    for part in parts:
        if part == ALWAYS:
            return ALWAYS
        flat.update(dict.fromkeys(part.parts if isinstance(part, Some) else (part,)))
    return next(iter(flat)) if len(flat) == 1 else Some(tuple(flat))


def _not(part: Goal) -> Goal:
    if isinstance(part, Not):
        return part.part
    if part == ALWAYS:
        return NEVER
    return ALWAYS if part == NEVER else Not(part)
