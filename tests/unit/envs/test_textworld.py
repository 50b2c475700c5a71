"""TextWorld's games through our adapter; the playing itself is judged by TextWorld."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from oracles import oracle_python

from foldgym.envs.household.games import write_game
from foldgym.envs.household.houses import errands, furnish
from foldgym.envs.textworld import TextWorldGame, find_games, typed
from foldgym.errors import DataError, MissingExtra, UserError
from foldgym.seeding import generator

ROOT = Path(__file__).parents[3]
SUPPORT = ROOT / "tests" / "support"


def test_what_is_typed() -> None:
    assert typed("  go north\nthen south") == "go north"
    assert typed("\\quit ♥ take\tkey~") == "quit  takekey~"
    assert len(typed("x" * 1000)) == 200


def test_games_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.z8", "b.json", "a.json", "c/game.tw-pddl", "b.ni", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    names = [str(each.relative_to(tmp_path)) for each in find_games(tmp_path)]
    assert names == ["a.json", "b.z8", "c/game.tw-pddl"]
    assert find_games(tmp_path / "b.json") == (tmp_path / "b.json",)
    with pytest.raises(DataError, match=r"there is no .z8, .json or .tw-pddl game in"):
        find_games(tmp_path / "notes.txt")


def test_without_textworld(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="limit must be at least 1, not 0"):
        TextWorldGame(str(tmp_path), limit=0)
    if importlib.util.find_spec("textworld"):
        pytest.skip("textworld is installed here")
    with pytest.raises(MissingExtra, match=r"pip install 'foldgym\[textworld\]'"):
        TextWorldGame(str(tmp_path))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A game that Inform 7 compiles, its description alone, and a household."""
    python = oracle_python("textworld", "alfworld", "fast_downward", "gymnasium", "pydantic")
    folder = tmp_path_factory.mktemp("textworld")
    maker = Path(python).parent / "tw-make"
    options = ["tw-simple", "--rewards", "dense", "--goal", "brief", "--seed", "3"]
    made = [str(maker), *options, "--output", str(folder / "simple.z8")]
    subprocess.run(made, check=True, capture_output=True)
    (folder / "alone").mkdir()
    (folder / "alone" / "simple.json").write_bytes((folder / "simple.json").read_bytes())
    sources = folder / "sources.json"
    asked = json.dumps({"scenes": []})
    reader = [python, str(SUPPORT / "alfworld_replay.py"), str(sources)]
    subprocess.run(reader, input=asked, text=True, check=True, capture_output=True)
    texts = json.loads(sources.read_text())
    kind = "pick_and_place_simple"
    house = furnish(errands((kind,), "train")[kind][0], 8, 4, generator(1))
    task = "Your task is to: tidy up."
    write_game(folder / "house.tw-pddl", house, task, texts["domain"], texts["grammar"])
    games = {
        "z8": str(folder / "simple.z8"),
        "json": str(folder / "alone" / "simple.json"),
        "tw-pddl": str(folder / "house.tw-pddl"),
    }
    answer = folder / "answer.json"
    done = subprocess.run(
        [python, str(SUPPORT / "textworld_play.py"), str(answer)],
        input=json.dumps({"games": games}),
        text=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(answer.read_text())


@pytest.mark.oracle
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["z8", "json", "tw-pddl"])
def test_textworld_says_the_same(kind: str, played: dict[str, Any]) -> None:
    game = played[kind]
    assert len(game["said"]) == len(game["theirs"]) == len(game["commands"]) + 1
    total = 0.0
    for (text, reward, known), (feedback, score, commands) in zip(
        game["said"], game["theirs"], strict=True
    ):
        total += reward
        assert (text, known) == (feedback, commands)
        assert total == score
    facts = game["facts"]
    assert facts["won"]
    assert facts["success"]
    assert facts["score"] == total
    assert facts["steps"] == len(game["commands"])
    assert game["after"] == "ResetNeeded"
    assert game["again"] == game["said"][0][0]
    assert game["findings"] == []


@pytest.mark.oracle
@pytest.mark.slow
def test_the_score_is_paid_as_it_grows(played: dict[str, Any]) -> None:
    assert played["z8"]["facts"]["max_score"] == played["z8"]["facts"]["score"] > 1
    assert sum(reward > 0 for _, reward, _ in played["z8"]["said"]) > 1
    assert [reward for _, reward, _ in played["tw-pddl"]["said"]][-1] == 1.0
    assert "Your task is to: tidy up." in played["tw-pddl"]["said"][0][0]
