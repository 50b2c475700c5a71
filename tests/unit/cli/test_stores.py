"""`foldgym eval` with a memory that keeps something: frozen, as a stream, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foldgym.cli.main import main
from foldgym.memory import Store

EVAL = ("eval", "--policy", "random", "--env", "foldgym/KeyDoor-v0", "--episodes", "6")


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main([*EVAL, *words]) == code
    found = capsys.readouterr()
    return found.out if code == 0 else found.err


def test_a_stream_reports_by_position_and_saves_what_it_kept(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "kept.json"
    words = ("--memory", "vectors", "--stream", "--orders", "2", "--save-store", str(file))
    table = json.loads(said(capsys, *words, "--json"))
    stream: dict[str, Any] = table["stream"]
    assert [len(row) for row in stream["orders"]] == [6, 6]
    assert len(stream["by_position"]) == 6
    assert table["envs"]["foldgym/KeyDoor-v0"]["tasks"] == 6
    store = Store()
    store.read(file)
    assert len(store.head.items) == stream["items"][0] > 0
    again = json.loads(said(capsys, *words, "--json"))
    assert again["stream"] == stream
    text = said(capsys, "--memory", "vectors", "--stream", "majority", "--samples", "2")
    assert "success by position, 1 order; items kept at the end" in text
    assert "second half" in text


def test_a_store_is_read_and_left_as_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file, lines = tmp_path / "kept.json", tmp_path / "t.jsonl"
    said(capsys, "--memory", "keys", "--stream", "--save-store", str(file))
    before = file.read_bytes()
    said(capsys, "--memory", "keys", "--store", str(file), "--trajectories", str(lines))
    assert file.read_bytes() == before
    store = Store()
    store.read(file)
    reads = {json.loads(line)["proposal"]["read"] for line in lines.read_text().splitlines()}
    assert reads == {store.head.address}


def test_an_evaluation_without_a_store_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*EVAL, "--memory", "cheatsheet_rs", "by=policy"]) == 0
    assert "nothing is kept yet" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--stream",), "--stream: has no effect: this memory keeps nothing"),
        (("--store", "x.json"), "--store: has no effect: this memory keeps nothing"),
        (("--memory", "keys", "--orders", "2"), "--orders: has no effect without --stream"),
        (("--memory", "keys", "--save-store", "x"), "--save-store: has no effect without"),
        (("--memory", "keys", "--store", "none.json"), "cannot read the store none.json"),
        (("--memory", "keys,full", "--store", "x"), "--store: has no effect on the report"),
        (("--memory", "keys,vectors", "--stream"), "--stream: has no effect on the report"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], problem: str
) -> None:
    text = said(capsys, *words, code=2)
    assert problem in text
    assert len(text.strip().splitlines()) == 1
