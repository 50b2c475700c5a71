"""Satisfiability puzzles: the formula of difficulty, the planted assignment, the checker."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.envs.long.saturn import Saturn, broken, difficulty, plant
from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.testing.validate import validate


@pytest.mark.parametrize(
    ("size", "level"),
    [
        ((3, 5, 5), 5.632),
        ((3, 5, 6), 6.159),
        ((3, 5, 13), 8.389),
        ((3, 5, 15), 8.802),
        ((3, 7, 40), 12.785),
    ],
)
def test_difficulty(size: tuple[int, int, int], level: float) -> None:
    assert round(difficulty(*size), 3) == level


def test_broken() -> None:
    puzzle = [(1, 2), (-1, 3), (-2, -3)]
    assert broken(puzzle, "101") == []
    assert broken(puzzle, "000") == [(1, 2)]
    assert broken(puzzle, "110") == [(-1, 3)]
    assert broken(puzzle, "111") == [(-2, -3)]


@given(st.integers(0, 10**6), st.integers(3, 6), st.integers(1, 40))
@settings(max_examples=60)
def test_planted_assignments_satisfy(seed: int, variables: int, count: int) -> None:
    count = min(count, 5 * variables - 10)
    bits, puzzle = plant(generator(seed), 3, variables, count)
    assert broken(puzzle, bits) == []
    assert len(set(puzzle)) == count
    assert all(len({abs(each) for each in clause}) == 3 for clause in puzzle)


def test_every_model_is_accepted_and_nothing_else() -> None:
    env = Saturn(clauses=13)
    accepted = 0
    for bits in map("".join, product("01", repeat=5)):
        env.reset(seed=4)
        step = env.step(f"answer {bits}")
        right = all(
            any((bits[abs(each) - 1] == "1") is (each > 0) for each in clause)
            for clause in env.puzzle
        )
        assert (step.terminated, step.reward) == (True, float(right))
        assert (env.measure()["broken"] == 0) is right
        accepted += right
    assert 1 <= accepted < 32


def test_replies() -> None:
    env = Saturn(literals=2, variables=2, clauses=1)
    env.reset(seed=0)
    env.puzzle = ((1, -2),)
    assert env.step("answer 2").observation[0].text == (
        "error: answer takes 2 digits, each 0 or 1."
    )
    assert env.step("answer 01").observation[0].text == "1 lines do not hold."
    assert env.measure()["difficulty"] == 0.0  # log2 2 + 2 log2 1 - 2 + 2 / 2


def test_more_clauses_are_harder() -> None:
    levels = [difficulty(3, 7, count) for count in range(1, 60)]
    assert levels == sorted(levels)
    rates = [validate(lambda n=n: Saturn(3, 7, n), 150)[1].success for n in (4, 12, 40)]
    assert rates[0] > rates[1] > rates[2] + 0.05


def test_puzzles_of_splits_are_disjoint() -> None:
    seen: dict[str, set[tuple[tuple[int, ...], ...]]] = {}
    for split in ("train", "val", "test"):
        env = Saturn(2, 3, 3, split)  # type: ignore[arg-type]  # few puzzles, so that they meet
        seen[split] = set()
        for seed in range(150):
            env.reset(seed=seed)
            seen[split].add(tuple(sorted(env.puzzle)))
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]
    assert len(seen["train"]) > 50


def test_wrong_settings() -> None:
    with pytest.raises(UserError, match="literals <= variables"):
        Saturn(4, 3)
    with pytest.raises(UserError, match="clauses must be from 1 to 5 with 3 literals"):
        Saturn(3, 3, 6)
    env = Saturn(1, 1, 1, "val")  # there are two such puzzles
    with pytest.raises(UserError, match="no puzzle of these settings"):
        env.reset(seed=0)
