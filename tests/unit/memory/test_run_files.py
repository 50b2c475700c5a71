"""Every memory can be named in a run file, with its options."""

from __future__ import annotations

from typing import Any

import pytest

from foldgym.config import parse_memory, plug
from foldgym.config.runs import NEVER_FOLDS
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
    "summarise": {"keep": 1, "max_tokens": 32},
    "hiagent": {"result": "last", "max_tokens": 32},
    "deepagent": {"max_folds": 2, "trigger": "marker", "max_tokens": 64, "fallback": "refuse"},
    "delethink": {"chunk": 64, "head": 4, "tail": 28, "max_chunks": 3},
    "reminder": {"every": 2, "text": "Go on."},
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
    assert set(MEMORIES) - NEVER_FOLDS == {"summarise", "deepagent", "delethink", "reminder"}
