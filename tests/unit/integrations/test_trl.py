"""foldgym inside TRL's GRPOTrainer, for real."""

from __future__ import annotations

import copy
import importlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from foldgym.agents.engines.models import load_policy
from foldgym.cli.main import main
from foldgym.config import PolicySection, TrainRun, parse
from foldgym.envs import registry
from foldgym.errors import ConfigError
from foldgym.integrations import trl as fold
from foldgym.rewards import Rubric, Term, env_score
from foldgym.trainers.advantages.grpo import grpo
from foldgym.trainers.batch import make_batch
from foldgym.trainers.reading import Reader
from foldgym.trainers.train import train
from foldgym.trainers.wiring import load_actor
from foldgym.types import Group, Request, Reward, Trajectory

WORLD = "foldgym/GuessNumber-v0"
EASY: dict[str, Any] = {"low": 1, "high": 8}


def trl() -> Any:
    return importlib.import_module("trl")


def config(folder: Path, **more: Any) -> Any:
    options: dict[str, Any] = {
        "output_dir": str(folder),
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_steps": 2,
        "learning_rate": 1e-3,
        "max_completion_length": 700,
        "report_to": [],
        "save_strategy": "no",
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        **more,
    }
    return trl().GRPOConfig(**options)


def shortness(trajectory: Trajectory) -> float:
    return -len(trajectory.turns)


def length(trajectory: Trajectory) -> float:
    return len(trajectory.turns) + 0.1 * trajectory.trained


class Heard:
    """A reward function that keeps what it was given and what it said."""

    def __init__(self, inner: fold.RewardFunc) -> None:
        self.inner, self.__name__ = inner, "heard"
        self.rewards: list[list[float | None]] = []
        self.given: list[dict[str, Any]] = []

    def __call__(self, **given: Any) -> list[float | None]:
        self.given.append(given)
        self.rewards.append(self.inner(**given))
        return self.rewards[-1]


def advantages_of(trainer: Any) -> list[list[float]]:
    """The advantages that TRL trains on, step by step, filled while it trains."""
    found: list[list[float]] = []
    inner = trainer._generate_and_score_completions

    def listening(inputs: Any) -> Any:
        output = inner(inputs)
        found.append(output["advantages"].tolist())
        return output

    trainer._generate_and_score_completions = listening
    return found


def expected_advantages(rewards: list[float | None], size: int) -> list[float]:
    """TRL's own rule for groups without failures: `(r - mean) / (std + 1e-4)`."""
    values = np.array(rewards, dtype=float).reshape(-1, size)
    centred = values - values.mean(1, keepdims=True)
    return (centred / (values.std(1, ddof=1, keepdims=True) + 1e-4)).ravel().tolist()


def replayed(seed: int, calls: list[int]) -> float:
    """The score of these guesses in a fresh environment."""
    env = registry.make(WORLD, **EASY)
    env.reset(seed=seed)
    for number in calls:
        *_, terminated, truncated, _ = env.step(f"guess {number}")
        if terminated or truncated:
            break
    return env.measure()["score"]


def guesses(completion: list[dict[str, Any]]) -> list[Any]:
    """What a completion calls, as far as TRL ran it: the reply of the tool follows."""
    found: list[Any] = []
    for said, reply in itertools.pairwise(completion):
        if said["role"] == "assistant" and reply["role"] == "tool":
            assert len(said["tool_calls"]) == 1
            found.append(said["tool_calls"][0]["function"]["arguments"]["number"])
    return found


@pytest.mark.slow
def test_trl_plays_our_environment(start: Path, tmp_path: Path) -> None:
    reward = Heard(fold.reward())
    rows = fold.dataset(WORLD, 8, **EASY)
    trainer = trl().GRPOTrainer(
        str(start),
        reward,
        config(tmp_path, max_tool_calling_iterations=6),
        rows,
        environment_factory=fold.environment_factory(WORLD, **EASY),
    )
    before = copy.deepcopy(trainer.model.state_dict())
    advantages = advantages_of(trainer)
    trainer.train()
    assert len(reward.rewards) == 2
    for given, rewards, trained in zip(reward.given, reward.rewards, advantages, strict=True):
        assert sum(len(guesses(said)) > 1 for said in given["completions"]) > 2  # several turns
        for seed, said, value in zip(
            given["task_seed"], given["completions"], rewards, strict=True
        ):
            if all(isinstance(number, int) for number in guesses(said)):
                assert value == replayed(seed, guesses(said))
        assert trained == pytest.approx(expected_advantages(rewards, 4), abs=1e-5)
    values = [value for rewards in reward.rewards for value in rewards]
    assert {0.0, 1.0} == set(values)
    after = trainer.model.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert any("foldgym/turns" in each for each in trainer.state.log_history)


