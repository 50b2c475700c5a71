"""`--engine` in eval and compare: who samples for a checkpoint."""

from __future__ import annotations

import json
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import vllm_double

from foldgym.agents.engines.models import init_model, save_policy
from foldgym.agents.engines.tokenizer import train_tokenizer
from foldgym.cli.main import main
from foldgym.loading import load_file

GUESS = "foldgym/GuessNumber-v0"
WORDS = ["--env", GUESS, "--episodes", "3", "--max-tokens", "8", "--max-turns", "2"]

WATCHED = '''
from foldgym.errors import EngineDown
from foldgym.agents.engines.engine import Trainee

CALLS = []

class Watched:
    """Plays with the policy itself, and tells what it was asked."""

    def __init__(self, trainee, ill):
        self.sampler = self.judged = trainee.policy
        self.folder, self.ill = trainee.folder, ill

    async def start(self):
        CALLS.append(("start", str(self.folder)))
        (self.folder / "log").write_text("it said this")
        if self.ill == "dead":
            raise EngineDown("it does not start (log: log)")

    async def rest(self):
        raise NotImplementedError

    async def publish(self):
        CALLS.append("publish")
        return {"push_gap_mean": 0.25, "push_gap_max": 0.5, "engine_restarts": 2.0}

    async def stop(self):
        CALLS.append("stop")


def engine(trainee: Trainee, *, ill: str = ""):
    CALLS.clear()
    return Watched(trainee, ill)
'''


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("policy")
    (folder / "watched.py").write_text(WATCHED)
    tokenizer = train_tokenizer(["guess 12", "higher", "lower"], 290)
    shape = {"hidden": 32, "layers": 1, "heads": 2, "mlp": 32, "max_positions": 512}
    model = init_model(vocab_size=tokenizer.vocab_size, **shape, seed=3)
    return save_policy(folder / "policy", model, tokenizer, "compact")


def table(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_an_engine_is_started_judged_and_stopped(policy: Path, capsys: Any) -> None:
    source = policy.parent / "watched.py"
    words = ["eval", "--policy", str(policy), *WORDS]
    alone = table(capsys, *words)
    found = table(capsys, *words, "--engine", f"{source}:engine")
    (_, folder), *rest = load_file(str(source)).CALLS
    assert rest == ["publish", "stop"]
    assert not Path(folder).exists()
    assert found.pop("engine") == {
        "use": f"{source}:engine",
        "push_gap_mean": 0.25,
        "push_gap_max": 0.5,
        "engine_restarts": 2.0,
    }
    for report in (alone, found):
        report["envs"][GUESS].pop("seconds")
    assert found == alone
    assert main([*words, "--engine", f"{source}:engine"]) == 0
    shown = capsys.readouterr().out
    assert "differ from this process's by 0.25 on average and 0.5 at most" in shown
    assert "started again 2 times" in shown


def test_compare_gives_each_checkpoint_an_engine_and_scripts_none(
    policy: Path, capsys: Any
) -> None:
    source = policy.parent / "watched.py"
    words = ["compare", str(policy), "silent", *WORDS, "--engine", f"{source}:engine"]
    found = table(capsys, *words)
    assert [report.get("engine", {}).get("push_gap_max") for report in found["reports"]] == [
        0.5,
        None,
    ]


def test_an_engine_plays_the_report_on_memories_too(policy: Path, capsys: Any) -> None:
    source = policy.parent / "watched.py"
    words = ["eval", "--policy", str(policy), *WORDS, "--context", "400", "--probes", "0"]
    found = table(capsys, *words, "--drift", "0", "--engine", f"{source}:engine")
    assert found["engine"]["push_gap_max"] == 0.5
    assert [
        each if isinstance(each, str) else each[0] for each in load_file(str(source)).CALLS
    ] == [
        "start",
        "publish",
        "stop",
    ]


def test_an_engine_that_does_not_start_is_one_line_and_leaves_its_log(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    source = policy.parent / "watched.py"
    words = ["eval", "--policy", str(policy), *WORDS, "--engine", f"{source}:engine", "ill=dead"]
    assert main(words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: it does not start (log: log)"
    [(_, folder)] = load_file(str(source)).CALLS
    assert (Path(folder) / "log").read_text() == "it said this"


def test_a_server_that_ends_says_its_last_words(
    policy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """The double finds no weights of its kind in the checkpoint."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {vllm_double.__file__} "$@"\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    words = ["eval", "--policy", str(policy), *WORDS, "--engine", "vllm", f"python={python}"]
    assert main(words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "error: vLLM ended while it started: FileNotFoundError" in said
    log = Path(said.partition("(log: ")[2].rstrip(")"))
    assert "shift.json" in log.read_text()
    assert not (log.parent / "weights").exists()


@pytest.mark.parametrize(
    ("name", "words", "says"),
    [
        ("expert", ["vllm"], "--engine vllm: has no effect: no policy here is a checkpoint"),
        ("", ["scripted"], "--engine scripted: has no effect: the checkpoint itself is measured"),
        ("", ["vlm"], "unknown engine 'vlm'; did you mean 'vllm'?"),
        ("", ["vllm", "pyton=x"], "--engine.pyton: unknown option of vllm; did you mean 'python'?"),
        ("", ["vllm", "fast"], "--engine 'fast': write it as key=value"),
        ("", ["vllm", "sleep=true"], "--engine sleep: has no effect: nothing is learned here"),
        ("", ["vllm", "transfer=gloo"], "--engine transfer: has no effect: nothing is learned"),
        ("", ["vllm", "gpus=0"], '--engine vllm: engine.gpus: has no effect: policy.device is "c'),
        ("", ["vllm", "python=/no/python"], "--engine vllm: engine.python: /no/python is no"),
        ("", ["vllm", "url=http://127.0.0.1:9"], "http://127.0.0.1:9/v1/models is out of reach"),
        ("", ["torch", "gpus=0"], "--engine.gpus: unknown option of in_process"),
        ("nowhere", ["vllm"], "unknown policy 'nowhere'"),
    ],
)
def test_what_has_no_effect_or_makes_no_sense_is_one_line(
    policy: Path, capsys: Any, name: str, words: list[str], says: str
) -> None:
    given = ["eval", "--policy", name or str(policy), *WORDS]
    assert main([*given, "--engine", *words]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {says}")
