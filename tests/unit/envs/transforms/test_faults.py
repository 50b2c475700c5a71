"""Tools that fail: what is lost, what is spoilt, and how recoveries are counted."""

from __future__ import annotations

import json
from typing import Any

import pytest

import foldgym
from foldgym.envs.transforms.faults import Faults, recovery_rate
from foldgym.errors import UserError
from foldgym.testing.transforms import Bounded
from foldgym.tools import call
from foldgym.types import Message

FICTIONAL, ARITHMETIC = "foldgym/FictionalSearch-v0", "foldgym/Arithmetic-v0"
SURE = Bounded(0, 0, 0)


def made(name: str, **kwargs: Any) -> Any:
    return foldgym.make(name, **kwargs)


def texts(step: Any) -> list[str]:
    return [each.text for each in step.observation]


# ---------------------------------------------------------------- faults


def faulty(kind: Any, p: float = 0.9, sticky: int = 1, **world: Any) -> Any:
    env = Faults(made(FICTIONAL, **world), p=p, kinds=(kind,), sticky=sticky)
    env.reset(seed=0)
    return env


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("error", "error: search failed: service unavailable (503)"),
        ("timeout", "error: search timed out after 30 s without a result"),
    ],
)
def test_lost_calls_never_reach_the_world(kind: str, said: str) -> None:
    env = faulty(kind)
    good = 0
    for turn in range(1, 12):
        step = env.step("search home")
        if step.info.get("faults"):
            assert texts(step) == [said]
            assert step.info["faults"] == [kind]
        else:
            good += 1
        assert env.unwrapped.turn == good
        assert env.measure()["turns"] == turn
    facts = env.measure()
    assert facts["faults"] == 11 - good
    assert facts["errors"] == 0
    assert facts["fault_kinds"] == {kind: 11 - good}


@pytest.mark.parametrize("kind", ["truncated", "garbled"])
def test_spoilt_results_come_from_calls_that_ran(kind: str) -> None:
    env = faulty(kind)
    bare = made(FICTIONAL)
    bare.reset(seed=0)
    (plain,) = texts(bare.step("search home"))
    for _ in range(5):
        step = env.step("search home")
        (said,) = texts(step)
        if not step.info.get("faults"):
            assert said == plain
        elif kind == "truncated":
            half = len(plain) // 2
            assert said == f"{plain[:half]}[cut off: {half} of {len(plain)} characters]"
        else:
            assert len(said) == len(plain)
            assert said != plain
            kept = sum(a == b for a, b in zip(said, plain, strict=True)) / len(plain)
            assert 0.3 < kept < 0.9
    assert env.unwrapped.turn == 5


def test_only_some_calls_of_a_message_fail_and_replies_stay_in_order() -> None:
    env = Faults(made(FICTIONAL, max_turns=50), p=0.5, kinds=("error",))
    env.reset(seed=3)
    calls = tuple(foldgym.ToolCall("search", json.dumps({"query": word}), word) for word in "abcd")
    mixed = 0
    for _ in range(20):
        step = env.step(Message("assistant", tool_calls=calls))
        assert [each.tool_call_id for each in step.observation] == list("abcd")
        failed = [each.text.startswith("error:") for each in step.observation]
        assert sum(failed) == len(step.info.get("faults", ()))
        mixed += any(failed) and not all(failed)
    assert mixed > 10


def test_sticky_faults_last_for_calls_of_the_same_tool() -> None:
    env = Faults(made(FICTIONAL, max_turns=200), p=0.2, kinds=("error",), sticky=3)
    env.reset(seed=1)
    struck = [bool(env.step("search home").info.get("faults")) for _ in range(60)]
    text = "".join("x" if each else "." for each in struck).strip("x").strip(".")
    runs = [len(run) for run in text.split(".") if run]
    assert runs
    assert all(run % 3 == 0 for run in runs)


def test_recoveries_are_counted() -> None:
    env = faulty("error", p=0.6, max_turns=100)
    waiting = recovered = 0
    for _ in range(30):
        if env.step("search home").info.get("faults"):
            waiting += 1
        else:
            recovered, waiting = recovered + waiting, 0
    facts = env.measure()
    assert facts["recovered"] == recovered
    assert facts["faults"] == recovered + waiting
    assert recovered > 3
    assert recovery_rate([facts, {"faults": 0, "recovered": 0}]) == recovered / facts["faults"]
    assert recovery_rate([{"faults": 0, "recovered": 0}]) is None


def test_the_call_that_ends_an_episode_well_has_no_fault() -> None:
    for seed in range(20):
        env: Any = Faults(made(FICTIONAL, hops=1), p=0.9, kinds=("garbled",))
        assert SURE(env, seed)
        facts = env.measure()
        assert facts["faults"] <= 1  # only the search can have been spoilt
        assert facts["faults"] == sum(facts["fault_kinds"].values())


def test_unknown_tools_and_plain_words_meet_no_faults() -> None:
    env = faulty("error", p=0.9)
    for _ in range(5):
        assert "no tool call" in texts(env.step("hello"))[0]
        assert "there is no tool" in texts(env.step(call("nothing")))[0]
    assert env.measure()["faults"] == 0
    assert env.measure()["errors"] == 10


def test_more_faults_strike_wherever_fewer_do() -> None:
    def struck(p: float) -> list[bool]:
        env = Faults(made(FICTIONAL, max_turns=500), p=p, kinds=("error",))
        env.reset(seed=0)
        return [bool(env.step("search x").info.get("faults")) for _ in range(300)]

    few, many = struck(0.1), struck(0.4)
    assert all(b for a, b in zip(few, many, strict=True) if a)
    assert 15 < sum(few) < 50  # 30, standard deviation 5.2
    assert 85 < sum(many) < 155  # 120, standard deviation 8.5


def test_faults_refuse() -> None:
    for options, said in (
        ({"p": 1.0}, "p must be from 0 to 0.9, not 1.0"),
        ({"kinds": ("fire",)}, "a kind of fault is one of"),
        ({"kinds": ()}, "need a kind"),
        ({"sticky": 0}, "sticky from 1 to 20"),
    ):
        with pytest.raises(UserError, match=said):
            Faults(made(FICTIONAL), **options)  # type: ignore[arg-type]
