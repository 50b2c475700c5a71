"""Cloning by TRL's SFTTrainer: the same rows, the same steps as ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from foldgym.agents.engines.models import load_policy
from foldgym.config import SftRun, dump, parse
from foldgym.errors import ConfigError
from foldgym.trainers.sft import sft
from foldgym.trainers.sft_trl import rows_of
from foldgym.types import Group, Message, Request, Reward, Segment, Stop, Task, Trajectory, Turn


def text(output: Path, trainer: str, more: str = "", policy: str = "") -> str:
    made = (
        f'[policy]\npath = "{policy}"'
        if policy
        else (
            "[model]\nhidden = 32\nlayers = 1\nheads = 2\nhead_dim = 16\nmlp = 64\n"
            "[tokenizer]\nvocab_size = 300\nepisodes = 20"
        )
    )
    weight = "context_weight = 0.0" if trainer == "foldgym" else ""
    return f"""
    seed = 3
    output = "{output}"
    [[envs]]
    name = "foldgym/GuessNumber-v0"
    {made}
    [sft]
    trainer = "{trainer}"
    steps = 3
    batch = 6
    warmup = 2
    lr = 1e-2
    {weight}
    {more}
    """


def clone(output: Path, trainer: str, more: str = "") -> tuple[Path, list[dict[str, float]]]:
    path = sft(parse(SftRun, text(output, trainer, more)))
    lines = (output / "metrics.jsonl").read_text("utf-8").splitlines()
    return path, [json.loads(line) for line in lines]


def test_rows_are_the_ids_and_labels_where_they_were_sampled() -> None:
    segment = Segment((5, 6, 9, 2, 7, 8), (-1, -1, 0, 0, -1, 1), (0.0,) * 6, (0,) * 6)
    short = Segment((5, 4), (-1, 0), (0.0,) * 2, (0,) * 2)
    turns = (Turn(0, Message("assistant", "x")), Turn(1, Message("assistant", "y")))
    trajectory = Trajectory("t", "w", Task("q", ()), 0, turns, (segment, short), Stop.DONE)
    group = Group(Request("w", 1), (trajectory,), (Reward(0, 0),))
    assert rows_of([group]) == [
        {"input_ids": [5, 6, 9, 2, 7, 8], "labels": [-100, -100, 9, 2, -100, 8]},
        {"input_ids": [5, 4], "labels": [-100, 4]},
    ]


@pytest.mark.slow
@pytest.mark.parametrize("more", ["", "accumulate = 3"])
def test_a_step_of_trl_is_a_step_of_ours(tmp_path: Path, more: str) -> None:
    mine, ours = clone(tmp_path / "ours", "foldgym")
    other, theirs = clone(tmp_path / "theirs", "trl", more)
    for name, within in (("loss", 1e-5), ("grad_norm", 1e-4), ("lr", 1e-9)):
        pairs = zip(ours, theirs, strict=True)
        assert all(abs(a[name] - b[name]) < within * max(1.0, abs(a[name])) for a, b in pairs)
    assert ours[0]["loss"] != pytest.approx(ours[2]["loss"], abs=1e-2)  # it moved
    left, right = (load_policy(path) for path in (mine, other))
    assert (left.renderer, right.renderer) == ("compact", "compact")
    weights = right.model.state_dict()
    assert all(torch.allclose(x, weights[n], atol=1e-4) for n, x in left.model.state_dict().items())


@pytest.mark.slow
def test_two_processes_make_the_same_steps(tmp_path: Path) -> None:
    _, alone = clone(tmp_path / "one", "trl")
    file = tmp_path / "run.toml"
    file.write_text(text(tmp_path / "two", "trl"), "utf-8")
    command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
    command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    command += ["--main_process_port", "0", "-m", "foldgym", "sft", str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    lines = (tmp_path / "two" / "metrics.jsonl").read_text("utf-8").splitlines()
    both = [json.loads(line) for line in lines]
    assert [row["loss"] for row in both] == pytest.approx([row["loss"] for row in alone], abs=1e-5)
    assert load_policy(tmp_path / "two" / "checkpoints" / "step-000003").renderer == "compact"


@pytest.mark.parametrize(
    ("trainer", "more", "says"),
    [
        ("trl", "context_weight = 0.1", "sft.context_weight"),
        ("trl", 'layout = "packed"', "sft.layout"),
        ("trl", "microbatch_tokens = 99", "sft.microbatch_tokens"),
        ("trl", "accumulate = 4", "does not divide sft.batch"),
        ("foldgym", "accumulate = 2", "sft.accumulate"),
    ],
)
def test_options_that_the_trainer_does_not_honour_are_refused(
    tmp_path: Path, trainer: str, more: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(SftRun, text(tmp_path, trainer, more))


def test_a_run_file_with_trl_is_written_out_and_read_back(tmp_path: Path) -> None:
    run = parse(SftRun, text(tmp_path, "trl", "accumulate = 3"))
    written = dump(run)
    assert 'trainer = "trl"' in written
    assert "context_weight" not in written
    assert parse(SftRun, written) == run


@pytest.mark.slow
def test_demonstrations_that_fold_are_refused(tmp_path: Path) -> None:
    more = '[memory]\nuse = "window"\nturns = 1\nmax_context = 400'
    with pytest.raises(ConfigError, match=r"18 demonstrations are .* rows"):
        sft(parse(SftRun, text(tmp_path / "run", "trl", more)))
    assert not (tmp_path / "run" / "checkpoints").exists()
