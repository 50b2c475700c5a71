"""Every memory can be named in a run file, with its options."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from foldgym.config import TrainRun, dump, parse, parse_memory, plug
from foldgym.config.runs import NEVER_FOLDS, STORED, WRAPPERS
from foldgym.errors import ConfigError
from foldgym.memory import MEMORIES

OPTIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "window": {"turns": 2},
    "omit": {"keep": 2},
    "errors": {"marks": ("error:", "Traceback")},
    "mem1": {"instruction": "Keep what matters."},
    "notes": {"window": 10, "keep": 2, "notes": 3},
    "edit": {},
    "reseek": {"context": "hard", "tool": "find"},
    "summarise": {"keep": 1, "max_tokens": 32},
    "hiagent": {"result": "last", "max_tokens": 32},
    "deepagent": {"max_folds": 2, "trigger": "marker", "max_tokens": 64, "fallback": "refuse"},
    "delethink": {"chunk": 64, "head": 4, "tail": 28, "max_chunks": 3},
    "drop_thinking": {},
    "reminder": {"every": 2, "text": "Go on."},
    "cheatsheet": {"max_tokens": 64, "by": "aux", "copy": "trust"},
    "cheatsheet_rs": {"top": 2, "max_tokens": 64, "copy": "refuse"},
    "keys": {"top": 2},
    "vectors": {"top": 2},
    "recursive": {"max_tokens": 64, "instruction": "Sum up."},
}


def made(use: str, **options: Any) -> Any:
    return plug("memory", parse_memory(use, options), MEMORIES, "memory")()


def test_every_memory_has_its_options_here() -> None:
    assert sorted(OPTIONS) == sorted(MEMORIES)


@pytest.mark.parametrize("use", sorted(OPTIONS))
def test_a_memory_gets_the_options_of_its_section(use: str) -> None:
    written = {key: list(v) if isinstance(v, tuple) else v for key, v in OPTIONS[use].items()}
    memory = made(use, **written)
    assert {key: getattr(memory, key) for key in OPTIONS[use]} == OPTIONS[use]


def test_a_wrapper_gets_its_inner_memory_by_name() -> None:
    memory = made("delethink", inner="reminder", options={"inner": "omit", "options": {"keep": 2}})
    assert memory.inner.inner.keep == 2
    with pytest.raises(ValueError, match="the name of one, not 3"):
        made("reminder", inner=3)


@pytest.mark.parametrize(
    ("use", "option", "value"),
    [
        ("hiagent", "result", "first"),
        ("deepagent", "trigger", "turns"),
        ("notes", "window", "many"),
        ("errors", "marks", "error:"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(use: str, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"memory\.{option}: .* is not allowed"):
        made(use, **{option: value})


def test_memories_that_look_at_no_soft_limit_say_so() -> None:
    assert set(MEMORIES) - NEVER_FOLDS - WRAPPERS == {"summarise", "deepagent"}
    assert {name for name in MEMORIES if hasattr(made(name), "inner")} == WRAPPERS
    assert {name for name in MEMORIES if getattr(made(name), "keeps", False)} == STORED


@pytest.mark.parametrize(
    ("memory", "refused"),
    [
        ('use = "keys"', "the memory 'full' never folds"),
        ('use = "keys"\ninner = "summarise"', ""),
        ('use = "reminder"\ninner = "keys"\noptions = {inner = "omit"}', "'omit' never folds"),
        ('use = "mine:Memory"', ""),
    ],
)
def test_the_innermost_memory_decides_about_the_soft_limit(memory: str, refused: str) -> None:
    text = f'output = "x"\n[policy]\npath = "p"\n[[envs]]\nname = "w"\n[memory]\n{memory}\n'
    if not refused:
        assert parse(TrainRun, text + "soft = 0.5").memory.soft == 0.5
        return
    with pytest.raises(ConfigError, match=refused):
        parse(TrainRun, text + "soft = 0.5")


@pytest.mark.parametrize(
    ("memory", "store", "refused"),
    [
        ("full", "max_items = 3", r"store\.max_items: has no effect: memory\.use = 'full' keeps"),
        ("cheatsheet", "max_items = 3", ""),
        ("cheatsheet", "frozen = true", r"store\.frozen: an empty store stays empty"),
        ("cheatsheet", 'frozen = true\npath = "s.json"', ""),
        ("keys", 'frozen = true\npath = "s"\nretire = "unused"', r"store\.retire: has no effect"),
        ("recursive", 'writers = "most"', r"store\.writers: \"most\" is not allowed"),
    ],
)
def test_a_store_stands_only_beside_a_memory_that_keeps_something(
    memory: str, store: str, refused: str
) -> None:
    text = f'output = "x"\n[policy]\npath = "p"\n[[envs]]\nname = "w"\n[memory]\nuse = "{memory}"\n'
    text += f"[store]\n{store}\n"
    if not refused:
        run = parse(TrainRun, text)
        assert parse(TrainRun, dump(run)) == run
        return
    with pytest.raises(ConfigError, match=refused):
        parse(TrainRun, text)


def test_the_page_names_every_memory_and_every_option() -> None:
    page = (Path(__file__).parents[3] / "docs" / "memory.md").read_text(encoding="utf-8")
    options, _, what = page.partition("## What each does")
    rows = {row[0]: row[-1] for row in map(cells, options.splitlines()) if len(row) == 3}
    assert set(rows) == {*MEMORIES, "use"}
    for name, make in MEMORIES.items():
        assert set(re.findall(r"`(\w+)`", rows[name])) == set(inspect.signature(make).parameters)
    rows = {row[0]: row[-1] for row in map(cells, what.splitlines()) if len(row) == 5}
    assert set(rows) == {*MEMORIES, "use"}


def cells(line: str) -> list[str]:
    """The cells of a table's row, the first without its backquotes; none of any other line."""
    if not line.startswith("| "):
        return []
    first, *others = [cell.strip() for cell in line.strip("|").split("|")]
    return [first.strip("`"), *others]
