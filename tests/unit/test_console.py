"""The console: plain text in a pipe, rich on a terminal, one line per error."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from foldgym import console


def test_a_plain_table_aligns_and_never_wraps(capsys: pytest.CaptureFixture[str]) -> None:
    console.table(
        "title", ("name", "n", "x"), [("a [b]", 5, 0.25), ("long\nname " * 20, 123, None)]
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "title"
    assert [len(lines), lines[1].split()] == [4, ["name", "n", "x"]]
    assert lines[2].startswith("a [b] ")
    assert lines[2].endswith("    5  0.250")
    assert lines[3].endswith("long name  123")


def test_yes_and_no(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("", ("ok",), [(True,), (False,)])
    assert capsys.readouterr().out.split() == ["ok", "yes", "no"]


def test_an_error_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_error("first\n  second [bold]")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: first second [bold]\n")


def test_plain_progress_is_one_line_per_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress(40, "episodes") as advance:
        for _ in range(40):
            advance(1, "r 1")
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert (len(lines), lines[0], lines[-1]) == (10, "episodes 4/40  r 1", "episodes 40/40  r 1")


_SHOW = """
from foldgym import console
console.table("t", ("name",), [("[red]x[/]",)])
console.print_error("no [env]")
with console.progress(2, "episodes") as advance:
    advance()
    advance(1, "[note]")
"""


def terminal(code: str) -> str:
    """What a program prints on a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=follower, stderr=follower, stdin=follower
    )
    os.close(follower)
    found = b""
    while True:
        try:
            block = os.read(leader, 4096)
        except OSError:  # Linux says EIO at the end of a terminal
            break
        if not block:
            break
        found += block
    os.close(leader)
    assert process.wait() == 0
    return found.decode()


def test_rich_on_a_terminal_shows_brackets_as_they_are() -> None:
    shown = terminal(_SHOW)
    assert "━" in shown
    assert "[red]x[/]" in shown
    assert "no [env]" in shown


def test_a_terminal_without_rich_gets_plain_text() -> None:
    shown = terminal("import sys; sys.modules['rich'] = None\n" + _SHOW)
    assert "━" not in shown
    assert "error: no [env]" in shown
    assert "episodes 2/2  [note]" in shown
