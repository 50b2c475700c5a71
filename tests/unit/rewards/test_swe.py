"""Rewards of software tasks: levels and gates, similarity of patches, recovery."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from foldgym.errors import ConfigError, RewardError
from foldgym.rewards import REWARDS, Rubric, Term
from foldgym.rewards.patch import diff_text, patch_files, patch_similarity, search_replace_patch
from foldgym.rewards.swe import (
    g_ra,
    recovery,
    swe_format,
    swe_outcome,
    swe_rl,
    swe_stages,
    swe_tools,
)
from foldgym.types import Message, Stop, Task, ToolCall, Trajectory, Turn

PATCH = "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a\n+b\n"
OTHER = PATCH.replace("x.py", "y.py")
NOTHING = {"submitted": False, "modified": False, "resolved": False, "partial": False, "patch": ""}


def played(*replies: str, problem: str = "", **facts: Any) -> Trajectory:
    """One turn per reply; an empty one answers a message without a call."""
    turns = tuple(
        Turn(
            index,
            Message("assistant", tool_calls=(ToolCall("bash"),) if reply else ()),
            (Message("tool", reply),),
            problem="" if reply else problem,
        )
        for index, reply in enumerate(replies)
    )
    task = Task("t", (Message("user", "?"),), PATCH)
    return Trajectory("t", "swe", task, 0, turns, (), Stop.DONE, {**NOTHING, **facts})


@pytest.mark.parametrize(
    ("facts", "value"),
    [
        ({}, -1.0),
        ({"modified": True}, -1.0),
        ({"submitted": True}, -0.5),
        ({"submitted": True, "modified": True}, 0.0),
        ({"submitted": True, "modified": True, "partial": True}, 0.25),
        ({"submitted": True, "modified": True, "grade": "invalid"}, -0.25),
        ({"submitted": True, "modified": True, "resolved": True}, 1.0),
    ],
)
def test_outcomes(facts: dict[str, Any], value: float) -> None:
    assert swe_outcome(played(**facts), partial=0.25, invalid=-0.25) == value


def test_levels_of_the_way() -> None:
    episode = played("done", "error: no", "", "[exit code 1]", problem="unreadable")
    assert swe_format(episode) == [0.1, 0.1, -0.1, 0.1]
    assert swe_tools(episode) == [0.1, -0.1, 0.0, 0.1]
    assert swe_stages(played(modified=True, submitted=True)) == pytest.approx(0.2)
    assert swe_stages(played(modified=True), modified=0.3) == 0.3


def test_gates() -> None:
    """By hand: outcome -0.5 with the threshold -0.5 is closed; 0 opens the stages, 0.2 the rest."""
    strict = partial(g_ra, thresholds=(-0.5, 0.1, -1.0))
    empty = played("done", submitted=True)
    assert strict(empty) == -0.5
    tried = played("done", "error: no", submitted=True, modified=True)
    assert strict(tried) == pytest.approx(0.0 + 0.2 + 0.1 + 0.0)
    closed = partial(g_ra, thresholds=(-0.5, 0.2, -1.0))
    assert closed(tried) == pytest.approx(0.2)  # 0.2 is not above 0.2
    assert g_ra(empty, thresholds=(9.0, 9.0, 9.0), direct=True) == pytest.approx(
        -0.5 + 0.1 + 0.1 + 0.1
    )
    with pytest.raises(ValueError, match="4 levels need 3 thresholds"):
        g_ra(empty, thresholds=(0.0,))


def test_a_closed_gate_hides_whatever_is_behind_it() -> None:
    few, many = played("error: no"), played(*["done"] * 9, modified=True)
    strict = partial(g_ra, thresholds=(-0.5, 0.0, 0.0))
    assert strict(few) == strict(many) == -1.0
    terms = (
        Term("outcome", swe_outcome),
        Term("format", swe_format, gate="outcome>-0.5"),
    )
    assert Rubric(terms).score(many).total == -1.0
    open_ = played("done", "done", submitted=True, modified=True)
    assert Rubric(terms).score(open_).turns == (0.1, 0.1)


def test_similarity_of_patches() -> None:
    done: dict[str, Any] = {"submitted": True, "modified": True}
    assert swe_rl(played(**done, patch=PATCH)) == 1.0
    assert swe_rl(played(**done, patch=PATCH + OTHER)) == 0.5
    assert swe_rl(played(**done, patch=OTHER)) == 0.0
    assert swe_rl(played(submitted=True)) == -1.0
    assert swe_rl(played(modified=True, patch=PATCH)) == -1.0
    assert swe_rl(played(**done, patch=PATCH, patch_whole=False)) == -1.0
    assert patch_files(PATCH + OTHER) == {
        "x.py": "@@ -1 +1 @@\n-a\n+b\n",
        "y.py": "@@ -1 +1 @@\n-a\n+b\n",
    }


CONTEXT = {"x.py": "one\ntwo\none\n", "y.py": "y\n"}


def answer(path: str, search: str, replace: str, thought: str = "well") -> str:
    block = f"### {path}\n<<<<<<< SEARCH\n{search}\n=======\n{replace}\n>>>>>>> REPLACE"
    return f"<think>{thought}</think>\n<solution>\n```python\n{block}\n```\n</solution>"


def test_search_and_replace() -> None:
    found = search_replace_patch(answer("x.py", "one", "1"), CONTEXT)
    assert found is not None
    assert found == {"x.py": diff_text("one\ntwo\none\n", "1\ntwo\n1\n")}
    assert found["x.py"].splitlines()[1:] == ["-one", "+1", " two", "-one", "+1"]
    assert patch_similarity(found, found) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        "no tags at all",
        answer("x.py", "one", "1", thought=" "),
        answer("x.py", "one", "1") + "<think>again</think>",
        answer("x.py", "one", "one"),
        answer("x.py", "ne", "1"),
        answer("z.py", "one", "1"),
        "<think>well</think><solution>no block</solution>",
        "<solution>first</solution><think>then</think>",
    ],
)
def test_format_errors(text: str) -> None:
    assert search_replace_patch(text, CONTEXT) is None
    assert patch_similarity({}, {}, format_error=True) == -1.0


def test_recovery() -> None:
    episode = played("error: no", "fine", "x\n[exit code 2]", "", "fine", "fine")
    assert recovery(episode) == [0, 1, 0, 0, 1, 0]
    assert recovery(episode, bonus=0.5, most=1) == [0, 0.5, 0, 0, 0, 0]
    json = played('{"returncode": 1, "output": ""}', '{"returncode": 0, "output": ""}')
    assert recovery(json) == [0, 1]


def test_other_worlds_are_told() -> None:
    bare = Trajectory("t", "w", Task("t", ()), 0, (), (), Stop.DONE, {"score": 1.0})
    with pytest.raises(RewardError, match="measured no 'submitted'"):
        Rubric([Term("o", REWARDS["swe_outcome"])]).score(bare)


def test_thresholds_have_no_default() -> None:
    from foldgym.config import bind

    with pytest.raises(ConfigError, match="thresholds: is required"):
        bind("reward", g_ra, {}, "reward.terms.0")
    with pytest.raises(ConfigError, match="is not allowed"):
        bind("reward", g_ra, {"thresholds": "low"}, "reward.terms.0")
