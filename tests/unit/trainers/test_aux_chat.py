"""A chat API as `[aux]`: it writes what a memory asks for, and nothing of that is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from chat_server import endpoint, said

from foldgym.agents.engines.models import load_policy
from foldgym.cli.main import main
from foldgym.config import SftRun, TrainRun, dump, parse
from foldgym.errors import ConfigError
from foldgym.records import JsonlReader, RecordReader
from foldgym.trainers.batch import make_batch
from foldgym.trainers.checkpoint import latest
from foldgym.trainers.reading import Reader
from foldgym.trainers.sft import sft
from foldgym.trainers.train import train
from foldgym.types import Group, Request, Reward

NOTE = "so far nothing is known"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("policy") / "sft"
    text = f"""
    output = "{folder}"
    [[envs]]
    name = "foldgym/GuessNumber-v0"
    [model]
    hidden = 32
    layers = 1
    heads = 2
    head_dim = 16
    mlp = 32
    [tokenizer]
    vocab_size = 290
    episodes = 10
    [sft]
    steps = 2
    batch = 2
    warmup = 0
    """
    sft(parse(SftRun, text))
    return folder


def run_file(policy: Path, output: Path, *overrides: str) -> TrainRun:
    text = f"""
    output = "{output}"
    [policy]
    path = "{policy}"
    [aux]
    path = "chat:big"
    [[envs]]
    name = "foldgym/GuessNumber-v0"
    [memory]
    use = "summarise"
    trigger = "turns"
    every = 1
    max_tokens = 40
    by = "aux"
    [rollout]
    max_tokens = 6
    max_turns = 3
    [train]
    steps = 2
    groups = 2
    group_size = 2
    """
    return parse(TrainRun, text, overrides)


def answer(request: dict[str, Any]) -> dict[str, Any]:
    return said(f"{NOTE} at {len(request['messages'])}", reasoning_content="hm")


def test_a_chat_api_writes_notes_that_are_shown_and_not_trained(
    policy: Path, tmp_path: Path
) -> None:
    tape = tmp_path / "tape.jsonl"
    with endpoint(answer) as place:
        recording = (f'aux.chat.base_url="{place.url}"', f'aux.chat.record="{tape}"')
        prices = ("aux.chat.price_input=1.0", "aux.chat.price_output=2.0")
        folder = train(run_file(policy, tmp_path / "run", *recording, *prices))
    asked = len(place.requests)
    assert asked > 8
    assert {request["model"] for request in place.requests} == {"big"}
    assert {request["max_tokens"] for request in place.requests} == {40}
    saved = load_policy(latest(folder))
    records = [r for r in RecordReader(folder / "trajectories.jsonl") if r.notes["step"] == 1]
    shown = 0
    for record in records:
        for segment in record.trajectory.segments:
            text = saved.tokenizer.decode(segment.token_ids)
            trained = [
                i for i, t in zip(segment.token_ids, segment.turn_ids, strict=True) if t >= 0
            ]
            shown += NOTE in text
            assert NOTE not in saved.tokenizer.decode(trained)
            assert "hm" not in text
    assert shown > 4
    first = load_policy(policy / "checkpoints" / "step-000002").model
    groups = [Group(Request("", 0), (r.trajectory,), (Reward(0, 0),)) for r in records]
    batch = make_batch(groups)
    gap = abs(Reader(first).logprobs(batch, 4096) - batch.logprob_BT)[batch.weight_BT > 0]
    assert gap.max() < 1e-4
    *_, last = JsonlReader(folder / "timings.jsonl")
    assert last["aux/requests"] == asked
    assert last["aux/tokens"] == asked * 110
    assert last["aux/cost"] == pytest.approx(asked * (100 + 2 * 10) / 1e6)

    again = train(run_file(policy, tmp_path / "again", f'aux.chat.replay="{tape}"'))
    assert (again / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()
    assert (
        parse(TrainRun, (again / "run.toml").read_text()).aux
        == run_file(policy, tmp_path / "x", f'aux.chat.replay="{tape}"').aux
    )


def test_what_it_says_is_cut_where_the_policy_would_be(policy: Path, tmp_path: Path) -> None:
    with endpoint(lambda request: said("again and " * 200)) as place:
        options = (f'aux.chat.base_url="{place.url}"', "train.steps=1", "memory.max_tokens=7")
        folder = train(run_file(policy, tmp_path / "run", *options))
    saved = load_policy(latest(folder))
    for record in RecordReader(folder / "trajectories.jsonl"):
        for segment in record.trajectory.segments[1:]:
            note = saved.tokenizer.encode("again and " * 200)[:7]
            ids = segment.token_ids
            places = [n for n in range(len(ids)) if ids[n : n + 5] == note[:5]]
            assert len(places) == 1
            assert ids[places[0] : places[0] + 7] == note
            assert ids[places[0] + 7] != saved.tokenizer.encode("again and " * 200)[7]


def test_an_evaluation_asks_whom_the_training_asked(
    policy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with endpoint(answer) as place:
        url = f'aux.chat.base_url="{place.url}"'
        taped = f'aux.chat.record="{tmp_path / "tape.jsonl"}"'
        folder = train(run_file(policy, tmp_path / "run", url, taped, "train.steps=1"))
        before = len(place.requests)
        words = ["eval", "--policy", str(folder), "--env", "foldgym/GuessNumber-v0"]
        assert main([*words, "--episodes", "2"]) == 0
        assert len(place.requests) > before
    capsys.readouterr()


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("aux.device=cuda", "aux.device: has no effect: chat:big runs elsewhere"),
        ("aux.chat.max_context=9", r"aux.chat.max_context: has no effect: \[memory\]"),
        ("aux.chat.protocl=text", "did you mean 'protocol'"),
        ("aux.path=runs/x aux.chat.retries=1", "aux.chat: has no effect: aux.path is no"),
    ],
)
def test_options_without_effect_are_refused(override: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run_file(Path("p"), Path("o"), *override.split())
    assert "chat" not in dump(run_file(Path("p"), Path("o"), "aux.path=runs/x"))
