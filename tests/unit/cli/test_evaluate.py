"""`foldgym eval` and `foldgym compare` with scripted players."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foldgym.cli.main import main
from foldgym.records import RecordReader

GUESS = "foldgym/GuessNumber-v0"
SUM = "foldgym/Arithmetic-v0"

FRAIL = """
from foldgym import ToolEnv, tool

class Frail(ToolEnv):
    max_turns = 2

    def setup(self, rng):
        if rng.random() < 0.3:
            raise RuntimeError("not today")
        return "Say yes."

    def respond(self, message):
        self.finish(float(message.text == "yes"))
        return "ok"
"""


def evaluated(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    assert main([*words, "--json"]) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_eval_of_an_expert(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "--policy", "expert:optimal", "--env", GUESS, SUM, "--episodes", "12"]
    report = evaluated(capsys, *words)
    assert list(report["envs"]) == [GUESS, SUM]
    assert {env["success"]["mean"] for env in report["envs"].values()} == {1.0}
    assert report["envs"][GUESS]["stops"] == {"done": 12}
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert f"expert:optimal on {SUM}: 12 tasks, intervals at 95 %" in shown
    assert "success           1.000 [0.758, 1.000] (wilson)" in shown


def test_eval_with_samples_reports_pass_k_and_repeats(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "--policy", "expert:hasty", "--env", SUM, "--episodes", "10", "--samples", "4"]
    first, second = evaluated(capsys, *words), evaluated(capsys, *words)
    for report in (first, second):
        report["envs"][SUM].pop("seconds")
    assert first == second
    found = first["envs"][SUM]
    assert list(found["pass@k"]) == ["1", "2", "4"]
    assert found["pass^k"]["4"] <= found["pass^k"]["1"] == found["pass@k"]["1"]
    assert found["pass@k"]["1"] < found["pass@k"]["4"]
    other = evaluated(capsys, *words, "--seed", "1")["envs"][SUM]
    assert set(other["outcomes"]).isdisjoint(found["outcomes"])


def test_eval_plays_the_held_out_split(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    episodes = tmp_path / "t.jsonl"
    words = ["eval", "--policy", "expert:optimal", "--env", GUESS, "--episodes", "30"]
    last: dict[str, set[str]] = {}
    for split in ("test", "train"):
        path = tmp_path / f"{split}.jsonl"
        given = [] if split == "test" else ["--split", "train"]
        evaluated(capsys, *words, *given, "--trajectories", str(path))
        last[split] = {
            record.trajectory.turns[-1].message.tool_calls[0].arguments
            for record in RecordReader(path)
        }
    assert last["test"].isdisjoint(last["train"])
    assert not episodes.exists()


def test_failures_are_kept_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FRAIL)
    env = f"{tmp_path}/mine.py:Frail"
    report = evaluated(capsys, "eval", "--policy", "silent", "--env", env, "--episodes", "20")
    found = report["envs"][env]
    assert found["lost"] > 0
    assert found["episodes"] + found["lost"] == 20
    assert found["success"]["n"] == found["episodes"]
    assert found["errors"] == {"EnvCrashed": found["failures"]}
    assert found["failures"] == 2 * found["lost"]  # each is played once more


def test_json_goes_to_a_file_beside_the_text(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "deep" / "report.json"
    words = ["eval", "--policy", "silent", "--env", GUESS, "--episodes", "3", "--json", str(path)]
    assert main(words) == 0
    assert "success" in capsys.readouterr().out
    assert json.loads(path.read_text())["envs"][GUESS]["success"]["mean"] == 0.0
    assert [each.name for each in path.parent.iterdir()] == ["report.json"]


def test_compare_exits_1_when_b_is_worse(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--env", GUESS, "--episodes", "20"]
    better = evaluated(capsys, "compare", "random", "expert:optimal", *words)
    assert better["envs"][GUESS]["significant"]
    assert better["envs"][GUESS]["low"] > 0
    worse = evaluated(capsys, "compare", "expert:optimal", "random", *words, code=1)
    assert worse["envs"][GUESS]["mean"] == -better["envs"][GUESS]["mean"]
    same = evaluated(capsys, "compare", "random", "random", *words)
    assert (same["a"], same["b"]) == ("random #1", "random #2")
    assert same["envs"][GUESS]["mean"] == 0.0
    assert main(["compare", "expert:optimal", "random", *words]) == 1
    shown = capsys.readouterr().out
    assert "B is worse" in shown
    assert "interval by agresti-min, McNemar exact p =" in shown


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--policy", "silent", "--env", "foldgym/Gues-v0"], ["unknown environment"]),
        (["--policy", "slent", "--env", GUESS], ["unknown policy", "mean 'silent'?"]),
        (["--policy", "runs/none", "--env", GUESS], ["'runs/none'", "checkpoint folder"]),
        (["--policy", "expert:sloppy", "--env", GUESS], ["'sloppy'", "hasty, optimal"]),
        (["--policy", "silent", "--env", GUESS, "--split", "tset"], ["'tset'", "'test'"]),
        (["--policy", "silent", "--env", GUESS, "--episodes", "0"], ["0 is too small"]),
        (["--policy", "silent", "--env", GUESS, "--samples", "many"], ["'many' is no whole"]),
        (["--policy", "silent", "--env", GUESS, "--temperature", "-1"], ["-1", "0 (greedy)"]),
        (["--policy", "silent", "--env", GUESS, "--memory", "fll"], ["'fll'", "'full'"]),
        (["--policy", "silent", "--env", GUESS, "--memory", "window", "turn=2"], ["'turns'"]),
        (["--policy", "silent", "--env", GUESS, "--memory", "window", "turns=0"], ["turns >= 1"]),
        (["--policy", "silent", "--env", GUESS, "--json", "x.toml"], ["x.toml", "--json last"]),
        (["--policy", "silent", "--env", GUESS, "--json", "/dev/null/x/y"], ["cannot write"]),
    ],
)  # fmt: skip
def test_mistakes(capsys: pytest.CaptureFixture[str], words: list[str], parts: list[str]) -> None:
    assert main(["eval", "--episodes", "2", *words]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    for part in parts:
        assert part in error


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    words = ["eval", "--policy", "silent", "--env", GUESS, "--episodes", "2"]
    assert main([*words, "--trajectories", "/dev/full"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: cannot write /dev/full: No space left on device")


def test_a_checkpoint_without_torch_names_the_extra(tmp_path: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from foldgym.cli.main import main\n"
    code += f"sys.exit(main(['eval', '--policy', {str(tmp_path)!r}, '--env', {GUESS!r}]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: playing the checkpoint")
    assert "pip install 'foldgym[train]'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_scripted_players_need_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; from foldgym.cli.main import main\n"
    code += f"sys.exit(main(['eval', '--policy', 'silent', '--env', {GUESS!r}, '--episodes', '2']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_empty_checkpoint_folder_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["eval", "--policy", str(tmp_path), "--env", GUESS]) == 2
    assert "holds no config.json" in capsys.readouterr().err
