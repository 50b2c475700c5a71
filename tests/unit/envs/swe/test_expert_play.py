"""The scripted expert in the real world: miniatures are resolved, in both modes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from foldgym.containers import available
from foldgym.envs.swe.world import Swe, Tools
from foldgym.errors import UnknownName
from foldgym.seeding import generator
from foldgym.types import Message, ToolCall

pytestmark = pytest.mark.skipif(available("process") != "", reason="boxes need Linux and bash")

BACKEND = "process" if available("bubblewrap") else "bubblewrap"


@pytest.fixture(scope="module", autouse=True)
def state() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="boxes-") as name, pytest.MonkeyPatch.context() as m:
        Path(name).chmod(0o711)
        m.setenv("FOLDGYM_STATE", name)
        yield


def play(env: Swe, style: str, seed: int) -> None:
    rng = generator(seed)
    for _ in range(30):
        step = env.step(env.expert(style, rng))
        if step.terminated or step.truncated:
            return
    raise AssertionError("the expert does not come to an end")


@pytest.mark.parametrize(
    ("mode", "style"), [("editor", "careful"), ("editor", "direct"), ("bash", "careful")]
)
def test_the_expert_resolves(mode: Tools, style: str) -> None:
    env = Swe(tools=mode, backend=BACKEND, check=False)
    for seed in range(3):
        env.reset(seed=seed)
        play(env, style, seed)
        facts = env.measure()
        assert facts["resolved"], (env.task.id, facts["grade"], facts["detail"])
        assert facts["submitted"]
        assert facts["errors"] == 0
    env.close()


def test_the_expert_goes_on_from_what_another_player_did() -> None:
    env = Swe(backend=BACKEND, check=False)
    env.reset(seed=5)
    first = env.expert("careful", generator(0))
    assert env.expert("careful", generator(1)) == first  # asked again before the turn is played
    env.step(first)
    note = ToolCall("create", '{"path": "notes.txt", "text": "mine"}', id="a")
    env.step(Message("assistant", tool_calls=(note,)))
    env.step(Message("assistant", tool_calls=(note,)))
    play(env, "careful", 0)
    assert env.measure()["resolved"]
    assert "notes.txt" in env.measure()["patch"]
    env.close()


def test_an_unknown_style_is_refused() -> None:
    env = Swe(backend=BACKEND)
    env.reset(seed=0)
    with pytest.raises(UnknownName, match="careful, direct"):
        env.expert("bold", generator(0))
    env.close()
