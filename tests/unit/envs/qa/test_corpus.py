"""Invented worlds too large for memory: written, indexed on disk, asked about."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from foldgym.cli.main import main
from foldgym.envs.qa.fictional_qa import FictionalQA

WORLD = ["people=60", "world=7", "aliases=0.3", "disputed=0.2", "distractors=9"]


def test_a_world_is_written_indexed_and_solved(tmp_path: Path) -> None:
    corpus, index = tmp_path / "world.jsonl.gz", tmp_path / "world.index"
    assert main(["index", "invent", *WORLD, "--output", str(corpus)]) == 0
    assert main(["index", "build", str(corpus), "--output", str(index)]) == 0
    settings = {"people": 60, "world": 7, "aliases": 0.3, "disputed": 0.2, "distractors": 9}
    on_disk, in_memory = FictionalQA(**settings, index=str(index)), FictionalQA(**settings)  # type: ignore[arg-type]
    for seed in range(20):
        rng = random.Random(seed)
        for env in (on_disk, in_memory):
            env.reset(seed=seed)
        while True:
            action = on_disk.expert("optimal", rng)
            step = on_disk.step(action)
            assert in_memory.step(action).observation == step.observation
            if step.terminated or step.truncated:
                break
        assert on_disk.measure()["success"]


def test_plain_lines_are_the_pages(tmp_path: Path) -> None:
    path = tmp_path / "new" / "world.jsonl"
    assert main(["index", "invent", "people=4", "--output", str(path)]) == 0
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 4 + 3 + 3 + 3 + 3
    assert set(rows[0]) == {"id", "title", "text"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("peple=3", "did you mean 'people'"),
        ("people=2", "at least 4 people"),
        ("people=2.5", "people is a whole number, not 2.5"),
        ("aliases=many", "aliases is a share"),
        ("disputed=2", "disputed is a share, from 0 to 1, not 2"),
        ("split=dev", "unknown split 'dev'"),
    ],
)
def test_wrong_settings_are_one_line(
    given: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", "invent", given, "--output", str(tmp_path / "w.jsonl")]) == 2
    shown = capsys.readouterr().err.strip()
    assert said in shown
    assert "\n" not in shown
    assert not list(tmp_path.iterdir())


def test_a_file_that_exists_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "w.jsonl"
    path.write_text("mine")
    assert main(["index", "invent", "people=4", "--output", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == "mine"


def test_any_server_of_the_retrieve_protocol_will_do(tmp_path: Path) -> None:
    from foldgym.envs.qa.invented import Invented
    from foldgym.search import Bm25
    from foldgym.search.server import Server

    index = Bm25.of(list(Invented(7, people=20).pages()))
    with Server(index, "127.0.0.1", 0, 3) as server:
        env = FictionalQA(people=20, world=7, index=server.url)
        for seed in range(5):
            env.reset(seed=seed)
            for turn in range(16):
                step = env.step(env.expert("optimal", random.Random(turn)))
                if step.terminated:
                    break
            assert env.measure()["success"]
