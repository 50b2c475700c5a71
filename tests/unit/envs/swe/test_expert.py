"""The scripted expert reaches the gold tree in every style and mode, and never by a lucky path."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_projects import tally
from swe_plans import played

from foldgym.envs.swe.expert import STYLES, edits, plan, target
from foldgym.envs.swe.making.faults import apply, patch, sites
from foldgym.envs.swe.patches import write_patch
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import Entry, Tree, compare
from foldgym.errors import DataError
from foldgym.seeding import generator
from foldgym.types import Message

GOOD = {path: Entry(data) for path, data in tally().files.items()}
SOURCE = tally().files["tally/things.py"]
FAULTS = [
    fault for fault in sites("tally/things.py", SOURCE) if apply(SOURCE, fault.edits) != SOURCE
]


def broken(number: int) -> tuple[SweTask, Tree]:
    """A task with one of the faults, and the tree of its agent."""
    bad = apply(SOURCE, FAULTS[number].edits)
    gold = patch("tally/things.py", bad, SOURCE)
    task = SweTask("t", "tally/tally", "`clamp(5, 0, 3)` gives 5.", gold_patch=gold)
    return task, {**GOOD, "tally/things.py": Entry(bad)}


def names(moves: list[Message]) -> list[str]:
    return [message.tool_calls[0].name for message in moves]


@settings(max_examples=40)
@given(st.integers(0, len(FAULTS) - 1), st.sampled_from(STYLES), st.integers(0, 99))
def test_it_repairs_every_fault_with_the_editor(number: int, style: str, seed: int) -> None:
    task, tree = broken(number)
    moves = plan(task, tree, "editor", style, generator(seed))
    assert played(tree, moves) == GOOD
    assert names(moves)[-1] == "submit"
    assert moves == plan(task, tree, "editor", style, generator(seed))


@pytest.mark.parametrize("number", range(0, len(FAULTS), 12))
def test_it_repairs_with_bash_alone(number: int) -> None:
    task, tree = broken(number)
    for seed in range(2):
        moves = plan(task, tree, "bash", "careful", generator(seed))
        assert set(names(moves)) == {"bash"}
        assert played(tree, moves) == GOOD
        last = json.loads(moves[-1].tool_calls[0].arguments)["command"]
        assert last == "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"


def test_a_careful_player_looks_searches_views_and_verifies() -> None:
    task, tree = broken(next(n for n, f in enumerate(FAULTS) if f.name == "clamp"))
    seen = [names(plan(task, tree, "editor", "careful", generator(seed))) for seed in range(60)]
    assert len({tuple(each) for each in seen}) > 6
    assert sum("undo" in each for each in seen) in range(5, 30)  # a quarter, give or take
    for each in seen:
        assert each.index("bash") < each.index("str_replace")
        assert each[-2:] == ["bash", "submit"]
    direct = plan(task, tree, "editor", "direct", generator(0))
    assert names(direct) == ["view", "str_replace", "submit"]
    search = json.loads(
        plan(task, tree, "bash", "careful", generator(1))[0].tool_calls[0].arguments
    )
    assert search["command"] in ("ls -p", "grep -rnw --include='*.py' clamp . | head -n 20")


def test_it_goes_on_from_what_another_player_left() -> None:
    task, tree = broken(0)
    left = {**tree, "notes.txt": Entry(b"mine\n")}
    left["tally/things.py"] = Entry(b"# look\n" + tree["tally/things.py"].data)
    moves = plan(task, left, "editor", "direct", generator(0), base=tree)
    assert played(left, moves) == {**GOOD, "notes.txt": Entry(b"mine\n")}


def test_files_come_and_go() -> None:
    tree: Tree = {"a.py": Entry(b"x = 1\n"), "old.txt": Entry(b"gone\n"), "none": Entry(b"")}
    wanted: Tree = {"a.py": Entry(b"x = 2\n"), "b/new.txt": Entry(b"here\n"), "none": Entry(b"!\n")}
    task = SweTask("t", "a/a", "p", gold_patch=write_patch(compare(tree, wanted)))
    assert target(task, tree) == wanted
    for mode in ("editor", "bash"):
        assert played(tree, plan(task, tree, mode, "careful", generator(3))) == wanted


def test_replacements_are_of_unique_passages() -> None:
    before = "a\nx\nb\nx\nc\n"
    found = edits("f", before, "a\nx\nb\ny\nc\n")
    assert [(each.old, each.new, each.line) for each in found] == [("b\nx\nc\n", "b\ny\nc\n", 3)]
    assert edits("f", before, before) == []
    with pytest.raises(DataError, match="f is empty"):
        edits("f", "", "a\n")


def test_a_gold_patch_of_another_project_is_refused() -> None:
    task, _ = broken(0)
    with pytest.raises(DataError, match="its gold patch does not apply"):
        plan(replace(task, id="other"), {}, "editor", "careful", generator(0))
