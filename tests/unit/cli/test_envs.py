"""`foldgym envs` on registered environments and on a user's file."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from foldgym.cli.main import main
from foldgym.envs.registry import specs

DOUBLING = '''
from foldgym import ToolEnv, tool

class Doubling(ToolEnv):
    max_turns = 3
    experts = ("optimal",)

    def __init__(self, top: int = 50, *, render_mode=None):
        super().__init__(render_mode=render_mode)
        self.top = top

    def setup(self, rng):
        self.number = rng.randint(1, self.top)
        return f"What is twice {self.number}?"

    @tool
    def answer(self, value: int) -> str:
        """Give your answer."""
        self.finish(1.0 if value == 2 * self.number else 0.0)
        return "Thank you."

    def expert(self, style, rng):
        from foldgym.tools import call
        return call("answer", value=2 * self.number)


class Forgetful(Doubling):
    def measure(self):
        return {"score": 0.0}


class Generous(Doubling):
    def grade(self):
        return 1.0
'''


MOODY = """
from foldgym import ToolEnv

class Moody(ToolEnv):
    max_turns = 1
    experts = ("optimal",)

    def setup(self, rng):
        return f"Say {hash('this') % 1000}."

    def respond(self, message):
        self.finish(float(bool(message.text)))
        return "ok"

    def expert(self, style, rng):
        return "anything"
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(DOUBLING)
    return str(path)


