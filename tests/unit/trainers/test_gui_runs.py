"""The run files for screens: each loads, and makes a step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from foldgym.config import SftRun, TrainRun, load
from foldgym.records import JsonlReader, RecordReader
from foldgym.trainers.sft import sft
from foldgym.trainers.train import train

pytest.importorskip("PIL.Image")
pytestmark = pytest.mark.slow  # trains a policy first
RUNS = Path(__file__).parents[3] / "runs"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("gui")
    small = ["sft.steps=30", "sft.warmup=0", "sft.batch=4", "tokenizer.episodes=20"]
    sft(load(SftRun, RUNS / "gui_clone.toml", [*small, f"output={json.dumps(str(folder))}"]))
    return folder


def one_step(name: str, policy: Path, folder: Path) -> Path:
    words = ["train.steps=1", "train.groups=2", "train.group_size=2", "train.checkpoint_every=1"]
    paths = {"policy.path": policy, "output": folder}
    words += [f"{key}={json.dumps(str(path))}" for key, path in paths.items()]
    return train(load(TrainRun, RUNS / name, words))


def test_a_curriculum_of_fuller_screens(policy: Path, tmp_path: Path) -> None:
    folder = one_step("gui_curriculum.toml", policy, tmp_path / "run")
    (row,) = JsonlReader(folder / "metrics.jsonl")
    assert row["sampler/stage"] == 0.0
    records = list(RecordReader(folder / "trajectories.jsonl"))
    # two shapes are listed in the first stage
    shown = [each.trajectory.task.prompt[0].text.splitlines() for each in records]
    assert {len(lines) for lines in shown} == {4}


def test_credit_for_every_step_on_screens(policy: Path, tmp_path: Path) -> None:
    folder = one_step("gui_steps.toml", policy, tmp_path / "run")
    for record in RecordReader(folder / "trajectories.jsonl"):
        assert record.reward is not None
        assert len(record.reward.turns) == len(record.trajectory.turns)
        acted = [turn.info for turn in record.trajectory.turns]
        paid = [0.2 * i["action_ok"] + i["coord_ok"] + 0.2 * i["format_ok"] for i in acted]
        assert list(record.reward.turns) == pytest.approx(paid)
        assert record.reward.total == pytest.approx(sum(paid))
