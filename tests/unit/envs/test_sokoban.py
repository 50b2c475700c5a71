"""Sokoban: moves and solutions of boards by hand, generated boards, rewards, splits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.envs.long.boards import generate, moved, read, shape, solve
from foldgym.envs.long.sokoban import Sokoban
from foldgym.errors import UnknownName, UserError
from foldgym.seeding import generator
from foldgym.testing.validate import validate

ROW = "######\n#P_XO#\n#____#\n#____#\n#____#\n######"
TURN = "######\n#____#\n#_X__#\n#__P_#\n#_O__#\n######"
HOPELESS = "######\n#X_P_#\n#____#\n#__O_#\n#____#\n######"


def test_boards_are_read_and_written() -> None:
    board = read("#####\n#S_√#\n#X__#\n#__O#\n#####")
    assert board.player == (1, 1)
    assert board.boxes == {(3, 1), (1, 2)}
    assert board.targets == {(1, 1), (3, 1), (3, 3)}
    assert str(board) == "#####\n#S_√#\n#X__#\n#__O#\n#####"


def test_moves() -> None:
    board = read("######\n#XXP_#\n#__X_#\n#____#\n#___O#\n######")
    assert moved(board, "up") is None  # a wall
    assert moved(board, "left") is None  # two boxes
    pushed = moved(board, "down")
    assert pushed is not None
    assert str(pushed) == "######\n#XX__#\n#__P_#\n#__X_#\n#___O#\n######"
    walked = moved(board, "right")
    assert walked is not None
    assert walked.boxes == board.boxes


def test_solutions() -> None:
    assert solve(read(ROW)) == ("right", "right")
    # from (3, 3) around the box at (2, 2) to (2, 1) takes up, up, left; then two pushes down
    assert solve(read(TURN)) == ("up", "up", "left", "down", "down")
    assert solve(read(HOPELESS)) is None  # in a corner
    assert solve(read(TURN), nodes=3) is None


@given(st.integers(0, 10**6), st.integers(1, 2))
@settings(max_examples=25)
def test_generated_boards_have_the_solution_they_claim(seed: int, boxes: int) -> None:
    board, found = generate(generator(seed), 6, boxes, 4, 30)
    assert 4 <= len(found) <= 30
    assert len(board.boxes) == len(board.targets) == boxes
    assert not board.boxes & board.targets
    for way in found:
        after = moved(board, way)
        assert not board.solved
        assert after is not None
        board = after
    assert board.solved


def test_shape_is_that_of_all_eight_views() -> None:
    rows = TURN.split()
    mirrored = "\n".join(row[::-1] for row in rows)
    turned = "\n".join("".join(column) for column in zip(*rows, strict=True))
    assert shape(read(TURN)) == shape(read(mirrored)) == shape(read(turned))
    assert shape(read(TURN)) != shape(read(ROW))


def test_an_episode_by_hand() -> None:
    env = Sokoban(shaped=True)
    env.reset(seed=0)
    env.board, env.route = read(ROW), None
    step = env.step("move up")
    assert step.observation[0].text == f"Nothing moves.\n{ROW}"
    assert step.reward == pytest.approx(-0.1)
    assert env.step("move right").observation[0].text.split()[1] == "#_PXO#"
    step = env.step("move right")
    assert step.observation[0].text.startswith("Solved.\n######\n#__P√#")
    assert step.reward == pytest.approx(10.9)
    assert (step.terminated, env.measure()["score"]) == (True, 1.0)
    assert (env.measure()["moves"], env.measure()["idle"]) == (3, 1)


def test_a_box_pushed_off_its_target_costs() -> None:
    env = Sokoban(shaped=True)
    env.reset(seed=0)
    env.board, env.route = read("######\n#P√__#\n#_X__#\n#____#\n#___O#\n######"), None
    assert env.step("move right").reward == pytest.approx(-1.1)


def test_views() -> None:
    env = Sokoban(view="coordinates")
    env.reset(seed=0)
    env.board = read(ROW)
    assert env.step("move right").observation[0].text == (
        "(x, y) from the upper left: you [(2, 1)]; boxes [(3, 1)]; targets [(4, 1)]; "
        "walls inside the border []"
    )
    both = Sokoban(view="both")
    both.reset(seed=0)
    assert str(both.board) in both.task.prompt[0].text
    assert "(x, y) from" in both.task.prompt[0].text


def test_boards_of_splits_are_disjoint() -> None:
    seen: dict[str, set[str]] = {}
    for split in ("train", "val", "test"):
        env = Sokoban(size=5, least=1, split=split)  # type: ignore[arg-type]
        seen[split] = set()
        for seed in range(100):
            env.reset(seed=seed)
            seen[split].add(shape(env.board))
    assert len(seen["train"]) > 40
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_longer_solutions_are_harder() -> None:
    found = [validate(lambda least=least: Sokoban(least=least), 40) for least in (1, 5, 8)]
    chance = [standings[2].success for standings in found]
    turns = [standings[0].turns for standings in found]
    assert chance[0] > chance[1] >= chance[2]
    assert chance[0] > chance[2] + 0.1
    assert turns[0] + 4 < turns[1] + 2 < turns[2]


def test_wrong_settings() -> None:
    with pytest.raises(UserError, match="size must be 5 to 8 and boxes 1 to 3, not 9 and 1"):
        Sokoban(size=9)
    with pytest.raises(UserError, match="least must be 1 to 10"):
        Sokoban(least=11)
    with pytest.raises(UnknownName, match="view"):
        Sokoban(view="picture")  # type: ignore[arg-type]
