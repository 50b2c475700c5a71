"""The run files of the search worlds, and that the comparison's page shows its results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.suites import search_credit
from foldgym.config import SftRun, TrainRun, load
from foldgym.trainers.sft import sft
from foldgym.trainers.train import train

RUNS = search_credit.ROOT / "runs"


def test_methods_differ_in_reward_credit_and_verdicts_alone() -> None:
    runs = {name: load(TrainRun, RUNS / f"search_{name}.toml", []) for name in search_credit.CLONES}
    grpo = runs.pop("grpo")
    for run in runs.values():
        own = {"output", "reward", "algorithm", "memory", "policy", "rollout"}
        same = {name: getattr(grpo, name) for name in type(grpo).model_fields if name not in own}
        assert {name: getattr(run, name) for name in same} == same
    clones = [load(SftRun, RUNS / f"search_{name}.toml", []) for name in ("clone", "clone_reseek")]
    plain, judging = (clone.model_dump(exclude={"output", "memory", "policy"}) for clone in clones)
    assert plain == judging


@pytest.mark.slow
def test_every_method_trains(tmp_path: Path) -> None:
    part = search_credit.play_seed(0, tmp_path, 0.0, small=True)
    for name, found in part["methods"].items():
        assert found["steps"] == 1, name
        assert found["after"]["queries"] >= 0
        assert len(found["after"]["outcomes"]) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "clone"),
    [
        ("objectives", ['envs.0.transforms=[{use="objectives",k=2}]', 'memory={use="mem1"}']),
        ("masks", ['envs.0.name="foldgym/FictionalQA-v0"', "envs.0.kwargs={}",
                   'envs.0.transforms=[{use="masks",k=2}]']),
    ],
)  # fmt: skip
def test_curricula_start(name: str, clone: list[str], tmp_path: Path) -> None:
    small = ["sft.steps=1", "sft.batch=4", "tokenizer.episodes=8", f'output="{tmp_path}/clone"']
    sft(load(SftRun, RUNS / "search_base.toml", [*clone, *small]))
    words = ["train.steps=1", "train.checkpoint_every=1", "train.groups=1", "train.group_size=2"]
    words += [f'policy.path="{tmp_path}/clone"', f'output="{tmp_path}/run"', "rollout.max_turns=4"]
    train(load(TrainRun, RUNS / f"search_{name}.toml", words))
    row = json.loads((tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()[0])
    assert row["sampler/stage"] == 0.0
    assert row["episodes"] == 2.0


def test_the_page_shows_the_results() -> None:
    result = json.loads(search_credit.RESULTS.read_text("utf-8"))
    assert search_credit.tables(result) in search_credit.PAGE.read_text("utf-8")
    assert len(result["seeds"]) == 3
    assert {part["seed"] for part in result["seeds"]} == set(search_credit.SEEDS)
