"""PDDL as text: parenthesised expressions, and the problem that a file of them states."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

from foldgym.errors import DataError

Tree: TypeAlias = "str | tuple[Tree, ...]"
Atom: TypeAlias = tuple[str, ...]
"""`("inreceptacle", "mug_1", "shelf_2")`: a predicate and the names it holds for."""

_TOKEN = re.compile(r";[^\n]*|[()]|[^\s();]+")
_DEEPEST = 200
ROOT = "object"
"""The type of which every other type is a kind."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Names with their types, in the order of the file; what holds at first; what has to hold.

    `Problem("plan_1", {"mug_1": "object"}, (("pickupable", "mug_1"),), ("holds", "a", "mug_1"))`.
    Everything is in lower case, as PDDL does not tell cases apart.
    """

    name: str
    objects: Mapping[str, str]
    facts: tuple[Atom, ...]
    goal: Tree


def read_tree(text: str) -> Tree:
    """The one expression that a text holds; comments run from `;` to the end of the line.

    Raises `DataError` with the line of what is wrong.
    """
    open_ones: list[list[Tree]] = []
    done: Tree | None = None
    for found in _TOKEN.finditer(text):
        token = found.group().lower()
        if token.startswith(";"):
            continue
        if done is not None or (not open_ones and token != "("):
            raise _wrong(text, found.start(), f"{token!r} outside of the parentheses")
        if token == "(":
            if len(open_ones) == _DEEPEST:
                raise _wrong(text, found.start(), f"parentheses deeper than {_DEEPEST}")
            open_ones.append([])
        elif token == ")":
            closed = tuple(open_ones.pop())
            if open_ones:
                open_ones[-1].append(closed)
            else:
                done = closed
        else:
            open_ones[-1].append(token)
    if done is None:
        raise DataError(f"the PDDL text ends with {len(open_ones)} parentheses open")
    return done


def _wrong(text: str, at: int, what: str) -> DataError:
    return DataError(f"line {text.count(chr(10), 0, at) + 1} of the PDDL text: {what}")


def typed(names: Sequence[Tree]) -> Iterator[tuple[str, str]]:
    """Pairs of a typed list: `a b - room c` gives a and b of type room, c of `ROOT`."""
    waiting: list[str] = []
    rest = iter(names)
    for name in rest:
        if not isinstance(name, str):
            raise DataError(f"a list of names holds {write(name)}")
        if name != "-":
            waiting.append(name)
            continue
        kind = next(rest, None)
        if not isinstance(kind, str):
            said = "nothing" if kind is None else write(kind)
            raise DataError(f"a type must be a name, not {said}")
        yield from ((each, kind) for each in waiting)
        waiting = []
    yield from ((each, ROOT) for each in waiting)


def write(tree: Tree) -> str:
    """The expression on one line."""
    return tree if isinstance(tree, str) else f"({' '.join(write(each) for each in tree)})"


def sections(tree: Tree, kind: str) -> Iterator[tuple[str, tuple[Tree, ...]]]:
    """The parts of `(define (KIND name) (:part ...) ...)`: each part's name and what it holds.

    Comes first: ("", (name,)). Raises `DataError` if the expression is something else.
    """
    if not isinstance(tree, tuple) or tree[:1] != ("define",) or len(tree) < 2:
        raise DataError(f"a {kind} must be written (define ({kind} NAME) ...)")
    head = tree[1]
    if not isinstance(head, tuple) or len(head) != 2 or head[0] != kind:
        raise DataError(f"(define {write(head)[:80]} ...) is no {kind}")
    yield "", head[1:]
    for part in tree[2:]:
        if not isinstance(part, tuple) or not part or not isinstance(part[0], str):
            raise DataError(f"the {kind} holds {write(part)[:80]!r} where a section should be")
        yield part[0], part[1:]


def read_problem(text: str) -> Problem:
    """The problem that a text states; numbers (costs, distances) are left out.

    Raises `DataError` that says what is wrong.
    """
    name, goal = "", None
    objects: dict[str, str] = {}
    facts: dict[Atom, None] = {}
    for part, held in sections(read_tree(text), "problem"):
        if part == "":
            name = write(held[0])
        elif part == ":objects":
            objects.update(typed(held))
        elif part == ":init":
            facts.update(dict.fromkeys(_facts(held)))
        elif part == ":goal":
            if len(held) != 1:
                raise DataError(f"the goal of {name} must be one expression, not {len(held)}")
            goal = held[0]
    if goal is None:
        raise DataError(f"the problem {name} has no (:goal ...)")
    for fact in facts:
        for each in fact[1:]:
            if each not in objects:
                raise DataError(f"{write(fact)}: {each!r} is not among the objects of {name}")
    return Problem(name, objects, tuple(facts), goal)


def _facts(held: Sequence[Tree]) -> Iterator[Atom]:
    for fact in held:
        if isinstance(fact, tuple) and fact[:1] == ("=",):
            continue
        if not isinstance(fact, tuple) or not fact or not all(isinstance(x, str) for x in fact):
            raise DataError(f"{write(fact)[:80]!r} in (:init ...) is no fact")
        yield cast("Atom", fact)
