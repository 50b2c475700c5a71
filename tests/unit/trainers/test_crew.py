"""Two processes learn what one learns; a problem of one is a problem of all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import crew_worker
import pytest
import torch
from odd_runs import TRAIN, make_policy, run_file

from foldgym.agents.engines.models import load_policy
from foldgym.cli.main import main
from foldgym.errors import NotFinite
from foldgym.records import JsonlReader
from foldgym.trainers.checkpoint import latest
from foldgym.trainers.crew import Crew
from foldgym.trainers.train import resume, train


def test_shares_are_equally_many_and_every_part_counts_once():
    parts = ["a", "b", "c", "d", "e"]
    shares = [Crew(rank, 3).mine(parts) for rank in range(3)]
    assert shares == [
        [("a", True), ("d", True)],
        [("b", True), ("e", True)],
        [("c", True), ("e", False)],
    ]
    assert Crew(1, 2).mine(["a"]) == [("a", False)]
    assert Crew(1, 2).mine([]) == []
    assert Crew().mine(parts) == [(part, True) for part in parts]


def test_alone_a_problem_is_raised_as_it_is():
    def bad() -> int:
        raise NotFinite("loss nan")

    with pytest.raises(NotFinite, match="loss nan"):
        Crew().attempt(bad)
    assert Crew().attempt(lambda: 3) == 3


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """What two processes made of the cases."""
    folder = tmp_path_factory.mktemp("crew")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [
        subprocess.Popen(
            [sys.executable, crew_worker.__file__, str(folder)],
            env={
                **os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "RANK": str(rank),
                "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    for rank in ranks:
        _, errors = rank.communicate(timeout=200)
        assert rank.returncode == 0, errors[-3000:]
    said = [(folder / f"rank{rank}.txt").read_text() for rank in range(2)]
    assert said[0] == said[1]
    return torch.load(folder / "found.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "near"), [("plain", 1e-5), ("lora", 1e-5), ("shared", 1e-5), ("bf16", 3e-2)]
)
def test_two_processes_learn_what_one_learns(found, case, near):
    torch.set_num_threads(1)
    alone, crew = crew_worker.outcome(case, Crew()), found[case]
    for one, two in zip(alone["metrics"], crew["metrics"], strict=True):
        assert one.keys() == two.keys()
        for name, value in one.items():
            assert two[name] == pytest.approx(value, rel=near, abs=near), name
    assert [m["tokens"] for m in crew["metrics"]] == [28, 28, 28, 4]
    for name, weight in alone["weights"].items():
        assert torch.allclose(weight.float(), crew["weights"][name].float(), atol=near), name
    assert crew["state"]["steps"] == alone["state"]["steps"] == 8
    slots, theirs = (o["state"]["optimizer"]["state"] for o in (alone, crew))
    for number, slot in slots.items():  # whole tensors in the same order: either resumes from both
        for name, value in slot.items():
            assert torch.allclose(value, theirs[number][name], rtol=0.1 if near > 1e-3 else 1e-3,
                                  atol=near), (number, name)  # fmt: skip


@pytest.mark.slow
def test_what_is_not_finite_on_one_rank_stops_all(found):
    assert "loss nan in trajectory t6" in found["problem"]


@pytest.mark.slow
def test_a_run_in_two_processes_and_its_resume(tmp_path):
    make_policy(tmp_path)
    more = ("optim.microbatch_tokens=100", "train.steps=3", "train.checkpoint_every=3")

    def foldgym(*words: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "foldgym", "train", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=250)
        assert done.returncode == code, done.stderr[-3000:]
        return done.stderr

    (tmp_path / "two.toml").write_text(TRAIN.format(here=tmp_path, output=tmp_path / "two"))
    foldgym(str(tmp_path / "two.toml"), *more, "--processes", "2")
    said = foldgym(str(tmp_path / "two.toml"), *more, "--processes", "2", code=2)
    assert said.count("error:") == 1, "rank 0 says it, and nobody waits"
    assert "already holds a run" in said
    foldgym("--resume", str(tmp_path / "two"), "train.steps=4", "--processes=2")
    one = train(run_file(tmp_path, tmp_path / "one", *more))
    resume(one, overrides=["train.steps=4"])
    rows = [list(JsonlReader(tmp_path / n / "metrics.jsonl")) for n in ("one", "two")]
    for alone, crew in zip(*rows, strict=True):
        assert crew["loss"] == pytest.approx(alone["loss"], abs=1e-5)
        assert crew["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-4)
        assert crew["reward"] == alone["reward"]
    models = [load_policy(latest(tmp_path / n)).model for n in ("one", "two")]
    for a, b in zip(*(m.parameters() for m in models), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_one_process_is_not_several(tmp_path, capsys):
    assert main(["train", str(tmp_path / "run.toml"), "--processes", "1"]) == 2
    assert "several processes are at least 2" in capsys.readouterr().err