@pytest.mark.slow
def test_our_rollout_feeds_trl(start: Path, tmp_path: Path) -> None:
    rubric = Rubric((Term("score", env_score), Term("short", shortness, 0.01)))
    reward = Heard(fold.reward(rubric))
    player = fold.rollout_func(WORLD, max_turns=5, **EASY)
    trainer = trl().GRPOTrainer(
        str(start), reward, config(tmp_path), fold.dataset(WORLD, 8, **EASY), rollout_func=player
    )
    advantages = advantages_of(trainer)
    trainer.train()
    assert len(reward.rewards) == 2
    reader = Reader(load_policy(start).model)
    for step, (given, rewards) in enumerate(zip(reward.given, reward.rewards, strict=True)):
        played = [row.trajectory for _, row, _ in given["foldgym_row"]]
        for trajectory, seed, value in zip(played, given["task_seed"], rewards, strict=True):
            assert trajectory.task.prompt[0].text == given["prompts"][0][0]["content"]
            calls = [turn.message.tool_calls for turn in trajectory.turns]
            if all(len(each) == 1 for each in calls):
                numbers = [json.loads(each[0].arguments)["number"] for each in calls]
                score = replayed(seed, numbers)
                assert value == pytest.approx(score - 0.01 * len(calls))
        assert advantages[step] == pytest.approx(expected_advantages(rewards, 4), abs=1e-5)
        groups = [Group(Request(WORLD, 0, 8), tuple(played), (Reward(0, 0),) * len(played))]
        if step == 0:  # sampled under the weights of the folder, and by no others
            batch = make_batch(groups)
            gap = np.abs(reader.logprobs(batch, 4096) - batch.logprob_BT)[batch.weight_BT > 0]
            assert gap.max() < 1e-4


@pytest.mark.slow
def test_segments_as_rows_give_the_gradient_of_whole_trajectories(
    start: Path, tmp_path: Path
) -> None:
    """TRL's step on rows is ours on trajectories: nobody weighs more because it folded more."""
    rubric = Rubric((Term("turns", length),))
    reward = Heard(fold.reward(rubric))
    player = fold.rollout_func(
        WORLD,
        max_turns=3,
        segments="rows",
        episodes=4,
        memory={"use": "window", "turns": 1},
        **EASY,
    )
    args = config(
        tmp_path,
        per_device_train_batch_size=16,
        num_generations=16,
        max_steps=1,
        scale_rewards="none",
        optim="sgd",
        learning_rate=1.0,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
    )
    trainer = trl().GRPOTrainer(
        str(start), reward, args, fold.dataset(WORLD, 4, **EASY), rollout_func=player
    )
    trainer.train()
    (given,) = reward.given
    rows = [row for _, row, _ in given["foldgym_row"]]
    played = {id(row.trajectory): row.trajectory for row in rows if row.trajectory is not None}
    trajectories: list[Trajectory] = [*played.values()]
    sizes = [len(trajectory.segments) for trajectory in trajectories]
    assert len(trajectories) == 4
    assert len(rows) == 16
    assert max(sizes) > 1  # some folded
    assert len(set(sizes)) > 1 or len({t.trained for t in trajectories}) > 1
    group = Group(Request(WORLD, 0, 4), tuple(trajectories), tuple(map(rubric.score, trajectories)))
    batch = make_batch([group], grpo([group]))
    model = load_policy(start).model
    tokens = Reader(model).read(batch).tokens
    (-tokens.weight_N * tokens.advantage_N * tokens.logp_N).sum().backward()
    largest = max(float(p.grad.abs().max()) for p in model.parameters())
    assert largest > 1e-3
    before, after = dict(load_policy(start).model.named_parameters()), trainer.model
    for name, moved in after.named_parameters():
        ours = dict(model.named_parameters())[name].grad
        assert torch.allclose(before[name] - moved, ours, atol=2e-5 * max(1.0, largest))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "playing", "says"),
    [
        ({"top_k": 5}, {}, "top_k = 5"),
        ({}, {"memory": {"use": "window", "turns": 1}}, "folded into"),
        ({}, {"segments": "rows", "episodes": 2}, "scale_rewards"),
        (
            {"scale_rewards": "none", "loss_type": "grpo"},
            {"segments": "rows", "episodes": 2},
            "loss_type",
        ),
    ],
)
def test_what_trl_cannot_carry_is_refused(
    start: Path, tmp_path: Path, options: Any, playing: Any, says: str
) -> None:
    player = fold.rollout_func(WORLD, max_turns=3, **playing, **EASY)
    rows = fold.dataset(WORLD, 4, **EASY)
    trainer = trl().GRPOTrainer(
        str(start), fold.reward(), config(tmp_path, **options), rows, rollout_func=player
    )
    with pytest.raises(ConfigError, match=says):
        trainer.train()


@pytest.mark.slow
def test_a_folder_that_trl_saved_plays_and_trains_here(start: Path, tmp_path: Path) -> None:
    rows = fold.dataset(WORLD, 4, **EASY)
    args = config(tmp_path / "out", max_steps=1)
    trainer = trl().GRPOTrainer(
        str(start), fold.reward(), args, rows, rollout_func=fold.rollout_func(WORLD, **EASY)
    )
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    assert not (tmp_path / "saved" / "foldgym.json").exists()
    actor = load_actor(PolicySection(path=str(tmp_path / "saved")))
    assert actor.renderer_name == "chatml"  # found out from the chat template
    theirs = trainer.model.state_dict()
    assert all(torch.equal(x, theirs[n]) for n, x in actor.policy.model.state_dict().items())
    text = f"""
    output = "{tmp_path / "run"}"
    [policy]
    path = "{tmp_path / "saved"}"
    [[envs]]
    name = "{WORLD}"
    kwargs = {{low = 1, high = 8}}
    [train]
    steps = 1
    groups = 2
    group_size = 4
    """
    folder = train(parse(TrainRun, text))
    (line,) = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["tokens"] > 100
    for policy in (tmp_path / "saved", folder):
        assert main(["eval", "--policy", str(policy), "--env", WORLD, "--episodes", "2"]) == 0
