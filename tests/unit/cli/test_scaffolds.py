"""`--scaffold` and `--aux` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foldgym.cli.main import main
from foldgym.records import RecordReader

GUESS = "foldgym/GuessNumber-v0"
EVAL = ["eval", "--policy", "random", "--env", GUESS, "--episodes", "2"]


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words]) == 2
    return capsys.readouterr().err


def lineages(path: Path) -> list[set[str]]:
    return [{turn.lineage for turn in record.trajectory.turns} for record in RecordReader(path)]


def test_eval_plays_with_a_scaffold(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    words = [*EVAL, "--trajectories", str(path), "--scaffold", "pdr", "drafts=[2]"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["envs"][GUESS]["episodes"] == 2
    assert lineages(path) == [{"main", "draft/0", "draft/1", "distil"}] * 2


def test_an_auxiliary_player(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    words = [*EVAL, "--trajectories", str(path), "--scaffold", "operator", "reflector=aux"]
    assert "say with --aux who answers" in failed(capsys, *words)
    assert main([*words, "--aux", "random"]) == 0
    for record in RecordReader(path):
        spoken = {turn.lineage for turn in record.trajectory.turns}
        assert "reflector" in spoken
        assert "reflector" not in {segment.lineage for segment in record.trajectory.segments}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scaffold", "pdr", "draft=2"], "unknown option of PDR; did you mean 'drafts'?"),
        (["--scaffold", "pdr", "drafts=[0]"], "--scaffold: drafts must hold"),
        (["--scaffold", "pdf"], "unknown scaffold 'pdf'; did you mean 'pdr'?"),
        (["--scaffold", "pdr", "roles={main=0.5}"], "nothing is trained here"),
        (["--scaffold", "react", "--aux", "random"], "--aux random: has no effect"),
        (["--scaffold", "rein", "by=aux", "--aux", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_meant(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    told = failed(capsys, *EVAL, *words)
    assert message in told
    assert "Traceback" not in told


def test_play_shows_a_scaffold(capsys: pytest.CaptureFixture[str]) -> None:
    play = ["envs", "play", GUESS, "--policy", "random", "--seed", "1"]
    assert main([*play, "--json", "-", "--scaffold", "refine", "rounds=1"]) == 0
    table: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert {turn["lineage"] for turn in table["turns"]} == {"main", "draft/0"}
    told = failed(capsys, "envs", "play", GUESS, "--scaffold", "refine")
    assert "without --policy" in told
