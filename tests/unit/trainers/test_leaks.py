"""A run that rewards information is refused if it would ask for answers in the wrong words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from foldgym.config import SftRun, TrainRun, dump, parse
from foldgym.errors import ConfigError
from foldgym.records import JsonlReader, RecordReader
from foldgym.rewards import make_rubric
from foldgym.trainers.leaks import answer_reader, check_answers
from foldgym.trainers.sft import sft
from foldgym.trainers.train import resume, train
from foldgym.trainers.wiring import how_to_play, load_actor, worlds

WORLD = 'name = "foldgym/FictionalSearch-v0"\nkwargs = {hops = 2}\nisolation = "inline"\n'

# an expert who answers in other words than the template, a world without an expert, and one that
# answers with another tool
ODD = """
import foldgym
from foldgym.types import Message, Task, ToolCall

class Told(foldgym.ToolEnv):
    max_turns = 2

    def setup(self, rng):
        word = rng.choice("abcd") * 3
        return Task("told", (Message("user", "which word ?"),), word)

    @foldgym.tool
    def answer(self, text: str) -> str:
        '''Answer.'''
        self.finish(float(text == self.task.answer), answer=text)
        return "ok"

class Spelt(Told):
    experts = ("optimal",)

    def expert(self, style, rng):
        call = ToolCall("answer", '{"text":"' + self.task.answer + '"}', "call_0")
        return Message("assistant", tool_calls=(call,))

class Said(Told):
    experts = ("optimal",)

    @foldgym.tool
    def tell(self, text: str) -> str:
        '''Answer.'''
        return self.answer(text)

    def expert(self, style, rng):
        return "tell " + self.task.answer
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "odd.py").write_text(ODD)
    for renderer in ("compact", "chatml"):
        text = f"""
        output = "{folder / renderer}"
        renderer = "{renderer}"
        [[envs]]
        {WORLD}
        [model]
        hidden = 32
        layers = 1
        heads = 2
        head_dim = 16
        mlp = 32
        [tokenizer]
        vocab_size = 320
        episodes = 20
        [sft]
        steps = 2
        batch = 2
        """
        sft(parse(SftRun, text))
    return folder


def run_file(home: Path, term: str = "", world: str = WORLD, policy: str = "compact") -> TrainRun:
    return parse(
        TrainRun,
        f"""
        output = "{home / "runs" / "r"}"
        [policy]
        path = "{home / policy}"
        [[envs]]
        {world}
        [rollout]
        max_tokens = 8
        max_turns = 3
        [reward]
        terms = [
          {{name = "right", use = "exact_match"}},
          {{name = "gain", use = "information_gain"{term}}},
        ]
        [algorithm]
        advantage = {{use = "igpo"}}
        [train]
        steps = 2
        groups = 2
        group_size = 2
        checkpoint_every = 1
        """,
    )


def checked(run: TrainRun) -> dict[str, float]:
    actor, mix, rubric = load_actor(run.policy), worlds(run.envs), make_rubric(run.reward)
    how = how_to_play(run.rollout, run.memory, actor.renderer, mix.max_turns)
    reader = answer_reader(rubric, mix, how, actor, 0)
    assert reader is not None
    return check_answers(rubric, mix, how, reader, 0)


def test_a_policy_that_cannot_copy_is_refused_before_anything_is_written(home: Path) -> None:
    run = run_file(home)
    with pytest.raises(ConfigError) as refused:
        train(run)
    said = str(refused.value)
    assert "reward term 'gain' in foldgym/FictionalSearch-v0" in said
    assert "below leak_check = 0.9" in said
    assert "of 'answer " in said  # the turn that was scored, readable
    assert "\n" not in said
    assert not Path(run.output).exists()


@pytest.mark.parametrize("policy", ["compact", "chatml"])
def test_the_mean_probability_is_what_the_policy_says(home: Path, policy: str) -> None:
    run = run_file(home, ", leak_check = 0.0001", policy=policy)
    (found,) = checked(run).values()
    assert 0.0001 < found < 0.5  # two steps of cloning have taught it nothing


def world(home: Path, name: str) -> str:
    return f'name = "{home / "odd.py"}:{name}"\nisolation = "inline"\n'


def test_a_world_without_an_expert_is_told_the_answer(home: Path) -> None:
    run = run_file(home, ", leak_check = 1e-9", world(home, "Told"))
    (found,) = checked(run).values()
    assert 0 < found < 1


def test_other_words_than_the_expert_of_the_world_are_refused(home: Path) -> None:
    spelt, said = world(home, "Spelt"), world(home, "Said")
    with pytest.raises(ConfigError, match=r"gives it as .*\{\"text\":\""):
        checked(run_file(home, ", leak_check = 1e-9", spelt, "chatml"))
    assert checked(run_file(home, ", leak_check = 1e-9", spelt))  # compact writes both alike
    with pytest.raises(ConfigError, match=r"asked for as answer, but the expert .* as tell"):
        checked(run_file(home, ", leak_check = 1e-9", said))
    assert checked(run_file(home, ', leak_check = 1e-9, tool = "tell"', said))
    with pytest.raises(ConfigError, match="asked for as plain text, but the expert"):
        checked(run_file(home, ', leak_check = 1e-9, tool = "none"', said))
    with pytest.raises(ConfigError, match="no tool 'reply' to answer with"):
        checked(run_file(home, ', tool = "reply"', said))


def test_a_run_rewards_information_and_resumes(home: Path, tmp_path: Path) -> None:
    run: Any = run_file(home, ", leak_check = 0.0")
    run = run.model_copy(update={"output": str(tmp_path / "a")})
    folder = train(run)
    metrics = list(JsonlReader(folder / "metrics.jsonl"))
    assert len(metrics) == 2
    assert all("reward/gain" in step for step in metrics)
    records = list(RecordReader(folder / "trajectories.jsonl"))
    assert any(any(record.reward.turns) for record in records if record.reward)
    for record in records:
        assert record.reward is not None
        assert len(record.reward.turns) == len(record.trajectory.turns)
        assert record.reward.turns[-1] == 0.0
    again = resume(folder, overrides=["train.steps=3"])  # the check is not made again
    assert len(list(JsonlReader(again / "metrics.jsonl"))) == 3


def test_a_term_of_ones_own_asks_for_answers_too(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from foldgym.rewards.information_gain import AnswerForm, answer_value\n"
        "def last(trajectory, answer_logprobs):\n"
        "    return answer_value(answer_logprobs(trajectory, AnswerForm())[-1].answers) or 0.0\n"
    )
    terms = f'[{{name = "last", use = "{tmp_path / "mine.py"}:last"}}]'
    overrides = [f"reward.terms={terms}", 'algorithm.advantage={use = "grpo"}']
    run = parse(TrainRun, dump(run_file(home)), [*overrides, f'output="{tmp_path / "run"}"'])
    metrics = list(JsonlReader(train(run) / "metrics.jsonl"))
    assert all(0 < step["reward"] < 1 for step in metrics)
