"""The grid of hidden effects: each effect by hand, the protocol, splits, what makes it harder."""

from __future__ import annotations

import pytest

from foldgym.envs.long.hidden_grid import HiddenGrid, effect
from foldgym.errors import UnknownName, UserError
from foldgym.testing.validate import validate


def texts(env: HiddenGrid, *actions: str) -> list[str]:
    return [env.step(action).observation[0].text for action in actions]


@pytest.mark.parametrize(
    ("rule", "state", "change"),
    [  # state: x, y, energy after paying, move of the round, visit to the letter
        ("1", (4, 4, 9, 1, 1), (1, 0)),
        ("2", (4, 4, 9, 1, 1), (0, 1)),
        ("3", (1, 2, 9, 1, 1), (1, 0)),
        ("3", (2, 2, 9, 1, 1), (-1, 0)),
        ("4", (4, 4, 9, 1, 1), (-1, 0)),
        ("5", (4, 4, 15, 1, 1), (2, 0)),
        ("5", (4, 4, 14, 1, 1), (-2, 0)),
        ("6", (4, 4, 9, 3, 1), (2, 0)),
        ("6", (4, 4, 9, 4, 1), (-1, 0)),
        ("7", (4, 7, 9, 1, 1), (0, 0)),
        ("7", (4, 8, 9, 1, 1), (3, 0)),
        ("7", (1, 1, 9, 1, 1), (3, 0)),
        ("7", (9, 0, 9, 1, 1), (6, 0)),
        ("8", (4, 4, 9, 1, 3), (1, 0)),
        ("8", (4, 4, 9, 1, 2), (0, 0)),
        ("9", (4, 4, 9, 1, 1), (-2, 10)),
        ("9", (4, 4, 10, 1, 1), (1, 0)),
        ("10", (2, 7, 9, 1, 1), (-5, 0)),
    ],
)
def test_effects(rule: str, state: tuple[int, int, int, int, int], change: tuple[int, int]) -> None:
    assert effect(rule, *state) == change


def placed() -> HiddenGrid:
    """Two letters on a map of A, one B; A gives score 1, B gives energy 1."""
    env = HiddenGrid(letters=2, steps=3, probes=2)
    env.reset(seed=0)
    env.truth = ("1", "2")
    env.first = dict.fromkeys(env.first, "A") | {(1, 1): "B"}
    env.tiles = dict(env.first)
    env.x, env.y = 0, 0
    env.cases = [(0, 5, 5, 5, 5, 1), (1, 5, 5, 5, 5, 1)]
    env.questions = [("first?", ("1", "0")), ("second?", ("0", "1"))]
    return env


def test_an_episode_by_hand() -> None:
    env = placed()
    assert texts(env, "move left", "commit A=1 B=2", "predict 1 0", "move right", "move down") == [
        "error: the grid ends here. You are at (0, 0), score 0, energy 20.",
        "error: 3 steps are left; make them first.",
        "error: there is nothing to predict before the commit.",
        "Move 1, A, visit 1: score +1, energy +0. You are at (1, 0), score 1, energy 19. "
        "2 steps left.",
        "Move 2, B, visit 1: score +0, energy +1. You are at (1, 1), score 1, energy 19. "
        "1 steps left.",
    ]
    assert texts(env, "look", "move up", "move up", "reset") == [
        "# # #\n# X A\n# A A",
        "Move 3, an X. You are at (1, 0), score 1, energy 18. No steps left: commit the rules.",
        "error: all 3 steps are made; commit the rules.",
        "error: all 3 steps are made; commit the rules.",
    ]
    assert texts(env, "commit A=1", "commit A=1 A=2", "commit a: 1, b: 3", "commit A=1 B=2") == [
        "error: commit every letter once, like A=1 B=2",
        "error: commit every letter once, like A=1 B=2",
        "Committed. first?",
        "error: the rules are committed already.",
    ]
    assert texts(env, "move up", "predict one", "predict +1, 0") == [
        "error: the rules are committed; only predictions are left.",
        "error: no outcome of the form that was asked for.",
        "Noted. second?",
    ]
    step = env.step("predict 0 2")
    assert (step.terminated, step.reward) == (True, 0.5)  # one rule of 2, one prediction of 2
    facts = env.measure()
    assert (facts["score"], facts["rules"], facts["predictions"]) == (0.5, 0.5, 0.5)


def test_rounds() -> None:
    """A round ends without energy; another has the old map; the last one may be left early."""
    env = placed()
    env.energy = 1
    assert texts(env, "move right", "move right")[1].startswith("error: this round is over")
    assert texts(env, "reset")[0].startswith("Round 2. You are at (")
    assert (env.energy, env.moves, env.score) == (20, 0, 0)
    assert env.tiles == env.first
    env.moves = 30
    assert texts(env, "move right")[0].startswith("error: this round is over")
    env.resets = 20
    assert texts(env, "reset") == ["error: no reset is left."]
    assert texts(env, "commit A=1 B=2") == ["Committed. first?"]


def test_the_map_shows_tiles_and_nothing_of_the_rules() -> None:
    env = HiddenGrid()
    env.reset(seed=3)
    rows = texts(env, "map")[0].splitlines()
    assert len(rows) == 10
    assert all(len(row) == 10 and set(row) <= set("ABCDE") for row in rows)
    again = HiddenGrid()
    again.reset(seed=3)
    again.truth = tuple(reversed(again.truth))
    assert again.task.prompt == env.task.prompt


def test_rules_are_drawn_per_seed_and_disjoint_between_splits() -> None:
    seen: dict[str, set[tuple[str, ...]]] = {}
    for split in ("train", "val", "test"):
        env = HiddenGrid(split=split)  # type: ignore[arg-type]
        seen[split] = set()
        for seed in range(120):
            env.reset(seed=seed)
            assert sorted(env.truth) == ["1", "2", "3", "4", "5"]
            seen[split].add(env.truth)
    assert len(seen["train"]) > 40
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_more_letters_are_harder_and_more_steps_teach() -> None:
    """What can be inferred from the moves alone, by a player who does not peek."""

    def learner(letters: int, steps: int) -> float:
        return validate(lambda: HiddenGrid(letters, "all", steps), 100)[1].success

    found = [learner(letters, 6) for letters in (2, 3, 5)]
    assert found[0] > found[1] > found[2]
    assert learner(5, 60) > found[2] + 0.4


def test_wrong_settings() -> None:
    with pytest.raises(UnknownName, match="level"):
        HiddenGrid(level="easier")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="letters must be from 2 to 5, not 6"):
        HiddenGrid(letters=6)
    with pytest.raises(UserError, match="steps must be from 1 to 1000"):
        HiddenGrid(steps=0)
