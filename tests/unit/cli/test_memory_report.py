"""`foldgym eval` with several memories and contexts, with a player that only reads."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from foldgym.agents.engines.models import init_model, save_policy
from foldgym.agents.engines.tokenizer import train_tokenizer
from foldgym.cli.main import main
from foldgym.cli.memories import chosen
from foldgym.config import TrainRun, parse
from foldgym.errors import ConfigError
from foldgym.records import RecordReader

SEARCH = "foldgym/FictionalSearch-v0"
READS = ["eval", "--policy", "reader", "--env", SEARCH, "--set", "top_k=1", "--episodes", "10"]
TRAINED = """
output = "x"
[policy]
path = "x"
[[envs]]
name = "foldgym/FictionalSearch-v0"
[memory]
use = "summarise"
max_tokens = 24
max_context = 300
"""


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["window"], {"window": {}}),
        (["window", "turns=2"], {"window turns=2": {"turns": 2}}),
        (["full,window,omit"], {"full": {}, "window": {}, "omit": {}}),
        (
            ["full", "window:turns=2", "summarise", "max_tokens=9", "keep=1"],
            {
                "full": {},
                "window turns=2": {"turns": 2},
                "summarise max_tokens=9 keep=1": {"max_tokens": 9, "keep": 1},
            },
        ),
        (
            ["full,summarise:max_tokens=9,keep=1,omit"],
            {"full": {}, "summarise max_tokens=9 keep=1": {"max_tokens": 9, "keep": 1}, "omit": {}},
        ),
        (
            ['errors:marks=["a","b"],full', 'reminder:text="a, b",every=2'],
            {
                'errors marks=["a","b"]': {"marks": ["a", "b"]},
                "full": {},
                'reminder text="a, b" every=2': {"text": "a, b", "every": 2},
            },
        ),
        (["errors", "marks=a, b"], {"errors marks=a, b": {"marks": "a, b"}}),
        (["my.py:Mine:n=3"], {"my.py:Mine n=3": {"n": 3}}),
        (["my.py:Mine", "pack.mod:Other"], {"my.py:Mine": {}, "pack.mod:Other": {}}),
        (
            ["window:turns=2,window:turns=3"],
            {"window turns=2": {"turns": 2}, "window turns=3": {"turns": 3}},
        ),
    ],
)  # fmt: skip
def test_memories_on_a_command_line(words: list[str], found: dict[str, Any]) -> None:
    assert {each.label: each.section.kwargs for each in chosen(words)} == found


def test_the_memory_of_a_checkpoint_goes_by_the_name_trained() -> None:
    (own, other) = chosen(["trained,full"], parse(TrainRun, TRAINED))
    assert (own.section.use, own.section.kwargs) == ("summarise", {"max_tokens": 24})
    assert other.section.use == "full"
    with pytest.raises(ConfigError, match="no run file"):
        chosen(["trained"])


def test_a_report_by_hand(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = [*READS, "--set", "hops=2", "--memory", "full,window:turns=1", "window:turns=2"]
    words += ["--context", "128,1024", "--output", str(tmp_path / "out")]
    assert main(words) == 0
    shown = capsys.readouterr().out.splitlines()
    table = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (tmp_path / "out" / "memory.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert table["contexts"] == [128, 1024]
    assert table["memories"]["window turns=2"] == {"use": "window", "options": {"turns": 2}}
    found = table["envs"][SEARCH]
    # one answer with the facts in the prompt; without a memory the first fact is lost at the second
    assert found["oracle"]["turns"]["mean"] == found["oracle"]["success"]["mean"] == 1.0
    assert found["oracle"]["context"] is None
    assert found["none"]["1024"]["success"]["mean"] == 0.0
    own = {label: found["own"][label]["1024"] for label in found["own"]}
    means = {label: each["success"]["mean"] for label, each in own.items()}
    assert means == {"full": 1.0, "window turns=1": 0.0, "window turns=2": 1.0}
    assert own["window turns=2"]["gain"]["mean"] == own["window turns=1"]["loss"]["mean"] == 1.0
    # at the answer two facts are 2 and 1 turns old
    assert own["full"]["recall"]["by_age"] == {
        "1": {"right": 10, "asked": 10},
        "2": {"right": 10, "asked": 10},
    }
    # 128 tokens less 64 for the next message hold the question (42 to 60) and nothing else
    assert found["own"]["full"]["128"]["stops"] == {"max_context": 10}
    assert shown[0] == f"reader on {SEARCH}: 10 tasks, intervals at 95 %"
    assert [line.split()[0] for line in shown[2:]] == [
        *("oracle", "none", "none", "full", "full"),
        *("window", "window", "window", "window"),
    ]
    assert any("+1.000 [" in line for line in shown)


def test_json_repeats_and_trajectories_say_where_they_belong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "t.jsonl"
    words = [*READS, "--memory", "full", "--context", "512", "--json"]
    assert main([*words[:-1], "--trajectories", str(path), "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(words) == 0
    second = json.loads(capsys.readouterr().out)

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: timeless(each) for key, each in value.items() if key != "seconds"}
        return value

    assert timeless(first) == timeless(second)
    notes = [record.notes for record in RecordReader(path)]
    assert [(each["setting"], each["context"]) for each in notes[::10]] == [
        ("oracle", 1 << 40),
        ("none", 512),
        ("full", 512),
    ]
    assert len(notes) == 30


def test_a_world_without_evidence_has_no_oracle(capsys: pytest.CaptureFixture[str]) -> None:
    env = "foldgym/GuessNumber-v0"
    words = ["eval", "--policy", "expert", "--env", env, "--memory", "full,window"]
    assert main([*words, "--context", "999", "--episodes", "4"]) == 0
    shown = capsys.readouterr().out
    assert "no oracle, no loss" in shown
    assert "oracle  " not in shown


def test_drift_of_a_checkpoint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(["what is the home of tusmol ?"], vocab_size=300)
    model = init_model(
        vocab_size=tokenizer.vocab_size, hidden=16, layers=1, heads=2, mlp=16, max_positions=512
    )
    policy = save_policy(tmp_path / "policy", model, tokenizer, "compact")
    words = ["eval", "--policy", str(policy), "--env", SEARCH, "--episodes", "2", "--max-turns"]
    words += ["3", "--max-tokens", "8", "--memory", "full", "--context"]
    assert main([*words, "512", "--drift", "1", "--json"]) == 0
    cell = json.loads(capsys.readouterr().out)["envs"][SEARCH]["own"]["full"]["512"]
    assert cell["drift"]["episodes"] == 1
    assert cell["drift"]["by_turn"]["0"] == 0.0
    assert main([*words, "512", "--drift", "0", "--json"]) == 0
    cell = json.loads(capsys.readouterr().out)["envs"][SEARCH]["own"]["full"]["512"]
    assert cell["drift"] is None
    assert main([*words, "1024"]) == 2
    assert "takes 512 tokens at most" in capsys.readouterr().err


def test_nothing_is_played_without_what_the_picture_needs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    out = tmp_path / "out"
    assert main([*READS, "--context", "512", "--output", str(out)]) == 2
    captured = capsys.readouterr()
    assert "pip install 'foldgym[train]'" in captured.err
    assert "playing" not in captured.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--memory", "full,windw"], ["'windw'", "mean 'window'?"]),
        (["--memory", "full,,window"], ["'full,,window'", "a comma too many"]),
        (["--memory", "full,window,full"], ["'full' stands there twice"]),
        (["--memory", "turns=2"], ["'turns=2'", "name a memory first"]),
        (["--memory", "full,window:turn=2"], ["'turns'"]),
        (["--memory", "full,window:turns=0"], ["turns >= 1"]),
        (["--memory", "full,window:max_context=9"], ["max_context=9", "--context"]),
        (["--memory", "full,trained"], ["trained", "no run file"]),
        (["--memory", "summarise:by=aux"], ["auxiliary policy"]),
        (["--context", "512,many"], ["'many' is no whole number"]),
        (["--context", "512,1"], ["1 is too small"]),
        (["--context", "512", "512"], ["stands there twice"]),
        (["--context", "512,"], ["'' is no whole number"]),
        (["--context", "512", "--max-context", "99"], ["--max-context", "--context"]),
        (["--context", "512", "--memory", "window:reserve=512"], ["reserve=512 leaves nothing"]),
        (["--context", "512", "--drift", "2"], ["--drift 2", "no probabilities"]),
        (["--policy", "expert", "--context", "512", "--probes", "2"], ["--probes 2", "expert"]),
        (["--env", "foldgym/KeyDoor-v0", "--context", "512"], ["reader plays chain questions"]),
        (["--memory", "full,window"], ["--context", "256,512"]),
        (["--context", "512", "--output", "/dev/null/x"], ["--output /dev/null/x: "]),
    ],
)  # fmt: skip
def test_mistakes(capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]) -> None:
    options = ["--policy", "reader", "--env", SEARCH, "--episodes", "2"]
    if words != ["--memory", "full,window"]:
        options += ["--context", "512"]  # what stands later counts
    assert main(["eval", *options, *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    for part in parts:
        assert part in error


def test_comparing_two_policies_takes_one_memory(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", "silent", "random", "--env", SEARCH, "--memory", "full,window"]
    assert main(words) == 2
    assert "2 memories, and only one can play here" in capsys.readouterr().err
