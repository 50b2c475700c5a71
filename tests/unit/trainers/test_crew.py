"""Two processes learn what one learns; a problem of one is a problem of all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import crew_worker
import pytest
import torch
from odd_runs import ODD, make_policy, run_file, text

from foldgym.agents.engines.models import load_policy
from foldgym.cli.main import main
from foldgym.errors import NotFinite
from foldgym.records import JsonlReader
from foldgym.trainers.checkpoint import latest
from foldgym.trainers.crew import Crew
from foldgym.trainers.train import train


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


KILL = """
import os, signal
from pathlib import Path

played = 0


def kill(trajectory):
    global played
    played += 1
    if played == 17:  # in the third step of eight
        beside = Path(f"/proc/{os.getppid()}/task/{os.getppid()}/children").read_text().split()
        os.kill(next(int(each) for each in beside if int(each) != os.getpid()), signal.SIGKILL)
    return odd(trajectory)
"""
MORE = ("optim.microbatch_tokens=100", "train.checkpoint_every=1")


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> tuple[Path, int, str]:
    """The folder of a run of two processes, one of which was killed; exit code and last words."""
    here = tmp_path_factory.mktemp("run")
    make_policy(here, "model.layers=2")
    (here / "kill.py").write_text(ODD + KILL)
    for name in ("killed", "two"):
        (here / f"{name}.toml").write_text(text(here, here / name))
    reward = f'reward.terms=[{{name="odd",use="{here}/kill.py:kill"}}]'
    command = [sys.executable, "-m", "foldgym", "train", f"{here}/killed.toml", *MORE, reward]
    done = subprocess.run(
        [*command, "--processes", "2"], capture_output=True, text=True, timeout=590
    )
    assert [row["step"] for row in JsonlReader(here / "killed/metrics.jsonl")] == [1, 2]
    return here, done.returncode, done.stderr


@pytest.fixture(scope="module")
def found(killed) -> dict:
    """What two processes made of the cases; they also play `two`, and go on with `killed`."""
    here, _, _ = killed
    done = subprocess.run(
        [
            sys.executable, crew_worker.__file__, here,
            "train", f"{here}/two.toml", *MORE, "--", "train", "--resume", f"{here}/killed",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=590,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    said = [(here / f"rank{rank}.txt").read_text() for rank in range(2)]
    assert said[0] == said[1]
    return torch.load(here / "found.pt", weights_only=True)


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
    assert crew["work"] == alone["work"], "who only keeps others company does no work"
    slots, theirs = (o["state"]["optimizer"]["state"] for o in (alone, crew))
    for number, slot in slots.items():  # whole tensors in the same order: either resumes from both
        for name, value in slot.items():
            assert torch.allclose(value, theirs[number][name], rtol=0.1 if near > 1e-3 else 1e-3,
                                  atol=near), (number, name)  # fmt: skip


@pytest.mark.slow
def test_what_is_not_finite_on_one_rank_stops_all(found):
    assert "loss nan in trajectory t6" in found["problem"]


@pytest.mark.slow
def test_what_accelerate_launch_says_about_shards_is_done(found):
    layers = {f"model.model.layers.{n}" for n in range(2)}
    assert found["plain"]["units"] == {"": False, **dict.fromkeys(layers, True)}
    assert found["shared"]["units"] == {"": False, **dict.fromkeys(layers, False)}
    assert found["lora"]["units"] == {"": False}


@pytest.mark.slow
def test_a_killed_process_ends_the_run_with_a_word(killed):
    _, code, said = killed
    assert code == 128 + signal.SIGKILL
    assert "error: process 1 of 2 was killed from outside (SIGKILL)" in said
    assert "bug" not in said


@pytest.mark.slow
def test_who_works_with_one_that_is_gone_says_how_to_go_on(found):
    assert found["lost"] == (
        "another process of this run is gone, and said why if it could; continue with --resume it"
    )


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(killed, found):
    here, _, _ = killed
    one = train(run_file(here, here / "one", *MORE))
    rows = {n: list(JsonlReader(here / n / "metrics.jsonl")) for n in ("one", "two", "killed")}
    assert [row["step"] for row in rows["killed"]] == [1, 2, 3, 4]
    for alone, two, killed_row in zip(*rows.values(), strict=True):
        for name in ("loss", "grad_norm", "entropy"):
            assert two[name] == killed_row[name], name
        assert two["loss"] == pytest.approx(alone["loss"], abs=1e-5)
        assert two["grad_norm"] == pytest.approx(alone["grad_norm"], rel=1e-4)
        assert two["reward"] == alone["reward"]
    folders = (one, here / "two", here / "killed")
    models = [load_policy(latest(folder)).model for folder in folders]
    for alone, two, again in zip(*(m.parameters() for m in models), strict=True):
        assert torch.equal(two, again)
        assert torch.allclose(alone, two, atol=1e-5)


def test_rank_0_says_what_is_wrong_before_it_waits(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/run.toml").touch()
    file = tmp_path / "two.toml"
    file.write_text(text(tmp_path, tmp_path / "out"))
    assert main(["train", str(file)]) == 2
    assert "already holds a run" in capsys.readouterr().err
