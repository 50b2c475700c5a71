"""The entry point: exit codes, one-line errors, and good manners in a shell."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from foldgym import __version__
from foldgym.cli.main import COMMANDS, main

BROKEN = """
from foldgym import ToolEnv

class Broken(ToolEnv):
    def setup(self, rng):
        raise RuntimeError("no luck\\ntoday")
"""


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"foldgym {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"usage: foldgym {name}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["evl"], ["unknown command 'evl'", "did you mean 'eval'?", "doctor"]),
        (["--verbose"], ["--verbose", "foldgym --help"]),
        (["eval"], ["--policy", "foldgym eval --help"]),
        (["envs"], ["COMMAND", "foldgym envs --help"]),
        (["envs", "shw"], ["'shw'", "show"]),
        (["envs", "show"], ["ENV", "foldgym envs show --help"]),
        (["doctor", "--jsn"], ["--jsn", "foldgym doctor --help"]),
    ],
)
def test_misuse_is_one_line_and_exit_code_2(
    words: list[str], parts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    for part in parts:
        assert part in err


def test_a_bug_is_one_line_and_a_saved_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    assert main(["envs", "show", f"{tmp_path}/mine.py:Broken"]) == 70
    err = capsys.readouterr().err
    assert err.startswith("error: RuntimeError: no luck today [")
    assert err.count("\n") == 1
    found = re.search(r"traceback in (\S+)\]", err)
    assert found is not None
    saved = Path(found[1])
    text = saved.read_text()
    saved.unlink()
    assert "Traceback" in text
    assert "mine.py" in text


def run(*words: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "foldgym", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,  # type: ignore[call-overload]
    )


def test_python_dash_m() -> None:
    out, err = run("--version").communicate()
    assert (out, err) == (f"foldgym {__version__}\n", "")


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = run("envs", "list")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), err) == (141, "")


def test_interrupting_is_130_without_a_traceback() -> None:
    # a suite started in the background inherits an ignored SIGINT, which Python then leaves alone
    heard = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = run("envs", "play", "foldgym/GuessNumber-v0", stdin=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, heard)
    assert process.stdin is not None
    process.stdin.write("guess 50\n")
    process.stdin.flush()
    assert process.stderr is not None
    # the prompt for the next move is not shown in a pipe, so wait until the hint is answered
    process.stdin.write(":hint\n")
    process.stdin.flush()
    assert process.stderr.readline().startswith("hint: guess")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert (process.returncode, err) == (130, "interrupted\n")


def test_a_narrow_encoding_does_not_stop_a_run(tmp_path: Path) -> None:
    arrow = BROKEN.replace('raise RuntimeError("no luck\\ntoday")', "return '\\u2192'")
    (tmp_path / "mine.py").write_text(arrow)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    out, err = run("envs", "show", f"{tmp_path}/mine.py:Broken", env=environment).communicate()
    assert "[user] \\u2192" in out
    assert err == ""


def test_help_is_fast_because_nothing_heavy_is_loaded() -> None:
    code = "import sys; from foldgym.cli.main import main; main(['--help'])\n"
    code += "heavy = {'torch', 'pydantic', 'gymnasium', 'rich', 'numpy'} & set(sys.modules)\n"
    code += "sys.exit(str(heavy) if heavy else 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
