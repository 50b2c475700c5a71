"""`foldgym sft` and `foldgym train`: a small run from nothing, and every mistake on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foldgym.cli.main import main
from foldgym.records import JsonlReader, RecordReader

SFT = """
output = "{tmp}/sft"
[model]
hidden = 16
layers = 1
heads = 2
head_dim = 8
mlp = 16
[tokenizer]
vocab_size = 300
episodes = 20
[[envs]]
name = "foldgym/Arithmetic-v0"
[sft]
steps = 2
batch = 4
warmup = 1
"""
TRAIN = """
output = "{tmp}/rl"
[policy]
path = "{tmp}/sft"
[[envs]]
name = "foldgym/Arithmetic-v0"
[rollout]
max_turns = 2
max_tokens = 4
[train]
steps = 2
groups = 2
group_size = 2
checkpoint_every = 1
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "sft.toml").write_text(SFT.format(tmp=tmp_path))
    (tmp_path / "run.toml").write_text(TRAIN.format(tmp=tmp_path))
    return tmp_path


@pytest.mark.slow
def test_from_nothing_to_a_comparison(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def done(*words: str) -> Any:
        code = main([*words, "--json"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out)

    cloned = done("sft", f"{files}/sft.toml")
    assert (cloned["folder"], cloned["metrics"]["step"]) == (f"{files}/sft", 2)
    trained = done("train", f"{files}/run.toml", "optim.lr=1e-4")
    assert trained["policy"] == f"{files}/rl/checkpoints/step-000002"
    assert len(list(RecordReader(files / "rl" / "trajectories.jsonl"))) == 2 * 2 * 2
    assert "lr = 0.0001" in (files / "rl" / "run.toml").read_text()

    longer = done("train", "--resume", f"{files}/rl", "train.steps=3")
    assert longer["metrics"]["step"] == 3
    assert [line["step"] for line in JsonlReader(files / "rl" / "metrics.jsonl")] == [1, 2, 3]

    short = ("--env", "foldgym/Arithmetic-v0", "--episodes", "3")
    limits = (*short, "--max-turns", "2", "--max-tokens", "4")
    report = done("eval", "--policy", f"{files}/rl", *short)["envs"]["foldgym/Arithmetic-v0"]
    assert (report["episodes"], report["turns"]["mean"]) == (3, 2.0)  # limits as trained
    assert report["tokens"]["sampled"] <= 2 * 4
    compared = done("compare", f"{files}/sft", f"{files}/rl", *limits)
    assert compared["envs"]["foldgym/Arithmetic-v0"]["n"] == 3
    words = ("envs", "play", "foldgym/Arithmetic-v0", "--policy", f"{files}/rl")
    assert done(*words)["schema"] == 1

    memory = ("memory.use=window", "memory.turns=1", f"output={files}/short", "train.steps=1")
    done("train", f"{files}/run.toml", *memory)
    assert main(["eval", "--policy", f"{files}/short", *short]) == 0
    expected = f"{files}/short plays with the memory it was trained with: window"
    assert expected in capsys.readouterr().err

    recorded = f"sft.trajectories={files}/rl/trajectories.jsonl"
    again = done("sft", f"{files}/sft.toml", recorded, f"output={files}/sft2", "sft.steps=1")
    assert again["metrics"]["step"] == 1

    for override, part in [
        ("memory.turns=3", "memory.turns: unknown option"),
        ("memory.use=windw", "did you mean 'window'?"),
        ("algorithm.loss.eps_hgh=0.3", "did you mean 'eps_high'?"),
        ("sampler.use=unifrm", "did you mean 'uniform'?"),
    ]:
        assert main(["train", f"{files}/run.toml", f"output={files}/no", override]) == 2
        assert part in capsys.readouterr().err
    assert not (files / "no").exists()

    assert main(["train", f"{files}/run.toml"]) == 2
    assert f"already holds a run; continue it with --resume {files}/rl" in capsys.readouterr().err

    weights = files / "rl" / "checkpoints" / "step-000003" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    for words in (["train", "--resume", f"{files}/rl", "train.steps=4"],
                  ["eval", "--policy", f"{files}/rl", *limits]):  # fmt: skip
        assert main(words) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert "model.safetensors is damaged" in error


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["train"], ["no run file", "--resume DIR"]),
        (["sft"], ["no run file"]),
        (["train", "a.toml", "b.toml"], ["one run file at a time", "a.toml and b.toml"]),
        (["train", "TMP/none.toml"], ["cannot read run file", "none.toml", "No such file"]),
        (["train", "--resume", "TMP/none"], ["TMP/none", "there is no run in it"]),
        (["train", "TMP/run.toml", "--resume", "TMP"], ["leave", "run.toml out"]),
        (["train", "TMP/run.toml", "train.stepz=3"], ["train.stepz", "did you mean 'steps'?"]),
        (["train", "TMP/run.toml", "algorithm.kl.use=k3"], ["algorithm.kl.use", "no effect"]),
        (["train", "TMP/run.toml", "envs.0.name=foldgym/X-v0"], ["unknown environment"]),
        (["train", "TMP/run.toml", "policy.path=TMP/none"], ["TMP/none", "is no folder"]),
        (["sft", "TMP/sft.toml", "tokenizer.vocab=3"], ["tokenizer.vocab", "'vocab_size'?"]),
        (["sft", "TMP/sft.toml", "sft.expert=sloppy"], ["sloppy", "optimal"]),
        (["sft", "TMP/sft.toml", "sft.trajectories=TMP/x.jsonl"], ["cannot read", "x.jsonl"]),
    ],
)
def test_mistakes_leave_nothing_behind(
    files: Path, capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]
) -> None:
    before = sorted(files.iterdir())
    assert main([word.replace("TMP", str(files)) for word in words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    for part in parts:
        assert part.replace("TMP", str(files)) in error
    assert sorted(files.iterdir()) == before


def test_bad_toml_names_file_line_and_column(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "run.toml").write_text("output = 'x'\n[policy\n")
    assert main(["train", f"{files}/run.toml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {files}/run.toml: not valid TOML: ")
    assert "line 2, column 8" in error


@pytest.mark.parametrize("command", ["train", "sft"])
def test_without_torch_the_extra_is_named(files: Path, command: str) -> None:
    name = "run" if command == "train" else "sft"
    code = "import sys; sys.modules['torch'] = None; from foldgym.cli.main import main\n"
    code += f"sys.exit(main([{command!r}, {f'{files}/{name}.toml'!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"error: foldgym {command} needs the extra [train]: pip install" in done.stderr
