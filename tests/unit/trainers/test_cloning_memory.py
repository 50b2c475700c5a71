"""Demonstrations that are played through a memory: what is learned is what is shown later."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from foldgym.config import SftRun, dump, parse
from foldgym.envs.fictional import FictionalSearch
from foldgym.errors import ConfigError
from foldgym.trainers.batch import make_batch
from foldgym.trainers.sft import expert, new_actor, sft
from foldgym.trainers.wiring import worlds
from foldgym.types import Group, Stop, Trajectory

FOLD = """
[memory]
use = "summarise"
max_context = 100
reserve = 26
soft = 0.5
max_tokens = 26
instruction = "note"
title = ""
"""


def run_file(folder: Path, memory: str, world: str = "FictionalChain-v0") -> SftRun:
    return parse(
        SftRun,
        f"""
        output = "{folder / "clone"}"
        [[envs]]
        name = "foldgym/{world}"
        isolation = "inline"
        {memory}
        [model]
        hidden = 32
        layers = 1
        heads = 2
        head_dim = 16
        mlp = 32
        [tokenizer]
        vocab_size = 500
        episodes = 150
        [sft]
        steps = 2
        batch = 8
        """,
    )


def demonstrated(run: SftRun) -> tuple[list[Group], list[Trajectory]]:
    torch.set_num_threads(1)
    mix = worlds(run.envs)
    groups = expert(run, mix, new_actor(run, mix))(1)
    return groups, [trajectory for group in groups for trajectory in group.trajectories]


def test_the_expert_writes_the_notes_and_they_are_trained(tmp_path: Path) -> None:
    run = run_file(tmp_path, FOLD)
    groups, played = demonstrated(run)
    assert len(played) == 8
    for trajectory in played:
        folds = [turn for turn in trajectory.turns if turn.purpose == "fold"]
        assert trajectory.counters["folds"] == len(folds) >= 2
        assert trajectory.facts["success"] is True
        assert len(trajectory.segments) == len(folds) + 1
        assert trajectory.counters["context_peak"] <= 100
        trained = {turn for segment in trajectory.segments for turn in segment.turn_ids}
        assert {fold.index for fold in folds} <= trained
        # the last note names all answers but the newest ones, in order
        answers: list[str] = trajectory.task.answer
        last = folds[-1].message.text.split(" . ")[0].split()
        assert last == answers[: len(last)]
        assert len(last) >= len(answers) - 2
    batch = make_batch(groups)
    assert int((batch.turn_BT >= 0).sum()) == sum(t.trained for t in played)


def test_a_window_shows_the_demonstrations_through_a_window(tmp_path: Path) -> None:
    memory = '[memory]\nuse = "window"\nturns = 2\nmax_context = 100\nreserve = 26'
    _, played = demonstrated(run_file(tmp_path, memory))
    for trajectory in played:
        assert trajectory.facts["success"] is True  # the expert sees behind the curtain
        assert len(trajectory.segments) == len(trajectory.turns) - 2
        assert max(len(segment.token_ids) for segment in trajectory.segments) <= 90


def test_a_full_history_is_demonstrated_until_it_is_full(tmp_path: Path) -> None:
    memory = '[memory]\nuse = "full"\nmax_context = 100\nreserve = 26'
    _, played = demonstrated(run_file(tmp_path, memory))
    assert {trajectory.stop for trajectory in played} == {Stop.MAX_CONTEXT}
    assert all(len(trajectory.segments) == 1 and trajectory.trained for trajectory in played)


def test_a_search_world_folds_to_the_reduced_question(tmp_path: Path) -> None:
    memory = FOLD.replace("soft = 0.5", "soft = 0.3") + "keep_task = false\n"
    _, played = demonstrated(run_file(tmp_path, memory, "FictionalSearch-v0"))
    notes = [
        (trajectory, turn.message.text)
        for trajectory in played
        for turn in trajectory.turns
        if turn.purpose == "fold"
    ]
    assert notes
    env = FictionalSearch()
    for trajectory, note in notes:
        env.reset(options={"task": trajectory.task})
        left = [env.chain.reduced(done) for done in range(env.chain.hops + 1)]
        assert note in left[1:]


def test_a_whole_run_with_a_folding_memory(tmp_path: Path) -> None:
    run = run_file(tmp_path, FOLD)
    folder = sft(run)
    assert (folder / "config.json").is_file()
    assert parse(SftRun, (tmp_path / "clone/run.toml").read_text()).memory == run.memory
    assert "[memory]" not in dump(run_file(tmp_path, ""))


@pytest.mark.parametrize(
    ("memory", "world", "why"),
    [
        ('use = "summarise"', "GuessNumber-v0", "'fold', .* writes notes for nothing"),
        ('use = "deepagent"', "FictionalChain-v0", "'repair', .* writes notes for fold"),
        ('use = "hiagent"', "FictionalChain-v0", "'result'"),
        ('use = "reminder"\ninner = "summarise"', "GuessNumber-v0", "'fold'"),
        ('use = "delethink"\ninner = "summarise"', "GuessNumber-v0", "'fold'"),
        ('use = "window"\nturns = 0', "GuessNumber-v0", "turns >= 1"),
    ],
)
def test_a_world_without_notes_is_refused_at_the_start(
    tmp_path: Path, memory: str, world: str, why: str
) -> None:
    run = run_file(tmp_path, f"[memory]\n{memory}\n", world)
    with pytest.raises(ConfigError, match=why):
        sft(run)
    assert not (tmp_path / "clone").exists()


def test_memories_that_the_expert_need_not_write_for_are_welcome(tmp_path: Path) -> None:
    for memory in ('use = "mem1"', 'use = "hiagent"\nresult = "last"'):
        run = run_file(tmp_path, f"[memory]\n{memory}\n", "GuessNumber-v0")
        assert len(demonstrated(run)[1]) == 8
