"""The three small games: rules by hand, experts, splits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.envs.base import ToolEnv
from foldgym.envs.games import SPLITS, Arithmetic, GuessNumber, KeyDoor, split_of
from foldgym.errors import UnknownName, UserError
from foldgym.seeding import generator
from foldgym.testing.validate import Standing, validate


def texts(env: ToolEnv, *actions: str) -> list[str]:
    return [env.step(action).observation[0].text for action in actions]


def test_guess_number() -> None:
    env = GuessNumber()
    env.reset(seed=0)
    env.secret = 42
    assert texts(env, "guess 50", "guess 25", "guess 42") == ["lower", "higher", "correct"]
    assert env.measure() == {"score": 1.0, "success": True, "turns": 3, "errors": 0}


@given(st.integers(0, 10**6), st.integers(2, 1000))
@settings(max_examples=40)
def test_bisection_takes_at_most_the_logarithm(seed: int, high: int) -> None:
    env = GuessNumber(high=high)
    env.max_turns = None
    env.reset(seed=seed)
    turns = 0
    while not env.step(env.expert("optimal", generator(0))).terminated:
        turns += 1
    assert turns + 1 <= high.bit_length()


def test_key_door() -> None:
    env = KeyDoor(rooms=3)
    env.reset(seed=0)
    env.exits = {"hall": ["attic", "study"], "attic": ["hall"], "study": ["hall"]}
    env.items = {"hall": ["red key"], "attic": ["blue key"], "study": []}
    env.colour, env.door, env.here = "blue", "study", "hall"
    assert texts(
        env, "look", "take red key", "take red key", "open", "move cellar", "move study"
    ) == [
        "You are in the hall. You see a red key. Exits: attic, study.",
        "You take the red key.",
        "error: there is no 'red key' here.",
        "error: there is no door here.",
        "error: no way to 'cellar'. Exits: attic, study.",
        "You are in the study. You see the blue door. Exits: hall.",
    ]
    assert texts(env, "open", "move hall", "move Attic", "take blue key") == [
        "The door is locked; you need the blue key.",
        "You are in the hall. Exits: attic, study.",
        "You are in the attic. You see a blue key. Exits: hall.",
        "You take the blue key.",
    ]
    env.step("move hall")
    env.step("move study")
    step = env.step("open")
    assert (step.reward, step.terminated) == (1.0, True)
    assert env.measure()["errors"] == 3


def test_arithmetic() -> None:
    env = Arithmetic(steps=2)
    env.reset(seed=1)
    question = env.task.prompt[0].text
    assert question == f"What is {env.root.text[1:-1]} ?"
    assert eval(env.root.text) == env.root.value
    assert texts(env, 'multiply {"a": 6, "b": 7}', 'subtract {"a": 1, "b": 5}', "add 2") == [
        "42",
        "-4",
        'error: add: the arguments must be a JSON object, got "2". '
        'Usage: add {"a": integer, "b": integer}',
    ]
    assert "takes numbers up to" in texts(env, 'add {"a": 1000000000001, "b": 0}')[0]
    step = env.step(f"answer {env.root.value + 1}")
    assert (step.reward, step.terminated) == (0.0, True)


def content(env: ToolEnv) -> str:
    """What an episode is about, all of it."""
    if isinstance(env, GuessNumber):
        return str(env.secret)
    if isinstance(env, KeyDoor):
        return f"{env.exits} {env.items} {env.colour} {env.door}"
    return env.task.prompt[0].text


@pytest.mark.parametrize("game", [GuessNumber, KeyDoor, Arithmetic])
def test_splits_share_nothing(game: type[ToolEnv]) -> None:
    seen: dict[str, set[str]] = {split: set() for split in SPLITS}
    for split in SPLITS:
        env = game(split=split)  # type: ignore[call-arg]
        for seed in range(100):
            env.reset(seed=seed)
            seen[split].add(content(env))
    assert all(len(each) > 3 for each in seen.values())
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_splits_are_eight_to_one_to_one() -> None:
    counts = dict.fromkeys(SPLITS, 0)
    for number in range(10_000):
        counts[split_of("x", number)] += 1
    # the standard deviation is 40 for train and 30 for the others; five of them
    assert abs(counts["train"] - 8000) < 200
    assert abs(counts["val"] - 1000) < 150
    assert abs(counts["test"] - 1000) < 150


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: GuessNumber(split="dev"), UnknownName),  # type: ignore[arg-type]
        (lambda: GuessNumber(low=5, high=4), UserError),
        (lambda: KeyDoor(rooms=2), UserError),
        (lambda: Arithmetic(steps=0), UserError),
    ],
)
def test_knobs_are_checked(make: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        make()  # type: ignore[operator]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["GuessNumber", "KeyDoor", "Arithmetic"])
def test_players(name: str, split: str) -> None:
    from foldgym.envs.registry import maker

    made = validate(maker(f"foldgym/{name}-v0", split=split), episodes=40)
    best, hasty, chance, nobody = made
    assert (best.player, best.score, best.success) == ("optimal", 1.0, 1.0)
    assert hasty.score < 0.5 if name == "Arithmetic" else hasty.turns > best.turns
    assert chance.success <= 0.35
    assert nobody == Standing("nobody", 40, 0.0, 0.0, {"G": 12.0, "K": 30.0, "A": 10.0}[name[0]])
