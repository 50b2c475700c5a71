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
from chats import FAMILIES, backend, template_of
from transformers import PreTrainedTokenizerFast

import foldgym
from foldgym.agents.engines.models import load_policy
from foldgym.agents.engines.rendering import choose_renderer
from foldgym.agents.engines.tokenizer import Tokenizer
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


class Brittle(foldgym.ToolEnv):
    """Breaks when an odd number is guessed; one is as good as the number."""

    def setup(self, rng: Any) -> str:
        return "Guess my number from 1 to 8 with the tool guess."

    @foldgym.tool
    def guess(self, number: int) -> str:
        """Guess the number."""
        if number % 2:
            raise RuntimeError("odd")
        self.finish(number / 8)
        return "done"

    def respond(self, message: Any) -> str:
        self.finish(0.0)
        return "silence"


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


def batches_of(trainer: Any) -> list[dict[str, Any]]:
    """What TRL makes of each generation, filled while it trains."""
    found: list[dict[str, Any]] = []
    inner = trainer._generate_and_score_completions

    def listening(inputs: Any) -> Any:
        found.append(inner(inputs))
        return found[-1]

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
        assert any(len(guesses(said)) > 1 for said in given["completions"])  # several turns
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


@pytest.mark.parametrize("name", sorted(name for name, each in FAMILIES.items() if each.template))
def test_a_trainers_tokenizer_gets_the_renderer_of_its_folder(name: str) -> None:
    family = FAMILIES[name]
    tokens = {"bos_token": family.bos, "eos_token": family.eos}
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=backend(family),
        chat_template=template_of(family),
        **{role: token for role, token in tokens.items() if token},
    )
    expected = choose_renderer("auto", Tokenizer(backend(family), template_of(family), tokens))
    assert choose_renderer("auto", fold.tokenizer_of(theirs)).name == expected.name != "generic"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*odd")
@pytest.mark.parametrize("ours", [False, True])
def test_exactly_what_was_sampled_is_trained_and_nothing_of_a_failure(
    start: Path, tmp_path: Path, ours: bool
) -> None:
    world = f"{__file__}:Brittle"
    if ours:
        how: Any = {"rollout_func": fold.rollout_func(world, max_turns=3, retries=0)}
    else:
        how = {"environment_factory": fold.environment_factory(world)}
    reward = Heard(fold.reward())
    args = config(tmp_path, max_steps=1, max_tool_calling_iterations=2)
    trainer = trl().GRPOTrainer(str(start), reward, args, fold.dataset(world, 4), **how)
    sampled: list[list[list[int]]] = []
    inner = trainer._generate_single_turn

    def listening(prompt_ids: Any, *rest: Any, **more: Any) -> Any:
        found = inner(prompt_ids, *rest, **more)
        sampled.append([[*ids] for ids in found[0]])
        return found

    trainer._generate_single_turn = listening
    batches = batches_of(trainer)
    trainer.train()
    ((batch,), (given,), (rewards,)) = batches, reward.given, reward.rewards
    trained = batch["completion_mask"] * batch["tool_mask"]
    kept = [
        ids[mask == 1].tolist() for ids, mask in zip(batch["completion_ids"], trained, strict=True)
    ]
    failed = [value is None for value in rewards]
    assert 0 < sum(failed) < 8
    for row, value in enumerate(rewards):
        mates = [v for v in rewards[row // 4 * 4 : row // 4 * 4 + 4] if v is not None]
        expected = 0.0
        if value is not None and len(mates) > 1:
            expected = (value - np.mean(mates)) / (np.std(mates, ddof=1) + 1e-4)
        assert batch["advantages"][row].item() == pytest.approx(expected, abs=1e-5)
    if ours:
        for ids, (_, row, _) in zip(kept, given["foldgym_row"], strict=True):
            (segment,) = row.trajectory.segments
            said = zip(segment.token_ids, segment.turn_ids, strict=True)
            assert ids == ([] if row.trajectory.failed else [i for i, turn in said if turn >= 0])
    else:
        firsts, *later = sampled
        for first, ids in zip(firsts, kept, strict=True):
            assert ids[: len(first)] == first
        assert sum(map(len, kept)) == sum(len(ids) for turn in (firsts, *later) for ids in turn)


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_the_same_episodes(start: Path, tmp_path: Path) -> None:
    rubric = Rubric((Term("length", length),))

    def weights(folder: str, steps: int, resume: bool = False) -> dict[str, torch.Tensor]:
        player = fold.rollout_func(WORLD, max_turns=3)
        args = config(
            tmp_path / folder,
            max_steps=steps,
            save_strategy="steps",
            save_steps=2,
            lr_scheduler_type="constant",
            learning_rate=1e-2,
        )
        rows = fold.dataset(WORLD, 8, **EASY)
        trainer = trl().GRPOTrainer(
            str(start), fold.reward(rubric), args, rows, rollout_func=player
        )
        trainer.train(resume_from_checkpoint=resume or None)
        return trainer.model.state_dict()

    whole, half = weights("whole", 4), weights("parts", 2)
    parts = weights("parts", 4, resume=True)
    assert not all(torch.equal(whole[name], half[name]) for name in whole)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