def output(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(list(words)) == code, capsys.readouterr().err
    return capsys.readouterr().out


def parsed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    return json.loads(output(capsys, *words, "--json", code=code))


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert "foldgym/GuessNumber-v0" in output(capsys, "envs", "list")
    sheets = parsed(capsys, "envs", "list")
    guess = next(sheet for sheet in sheets if sheet["name"] == "foldgym/GuessNumber-v0")
    assert (guess["splits"], guess["max_turns"]) == (["train", "val", "test"], 12)


def test_show(capsys: pytest.CaptureFixture[str], mine: str) -> None:
    shown = output(capsys, "envs", "show", f"{mine}:Doubling", "--set", "top=1")
    assert "answer <value: integer> - Give your answer." in shown
    assert "[user] What is twice 1?" in shown
    assert "experts: optimal" in shown
    sheet = parsed(capsys, "envs", "show", "foldgym/GuessNumber-v0", "--seed", "3")
    assert [tool["name"] for tool in sheet["tools"]] == ["guess"]
    assert sheet["prompt"][0]["role"] == "user"


def test_check_finds_nothing_in_a_good_environment(
    capsys: pytest.CaptureFixture[str], mine: str
) -> None:
    assert output(capsys, "envs", "check", f"{mine}:Doubling") == f"{mine}:Doubling: ok\n"


def test_check_says_what_is_wrong_and_exits_1(
    capsys: pytest.CaptureFixture[str], mine: str
) -> None:
    words = ("envs", "check", f"{mine}:Forgetful", f"{mine}:Doubling")
    found = parsed(capsys, *words, code=1)
    assert found[f"{mine}:Doubling"] == []
    assert any("success" in each["problem"] for each in found[f"{mine}:Forgetful"])
    assert f"{mine}:Doubling: ok" in output(capsys, *words, code=1)


def test_validate_compares_the_expert_with_chance(
    capsys: pytest.CaptureFixture[str], mine: str
) -> None:
    found = parsed(capsys, "envs", "validate", f"{mine}:Doubling", "--episodes", "8")
    players = {each["player"]: each["score"] for each in found[f"{mine}:Doubling"]["players"]}
    assert (players["optimal"], players["nobody"]) == (1.0, 0.0)
    assert found[f"{mine}:Doubling"]["problems"] == []


def test_validate_exits_1_when_doing_nothing_pays(
    capsys: pytest.CaptureFixture[str], mine: str
) -> None:
    words = ("envs", "validate", f"{mine}:Generous", "--episodes", "4")
    assert "doing nothing succeeds in 100% of the episodes" in output(capsys, *words, code=1)


def test_validate_puts_nobody_beside_the_expert_and_plays_again(
    capsys: pytest.CaptureFixture[str], mine: str
) -> None:
    env = f"{mine}:Doubling"
    words = ("envs", "validate", env, "--episodes", "5")
    assert parsed(capsys, *words)[env]["repeats"] is True
    assert parsed(capsys, *words, "--again", "0")[env]["repeats"] is None
    shown = output(capsys, *words, "--markdown").splitlines()
    assert shown[0] == (
        "| environment | best expert | other experts | random | nobody | turns | repeats |"
    )
    cells = [cell.strip() for cell in shown[2].split("|")][1:-1]
    assert (cells[0], cells[1], cells[2], cells[4]) == (env, "optimal 1.000", "", "0.000")
    assert cells[5:] == ["1.0", "yes"]
    assert output(capsys, *words).splitlines()[0] == (
        "5 episodes of each player: success (score where it differs)"
    )


def test_validate_finds_what_depends_on_the_process(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "moody.py").write_text(MOODY)
    env = f"{tmp_path}/moody.py:Moody"
    found = parsed(capsys, "envs", "validate", env, "--episodes", "4", code=1)
    assert found[env]["repeats"] is False
    assert "other episodes in a new process" in found[env]["problems"][-1]
    shown = output(capsys, "envs", "validate", env, "--episodes", "4", "--again", "0")
    assert "new process" not in shown


def test_validate_all_leaves_out_what_needs_options(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["envs", "validate", "--all", "--set", "rooms=4", "--episodes", "2", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert list(json.loads(out)) == ["foldgym/KeyDoor-v0"]  # no other world has rooms
    assert "foldgym/GuessNumber-v0 is left out: unknown option" in err
    assert main(["envs", "validate", "--all", "foldgym/KeyDoor-v0"]) == 2
    assert "--all names every environment" in capsys.readouterr().err
    assert main(["envs", "validate", "--set", "romms=4"]) == 2
    assert "unknown option" in capsys.readouterr().err.splitlines()[-1]


def standings() -> list[str]:
    page = Path(__file__).parents[3] / "docs" / "environments.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("| foldgym/")]


def test_the_published_standings_are_of_every_world() -> None:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in standings()]
    every = [spec for spec in specs() if spec.name.startswith("foldgym/")]
    named = [spec.name for spec in every if not spec.extra and not spec.sandbox]
    how = "run: foldgym envs validate --all --episodes 200 --markdown"
    shown = [row[0] for row in rows]
    assert [name for name in shown if name in named] == named, how
    assert set(shown) <= {spec.name for spec in every if not spec.sandbox}, how
    for name, best, _, _, nobody, _, repeats in rows:
        assert best.split()[-1] == "1.000", name
        assert nobody == "0.000", name
        assert repeats == "yes", name


@pytest.mark.slow
def test_the_published_standings_are_what_the_command_prints(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["envs", "validate", "--all", "--episodes", "200", "--markdown"]
    optional = [f"| {spec.name} " for spec in specs() if spec.extra]
    lines = output(capsys, *words).splitlines()
    left_out = ("| foldgym/PyDocs", *optional)  # any Python's, and what not everybody has
    shown = [line for line in lines if not line.startswith(left_out)]
    assert shown[2:] == [line for line in standings() if not line.startswith(left_out)]


def test_a_person_plays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, mine: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hello\n:hint\nanswer 2\n"))
    words = ["envs", "play", f"{mine}:Doubling", "--set", "top=1"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "[user] What is twice 1?" in out
    assert "error: there is no tool call" in out
    assert err == "hint: answer 2\n"
    assert "[tool] Thank you.\n(reward 1)" in out
    assert "facts: score = 1.0, success = True, turns = 2, errors = 1" in out


@pytest.mark.parametrize("typed", ["", ":quit\n"])
def test_a_person_may_leave(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    found = parsed(capsys, "envs", "play", "foldgym/GuessNumber-v0")
    assert found["facts"]["success"] is False


def test_a_policy_plays(capsys: pytest.CaptureFixture[str], mine: str) -> None:
    words = ("envs", "play", f"{mine}:Doubling", "--set", "top=1", "--policy", "expert:optimal")
    shown = output(capsys, *words)
    assert '> answer {"value": 2}\n[tool] Thank you.\n(reward 1)' in shown
    assert "The environment said that the episode is over." in shown
    record = parsed(capsys, *words)
    assert (record["schema"], record["stop"], record["facts"]["score"]) == (1, "done", 1.0)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["show", "foldgym/GuesNumber-v0"], ["unknown environment", "'foldgym/GuessNumber-v0'?"]),
        (["show", "nowhere/x.py:X"], ["nowhere/x.py"]),
        (["show", "MINE:Doublin"], ["'Doublin'", "did you mean 'Doubling'?"]),
        (["show", "MINE:Doubling", "--set", "tpo=3"], ["tpo", "did you mean 'top'?"]),
        (["show", "MINE:Doubling", "--set", "top"], ["'top'", "key=value"]),
        (["play", "MINE:Doubling", "--policy", "expert:best"], ["best", "optimal"]),
        (["play", "MINE:Doubling", "--policy", "exprt"], ["unknown policy 'exprt'", "random"]),
        (["check", "MINE:Nothing"], ["Nothing"]),
    ],
)
def test_mistakes_are_one_line_with_the_mend(
    capsys: pytest.CaptureFixture[str], mine: str, words: list[str], parts: list[str]
) -> None:
    assert main(["envs", *(word.replace("MINE", mine) for word in words)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def test_a_users_file_is_loaded_once_for_environments_and_rewards(mine: str) -> None:
    from foldgym.config import resolve
    from foldgym.envs.registry import make

    env = make(f"{mine}:Doubling")
    assert type(env) is resolve("reward", f"{mine}:Doubling", {})


@pytest.mark.browser
def test_an_episode_is_watched_and_its_pictures_saved(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["envs", "play", "foldgym/MiniWoB-v0", "--policy", "expert:optimal"]
    words += ["--set", "task=click-checkboxes", "--seed", "4", "--screenshots", str(tmp_path / "s")]
    said = output(capsys, *words)
    saved = sorted(each.name for each in (tmp_path / "s").iterdir())
    assert saved[:2] == ["000.png", "001.png"]
    assert f"(picture: {tmp_path / 's' / '001.png'})" in said
    assert "success = True" in said
    assert main([*words, "--json"]) == 2
    assert "--screenshots: has no effect with --json" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main([*words[:-1], str(tmp_path / "file")]) == 2
    assert "error:" in capsys.readouterr().err
