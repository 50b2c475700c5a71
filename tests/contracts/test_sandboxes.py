"""Every backend that works here keeps every promise, and the checks notice one that does not."""

from __future__ import annotations

import pytest

from foldgym.containers import BACKENDS, BoxSpec, Result, Sandbox, available, open_box
from foldgym.containers.box import Box
from foldgym.containers.opening import choose
from foldgym.errors import UserError
from foldgym.testing.boxes import CHECKS, ISOLATION, WHOLE, check_sandbox

_MARKS = {"docker": (pytest.mark.docker, pytest.mark.slow)}


@pytest.mark.parametrize(
    "backend", [pytest.param(each, marks=_MARKS.get(each, ())) for each in sorted(BACKENDS)]
)
def test_promises_are_kept(backend: str) -> None:
    try:
        choose(backend, BoxSpec())
    except UserError as problem:
        pytest.skip(str(problem))
    assert check_sandbox(lambda spec: open_box(spec, backend), backend != "process") == []


def test_there_are_the_promised_behaviours() -> None:
    assert len(CHECKS) + len(ISOLATION) + len(WHOLE) >= 41


def test_the_checks_notice_broken_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box that merges its streams, forgets stdin and the cwd, and calls every code 0."""
    if why := available("process"):
        pytest.skip(f"no boxes: {why}")
    honest = Box.exec

    def careless(self: Box, command: str, **options: object) -> Result:
        options.pop("stdin", None)
        options.pop("cwd", None)
        done = honest(self, command, **options)  # type: ignore[arg-type]
        return Result(0, done.stdout + done.stderr, b"", done.end, done.seconds, done.dropped)

    quick = {"streams", "codes", "signals", "cwd", "binary", "file errors", "files"}
    for name in set(CHECKS) - quick:
        monkeypatch.delitem(CHECKS, name)
    for name in set(WHOLE) - {"closed"}:
        monkeypatch.delitem(WHOLE, name)

    def make(spec: BoxSpec) -> Sandbox:
        return open_box(BoxSpec(untrusted=False), "process")

    monkeypatch.setattr(Box, "exec", careless)
    found = {each.check for each in check_sandbox(make, isolates=False)}
    assert found == quick
