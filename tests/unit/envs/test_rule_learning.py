"""The families of rule learning: rules by hand, what counts and what is free, splits, knobs."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, product

import pytest

from foldgym.envs.base import ToolEnv
from foldgym.envs.long.rule_functions import FunctionOperator, value
from foldgym.envs.long.rule_gallery import EscapeRoom, code
from foldgym.envs.long.rule_reactor import Reactor, combine, plan
from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.testing.validate import validate


def texts(env: ToolEnv, *actions: str) -> list[str]:
    return [env.step(action).observation[0].text for action in actions]


class TestFunctions:
    def test_values(self) -> None:
        assert value([(2, "x^2"), (-3, "|x|")], -2) == 2.0  # 8 - 6
        assert value([(1, "sin(x)")], 1) == 0.841
        assert value([(4, "1/x")], -8) == -0.5
        assert str(value([(-1, "x"), (5, "1")], 5)) == "0.0"

    def test_two_readings_tell_every_pair_of_coefficients(self) -> None:
        digits = [n for n in range(-9, 10) if n]
        for one, other in combinations(("x", "x^2", "|x|", "sin(x)", "1/x", "1"), 2):
            seen = {
                (value([(a, one), (b, other)], 2), value([(a, one), (b, other)], -1))
                for a, b in product(digits, repeat=2)
            }
            assert len(seen) == 18 * 18

    def test_an_episode_by_hand(self) -> None:
        env = FunctionOperator(terms=3)
        env.reset(seed=0)
        env.computers, env.truth = [[(2, "x"), (3, "1/x")], [(-4, "1")]], (2, 3, -4)
        feed = 'feed {"computer": %d, "x": %d}'
        assert texts(
            env, feed % (1, 2), feed % (2, 0), feed % (1, 0), feed % (3, 1), feed % (1, 101)
        ) == [
            "y = 5.5. 10 actions left.",
            "y = -4. 9 actions left.",
            "error: x must not be 0 here.",
            "error: computers are numbered 1 to 2.",
            "error: x must be from -100 to 100.",
        ]
        assert texts(env, "answer a=2 b=3", "answer a=2 b=3 c=4", feed % (1, 2), "assume c<0") == [
            "error: answer every letter, like a=1 b=1 c=1.",
            "Wrong. 8 actions left.",
            "y = 5.5. 7 actions left.",
            "Noted.",
        ]
        assert texts(env, "assume c<0", "answer c=-4, a: 2, b=3") == ["Noted.", "Right."]
        facts = env.measure()
        assert facts["success"] is True
        assert (facts["interactions"], facts["redundant"], facts["revised"]) == (5, 1, 1)

    def test_three_wrong_answers_end_it(self) -> None:
        env = FunctionOperator(terms=1)
        env.reset(seed=0)
        env.truth = (5,)
        steps = [env.step(f"answer a={n}") for n in (1, 2, 3)]
        assert [each.terminated for each in steps] == [False, False, True]
        assert env.measure()["score"] == 0.0

    def test_actions_run_out(self) -> None:
        env = FunctionOperator(terms=1)
        env.reset(seed=0)
        steps = [env.step('feed {"computer": 1, "x": 3}') for _ in range(7)]
        assert [each.terminated for each in steps] == [False] * 6 + [True]
        assert env.measure()["redundant"] == 6


class TestEscapeRoom:
    def test_code(self) -> None:
        walls = [[("oil", "blue"), ("oil", "green")], [("acrylic", "blue"), ("oil", "blue")]]
        assert code(walls, ("oil", "acrylic", "watercolour"), "blue") == "210"
        assert code(walls, ("watercolour", "oil", "acrylic"), "green") == "010"

    def test_an_episode_by_hand(self) -> None:
        env = EscapeRoom(walls=1)
        env.reset(seed=0)
        env.order = ("acrylic", "oil", "watercolour")
        env.paintings = [[("oil", "blue"), ("oil", "yellow"), ("acrylic", "yellow")]]
        shut = "The door stays shut. Right digits: "
        assert texts(env, "look 1", "look 2", "try 12", "try 100", "try 111", "try 011") == [
            "blue oil, yellow oil, yellow acrylic.",
            "error: walls are numbered 1 to 1.",
            "error: a code has three digits.",
            f"{shut}3. The lamp glows blue.",  # 010 is right
            f"{shut}2. The lamp glows blue.",
            f"{shut}1, 2. The lamp glows yellow.",
        ]
        assert texts(env, "try 010", "try 110") == [
            f"{shut}2, 3. The lamp glows yellow.",
            "The door opens.",
        ]
        assert (env.measure()["interactions"], env.measure()["success"]) == (5, True)

    def test_twelve_wrong_codes_end_it(self) -> None:
        env = EscapeRoom()
        env.reset(seed=0)
        said = texts(env, *["try 999"] * 12)
        lamps = [text.split()[-1][:-1] for text in said[2:11:3]]
        assert lamps == ["yellow", "black", "green"]
        assert said[-1] == "The door is barred for good."
        assert env.measure()["score"] == 0.0


class TestReactor:
    @pytest.mark.parametrize(
        ("rule", "left", "right", "products"),
        [
            ("forward", "AB", "C", ["ABC"]),
            ("backward", "AB", "C", ["CAB"]),
            ("insert", "ABCD", "EF", ["ABEFCD"]),
            ("insert", "ABC", "D", ["ABDC"]),
            ("insert", "D", "ABC", ["ABDC"]),
            ("insert", "A", "B", ["AB"]),
            ("replace", "AB", "CD", ["ABCD"]),
            ("replace", "A", "AA", ["AAA"]),
            ("replace", "ABC", "D", ["AD", "BC"]),
            ("replace", "D", "ABC", ["AD", "BC"]),
        ],
    )
    def test_rules(self, rule: str, left: str, right: str, products: list[str]) -> None:
        assert combine(rule, left, right) == products

    @pytest.mark.parametrize("rule", ["forward", "backward", "insert", "replace"])
    @pytest.mark.parametrize("size", [(2, 1), (2, 8), (6, 8), (3, 3)])
    def test_plans_lead_to_their_target(self, rule: str, size: tuple[int, int]) -> None:
        letters = tuple("ABCDEF"[: size[0]])
        for seed in range(10):
            target, steps = plan(generator(seed), rule, letters, size[1])
            stock = set(letters)
            for left, right in steps:
                assert {left, right} <= stock
                assert target not in stock
                stock |= set(combine(rule, left, right))
            assert target in stock
            assert len(steps) == size[1]

    def test_an_episode_by_hand(self) -> None:
        env = Reactor(depth=2, letters=2)
        env.reset(seed=0)
        env.rule, env.target = "backward", "ABB"
        react = 'react {"first": "%s", "second": "%s"}'
        assert texts(env, react % ("A", "C"), react % ("b", "A"), "split_up A") == [
            "error: you have no 'C'.",
            "Products: AB. 9 uses left.",
            "error: a single letter cannot be split.",
        ]
        halves = texts(env, "split_up AB")[0]
        assert halves in ("Products: A, B. 8 uses left.", "Products: B, A. 8 uses left.")
        step = env.step(react % ("B", "AB"))
        assert (step.terminated, step.reward) == (True, 1.0)
        assert env.measure()["interactions"] == 3

    def test_uses_run_out(self) -> None:
        env = Reactor(depth=1, letters=2)
        env.reset(seed=0)
        env.target = "BBBB"
        steps = [env.step('react {"first": "A", "second": "B"}') for _ in range(7)]
        assert [each.terminated for each in steps] == [False] * 6 + [True]
        assert env.measure()["score"] == 0.0


@pytest.mark.parametrize(
    ("make", "levels"),
    [
        (lambda level: FunctionOperator(level), (1, 2, 6)),
        (lambda level: Reactor(level), (1, 3, 6)),
        (lambda level: EscapeRoom(level), (1, 3, 8)),
    ],
)
def test_knobs_are_monotone(make: Callable[[int], ToolEnv], levels: tuple[int, ...]) -> None:
    """The hasty player wins less, the optimal one needs longer."""
    found = [validate(lambda level=level: make(level), 120) for level in levels]
    hasty = [standings[1].success for standings in found]
    turns = [standings[0].turns for standings in found]
    assert hasty == sorted(hasty, reverse=True)
    assert hasty[0] > hasty[-1] + 0.1
    assert turns == sorted(turns)
    assert all(standings[0].success == 1.0 for standings in found)


@pytest.mark.parametrize(
    ("make", "content"),
    [
        (lambda split: FunctionOperator(1, split), lambda env: repr(env.computers)),
        (lambda split: EscapeRoom(1, split), lambda env: f"{env.order} {env.paintings}"),
        (lambda split: Reactor(3, 4, split), lambda env: env.target),
    ],
)
def test_splits_are_disjoint(
    make: Callable[[str], ToolEnv], content: Callable[[ToolEnv], str]
) -> None:
    seen: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        env = make(split)
        seen[split] = set()
        for seed in range(120):
            env.reset(seed=seed)
            seen[split].add(content(env))
    assert len(seen["train"]) > 20
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_wrong_settings() -> None:
    with pytest.raises(UserError, match="terms must be from 1 to 6, not 7"):
        FunctionOperator(terms=7)
    with pytest.raises(UserError, match="walls must be from 1 to 20, not 0"):
        EscapeRoom(walls=0)
    with pytest.raises(UserError, match="depth must be from 1 to 8"):
        Reactor(depth=9)
