"""What household problems say: expressions, names, and goals grounded in a world."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.envs.household.goals import ALWAYS, NEVER, Fact, ground, reached, subgoals
from foldgym.envs.household.names import called
from foldgym.envs.household.pddl import read_problem, read_tree, typed, write
from foldgym.errors import DataError
from foldgym.seeding import generator

# ---------------------------------------------------------------- expressions


def test_expressions() -> None:
    assert read_tree("(a (B c) ; d)\n e)") == ("a", ("b", "c"), "e")
    assert write(("a", ("b", "c"), "e")) == "(a (b c) e)"
    assert list(typed(("a", "b", "-", "room", "c"))) == [
        ("a", "room"),
        ("b", "room"),
        ("c", "object"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(a\n(b)", "ends with 1 parentheses open"),
        ("", "ends with 0 parentheses open"),
        ("(a)\n\n)", "line 3 of the PDDL text: ')' outside"),
        ("b", "line 1 of the PDDL text: 'b' outside"),
        ("(" * 500, "deeper than 200"),
        ("(define (domain x))", "(define (domain x) ...) is no problem"),
        ("(define (problem x) y)", "holds 'y' where a section should be"),
        ("(define (problem x))", "has no"),
        ("(define (problem x) (:goal a b))", "must be one expression, not 2"),
        ("(define (problem x) (:objects (a)) (:goal a))", "a list of names holds (a)"),
        ("(define (problem x) (:objects a -) (:goal a))", "a type must be a name, not nothing"),
        ("(define (problem x) (:init a) (:goal a))", "'a' in (:init ...) is no fact"),
        ("(define (problem x) (:init (a b)) (:goal a))", "'b' is not among the objects of x"),
    ],
)
def test_what_is_no_problem(text: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        read_problem(text)
    assert said in str(caught.value)


@given(st.text(alphabet="()a-?; \n", max_size=40))
@settings(max_examples=200)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        tree = read_tree(text)
    except DataError:
        return
    assert read_tree(write(tree)) == tree


# ---------------------------------------------------------------- names


def test_names() -> None:
    ids = ["mug_bar__plus_1", "mug_bar__minus_1", "agent1", "muga", "loc_bar_3", "loc_bar_20"]
    # _minus_ comes before _plus_, and loc_bar_20 before loc_bar_3: the first of two is number 2
    assert called(ids) == {
        "agent1": "agent1 ",
        "loc_bar_20": "loc 2",
        "loc_bar_3": "loc 1",
        "mug_bar__minus_1": "mug 2",
        "mug_bar__plus_1": "mug 1",
        "muga": "muga ",
    }
    shuffled = {tuple(sorted(called(ids, generator(seed)).items())) for seed in range(20)}
    assert len(shuffled) == 4  # two mugs, two places


# ---------------------------------------------------------------- goals


def test_goals_are_grounded() -> None:
    types = {"a": "thing", "b": "thing", "r": "room"}

    def settled(atom: tuple[str, ...]) -> bool | None:
        return None if atom[0] == "wet" else atom == ("red", "a")

    def of(text: str) -> Any:
        return ground(read_tree(text), types, settled)

    assert of("(and (red a) (wet b))") == Fact(("wet", "b"))
    assert of("(exists (?x - thing) (and (red ?x) (wet ?x)))") == Fact(("wet", "a"))
    assert of("(forall (?x - thing) (imply (red ?x) (wet ?x)))") == Fact(("wet", "a"))
    assert of("(exists (?x - room) (red ?x))") == NEVER
    assert of("(forall (?x - thing) (or (= ?x a) (not (red ?x))))") == ALWAYS
    inner = "(exists (?x - thing) (and (red ?x) (exists (?x - thing) (and (= ?x b) (wet ?x)))))"
    assert of(inner) == Fact(("wet", "b"))
    for text, said in (
        ("(wet ?y)", "of which '[?]y' is no name"),
        ("(exists (?x - thing) (wet ?y))", "of which a variable is not bound"),
        ("(and wet)", "where a condition should be"),
        ("(exists ?x (wet ?x))", "where variables should be"),
    ):
        with pytest.raises(DataError, match=said):
            of(text)
    many = {f"n{i}": "thing" for i in range(40)}
    wide = read_tree("(forall (?x ?y ?z - thing) (or (wet ?x) (wet ?y) (wet ?z)))")
    with pytest.raises(DataError, match="more than 50000"):
        ground(wide, many, settled)


def naive(tree: Any, types: dict[str, str], facts: set[Any], bound: dict[str, str]) -> bool:
    """What a formula says, straight from the definition."""
    head, *parts = tree
    if head in ("and", "or"):
        return (all if head == "and" else any)(naive(p, types, facts, bound) for p in parts)
    if head == "not":
        return not naive(parts[0], types, facts, bound)
    if head == "imply":
        return not naive(parts[0], types, facts, bound) or naive(parts[1], types, facts, bound)
    if head in ("exists", "forall"):
        own = list(typed(parts[0]))
        choices = product(
            *([n for n, k in types.items() if kind in (k, "object")] for _, kind in own)
        )
        values = (
            naive(
                parts[1], types, facts, {**bound, **dict(zip((n for n, _ in own), c, strict=True))}
            )
            for c in choices
        )
        return all(values) if head == "forall" else any(values)
    names = tuple(bound.get(each, each) for each in parts)
    return names[0] == names[1] if head == "=" else (head, *names) in facts


TYPES = {"a": "t", "b": "t", "c": "u"}
VARIABLES = ("?x", "?y")


def formulas(bound: tuple[str, ...]) -> st.SearchStrategy[Any]:
    names = st.sampled_from((*TYPES, *bound))
    atoms = st.one_of(
        st.tuples(st.sampled_from(["still", "moves"]), names),
        st.tuples(st.just("="), names, names),
        st.tuples(st.just("link"), names, names),
    )
    if len(bound) == 4:
        return atoms

    def quantified(name: str, kind: str) -> st.SearchStrategy[Any]:
        inner = formulas((*bound, name))
        heads = st.sampled_from(["exists", "forall"])
        return st.tuples(heads, st.just((name, "-", kind)), inner)

    return st.one_of(
        atoms,
        st.recursive(
            atoms,
            lambda inner: st.one_of(
                st.lists(inner, max_size=3).map(lambda parts: ("and", *parts)),
                st.lists(inner, max_size=3).map(lambda parts: ("or", *parts)),
                inner.map(lambda part: ("not", part)),
                st.tuples(st.just("imply"), inner, inner),
            ),
            max_leaves=4,
        ),
        st.sampled_from(VARIABLES).flatmap(
            lambda name: st.sampled_from(["t", "u", "object"]).flatmap(
                lambda kind: quantified(name, kind)
            )
        ),
        st.lists(st.deferred(lambda: formulas((*bound, "?x"))), max_size=2).map(
            lambda parts: ("exists", ("?x", "-", "t"), ("and", *parts))
        ),
    )


@given(
    formulas(()),
    st.sets(st.sampled_from(["a", "b", "c"])),
    st.sets(st.sampled_from(["a", "b", "c"])),
)
@settings(max_examples=150)
def test_a_grounded_goal_says_what_the_formula_says(
    tree: Any, still: set[str], moving: set[str]
) -> None:
    fixed = {("still", each) for each in still} | {("link", "a", "b"), ("link", "c", "c")}
    changing = {("moves", each) for each in moving}

    def settled(atom: tuple[str, ...]) -> bool | None:
        return None if atom[0] == "moves" else atom in fixed

    goal = ground(tree, TYPES, settled)
    expected = naive(tree, TYPES, fixed | changing, {})
    assert reached(goal, lambda atom: atom in changing) == expected
    done, of = subgoals(goal, lambda atom: (int(atom in changing), 1))
    assert (done == of) == expected
