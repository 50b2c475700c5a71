"""The run files for software tasks: what they say, and one whole step of both in Docker's boxes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from made_projects import pytest_archive, tally

from foldgym.config import SftRun, TrainRun, load
from foldgym.containers import available
from foldgym.envs.games import split_of
from foldgym.envs.swe.making.making import Plan, make
from foldgym.envs.swe.task import save_tasks
from foldgym.trainers.sft import sft
from foldgym.trainers.train import train

RUNS = Path(__file__).parents[3] / "runs"
LEVELS = ("outcome", "stages", "format", "tools")


def test_each_level_is_gated_by_the_one_above() -> None:
    run = load(TrainRun, RUNS / "swe_gra.toml", [])
    assert tuple(term.name for term in run.reward.terms) == LEVELS
    assert run.reward.terms[0].gate == ""
    for above, term in zip(LEVELS, run.reward.terms[1:], strict=False):
        assert term.gate.startswith(f"{above}>")
    clone = load(SftRun, RUNS / "swe_clone.toml", [])
    assert clone.output == run.policy.path
    assert clone.envs[0].name == run.envs[0].name


@pytest.mark.slow
@pytest.mark.docker
def test_a_training_step_with_gated_rewards_in_docker_boxes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why := available("docker"):
        pytest.skip(why)
    state = tempfile.mkdtemp(prefix="boxes-")
    Path(state).chmod(0o711)
    monkeypatch.setenv("FOLDGYM_STATE", state)
    plan = Plan(wanted=2, workers=1, backend="docker", recipe="python-tests")
    made = make(tally(), plan, tmp_path / "made", pytest_archive)
    tasks = tmp_path / "tasks.jsonl"
    assert save_tasks(tasks, made.tasks) == 2
    world = (
        f'envs.0.kwargs={{tasks="{tasks}", split="{split_of("tally/tally")}", backend="docker", '
        "check=false, output_cap=300, max_steps=20}"
    )
    small = [world, "model.layers=1", "model.hidden=32", "model.mlp=32", "tokenizer.episodes=2"]
    small += ["tokenizer.vocab_size=400", "sft.steps=1", "sft.batch=2"]
    sft(load(SftRun, RUNS / "swe_clone.toml", [*small, f'output="{tmp_path}/clone"']))
    small = [world, f'policy.path="{tmp_path}/clone"', f'output="{tmp_path}/run"']
    small += ["train.steps=1", "train.groups=2", "train.group_size=4", "train.checkpoint_every=1"]
    small += ["rollout.max_tokens=24", "rollout.max_turns=2", "rollout.concurrency=4"]
    train(load(TrainRun, RUNS / "swe_gra.toml", small))
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()[0])
    assert row["episodes"] == 8.0
    assert row["failures"] == 0.0
    for level in LEVELS:
        assert f"reward/{level}" in row
    assert row["reward/outcome"] == -1.0  # nobody submits after two turns of noise
    assert row["reward/stages"] == row["reward/format"] == row["reward/tools"] == 0.0
