"""The world: its tools, its two modes, what it measures, forks, and failures that are ours."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foldgym.containers import available
from foldgym.envs.swe.miniatures import miniatures
from foldgym.envs.swe.patches import apply_patch
from foldgym.envs.swe.replies import fenced, shorten
from foldgym.envs.swe.task import save_tasks
from foldgym.envs.swe.trees import base_tree
from foldgym.envs.swe.world import Swe
from foldgym.errors import SandboxError, UnknownName, UserError
from foldgym.tools import call
from foldgym.types import Message

pytestmark = pytest.mark.skipif(
    bool(available("bubblewrap")), reason=f"needs boxes: {available('bubblewrap')}"
)
SPANS = {"instance": "foldgym__spans-inside"}
MARKER = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
REPAIR = "sed -i 's/(merged.-1..0., end)/(merged[-1][0], max(merged[-1][1], end))/' spans/core.py"


@pytest.fixture
def env() -> Iterator[Swe]:
    world = Swe(command_timeout=120.0, output_cap=400)
    world.reset(seed=0, options=SPANS)
    yield world
    world.close()


@pytest.fixture
def bash() -> Iterator[Swe]:
    world = Swe(tools="bash", command_timeout=120.0, output_cap=400)
    world.reset(seed=0, options=SPANS)
    yield world
    world.close()


def said(env: Swe, name: str, **arguments: Any) -> str:
    return env.step(call(name, **arguments)).observation[0].text


def test_the_editor(env: Swe) -> None:
    assert said(env, "view", path=".") == "README.md\nspans/\nspans/__init__.py\nspans/core.py"
    assert said(env, "create", path="a/b.txt", text="one\ntwo\ntwo\n") == "created a/b.txt"
    assert said(env, "view", path="a/b.txt", start=2) == "     2\ttwo\n     3\ttwo"
    again = said(env, "create", path="a/b.txt", text="")
    assert again == "error: a/b.txt is there already; edit it"
    twice = said(env, "str_replace", path="a/b.txt", old="two", new="2")
    assert twice == "error: old is 2 times in a/b.txt, not once: it begins in the lines [2, 3]"
    never = said(env, "str_replace", path="a/b.txt", old="three", new="2")
    assert "old is 0 times" in never
    changed = said(env, "str_replace", path="a/b.txt", old="one\n", new="1\n1\n")
    assert changed.startswith("a/b.txt is changed, lines 1 to 4:\n     1\t1\n     2\t1\n")
    assert "     1\tzero\n" in said(env, "insert", path="a/b.txt", line=0, text="zero")
    assert "the lines 0 to 5" in said(env, "insert", path="a/b.txt", line=6, text="x")
    for _ in range(2):
        assert said(env, "undo", path="a/b.txt") == "a/b.txt is as it was before its last edit"
    assert said(env, "bash", command="cat a/b.txt") == "one\ntwo\ntwo"
    assert said(env, "undo", path="./a/b.txt") == "removed ./a/b.txt, which had been created"
    assert said(env, "undo", path="a/b.txt") == "error: there is no edit of a/b.txt to undo"
    assert "there is no such file" in said(env, "view", path="a/b.txt")
    assert "no ordinary file" in said(env, "view", path="/dev/zero")
    assert "is no path" in said(env, "view", path=" ")
    assert "lines 9 to 10" in said(env, "view", path="README.md", start=9, end=10)
    assert "Read-only file system" in said(env, "create", path="/usr/x", text="x")
    said(env, "bash", command="printf '\\377' > odd; printf 'no end' > open.txt")
    assert said(env, "view", path="odd") == "error: odd is no text in UTF-8"
    assert "     2\tx" in said(env, "insert", path="open.txt", line=1, text="x")
    assert said(env, "bash", command="cat open.txt") == "no end\nx"


def test_commands(env: Swe) -> None:
    assert said(env, "bash", command="echo out; echo err >&2; exit 3") == (
        "out\nerr\n[exit code 3]"
    )
    assert said(env, "bash", command="cd spans; x=1") == "[no output]"
    assert said(env, "bash", command="echo $x; ls") == "\nREADME.md\nspans"
    long = said(env, "bash", command="seq 1000")
    assert long.startswith("1\n2\n")
    assert long.endswith("999\n1000")
    assert "characters left out" in long
    assert len(long) < 460
    assert said(env, "bash", command="a\0b") == "error: a command cannot hold a zero byte"
    assert env.bash("echo \ud800") == "error: the command is no text in UTF-8"
    env.command_timeout = 1.0
    assert said(env, "bash", command="sleep 600").startswith("[killed after 1 seconds")


def test_an_episode_of_repairs(env: Swe) -> None:
    assert env.measure() | {"patch": ""} == env.measure()
    assert (env.measure()["modified"], env.measure()["submitted"]) == (False, False)
    said(env, "bash", command=REPAIR)
    facts = env.measure()
    assert (facts["modified"], facts["submitted"], facts["score"]) == (True, False, 0.0)
    step = env.step(call("submit"))
    assert (step.reward, step.terminated, step.truncated) == (1.0, True, False)
    facts = env.measure()
    assert (facts["resolved"], facts["success"], facts["grade"]) == (True, True, "resolved")
    assert (facts["share"], facts["commands"], facts["set_aside"]) == (1.0, 1, [])
    base = base_tree(env.swe)
    assert base is not None
    assert apply_patch(base, facts["patch"]) == apply_patch(base, env.swe.gold_patch)


def test_what_was_not_submitted_is_graded_where_asked(env: Swe) -> None:
    keen = Swe(grade_unsubmitted=True, max_steps=1)
    keen.reset(seed=0, options=SPANS)
    assert keen.step(call("bash", command=REPAIR)).truncated
    facts = keen.measure()
    assert (facts["score"], facts["resolved"], facts["submitted"]) == (1.0, True, False)
    keen.close()
    env.max_turns = 1
    assert env.step(call("bash", command=REPAIR)).truncated
    assert (env.measure()["score"], env.measure()["modified"]) == (0.0, True)


def test_bash_alone(bash: Swe) -> None:
    assert [each.name for each in bash.tools] == ["bash"]
    assert MARKER in bash.task.prompt[0].text
    table = json.loads(said(bash, "bash", command="echo hi; exit 2"))
    assert table == {"returncode": 2, "output": "hi\n"}
    long = json.loads(said(bash, "bash", command="seq 500"))
    assert set(long) == {"returncode", "output_head", "output_tail", "elided_chars", "warning"}
    assert len(long["output_head"]) == len(long["output_tail"]) == 200
    assert long["elided_chars"] == len("".join(f"{n}\n" for n in range(1, 501))) - 400
    not_yet = bash.step(call("bash", command=f"echo {MARKER}; exit 1"))
    assert not not_yet.terminated
    not_yet = bash.step(call("bash", command=f"echo first; echo {MARKER}"))
    assert not not_yet.terminated
    fence = bash.step(Message("assistant", f"So:\n```bash\n{REPAIR}\n```"))
    assert json.loads(fence.observation[0].text)["returncode"] == 0
    last = bash.step(call("bash", command=f"echo {MARKER} && git add -A && git diff --cached"))
    assert (last.terminated, last.reward) == (True, 1.0)
    assert "diff --git" in last.observation[0].text


def test_three_messages_without_a_command_end_it(bash: Swe) -> None:
    for expected in (False, False, True):
        step = bash.step(Message("assistant", "I would rather talk."))
        assert step.observation[0].text.startswith("error: give exactly one command")
        assert step.truncated is expected
    assert bash.measure()["score"] == 0.0
    assert not bash.measure()["submitted"]


def test_forks(env: Swe) -> None:
    said(env, "create", path="x.txt", text="1\n")
    before = env.snapshot()
    for end in ("2\n", "3\n"):
        env.restore(before)
        assert said(env, "str_replace", path="x.txt", old="1\n", new=end).endswith(end.strip())
        assert said(env, "bash", command="cat x.txt; ls /tmp; touch /tmp/x") == end.strip()
        assert said(env, "undo", path="x.txt") == "x.txt is as it was before its last edit"
    other = Swe(command_timeout=120.0, output_cap=400)
    other.restore(before)
    assert said(other, "bash", command="cat x.txt") == "1"
    env.restore(before)
    env.step(call("submit"))
    env.restore(before)
    assert said(env, "bash", command="cat x.txt") == "1"
    other.close()


def test_a_dead_box_is_our_failure_and_no_score(env: Swe) -> None:
    said(env, "bash", command=REPAIR)
    env.place.close()
    with pytest.raises(SandboxError, match="is gone"):
        said(env, "bash", command="true")
    with pytest.raises(SandboxError, match="is gone"):
        env.step(call("submit"))


def test_tasks_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    save_tasks(path, miniatures())
    world = Swe(tasks=str(path), split="val", git=False)
    assert world.reset(seed=3)[1]["task"] == "foldgym__cache-lifetime"
    assert said(world, "bash", command="ls -a") == ".\n..\nREADME.md\ncache"
    task = world.task
    world.reset(seed=5, options={"task": task})
    assert world.swe.id == task.id
    world.close()


def test_wrong_options(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'editor'"):
        Swe(tools="edit")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="command_timeout must be at least"):
        Swe(command_timeout=0)
    with pytest.raises(UserError, match="cannot read the tasks"):
        Swe(tasks=str(tmp_path / "none.jsonl"))
    world = Swe()
    with pytest.raises(UnknownName, match="did you mean 'foldgym__spans-inside'"):
        world.reset(seed=0, options={"instance": "foldgym__span-inside"})
    save_tasks(tmp_path / "val.jsonl", [each for each in miniatures() if each.split == "val"])
    with pytest.raises(UserError, match="none of 1 tasks belongs to split 'test'"):
        Swe(tasks=str(tmp_path / "val.jsonl"), split="test")


def test_every_split_has_projects_of_its_own() -> None:
    splits = {
        split: {each.repo for each in miniatures() if each.split == split}
        for split in ("train", "val", "test")
    }
    assert [len(each) for each in splits.values()] == [4, 1, 1]
    assert not splits["train"] & splits["val"] & splits["test"]
    for each in miniatures():
        assert each.fail_to_pass
        assert each.pass_to_pass


def test_texts_are_shortened_in_the_middle() -> None:
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 4) == "ab\n[... 3 characters left out ...]\nfg"
    assert fenced("```bash\nls\n```") == "ls"
    assert fenced("```bash\nls\n```\n```bash\nls\n```") is None
