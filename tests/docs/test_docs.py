"""Every Python block of the docs runs, in order, in one namespace per page."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from pydantic import BaseModel

from foldgym.config import SftRun, TrainRun

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
ANCHOR = re.compile(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """(rest of the info string, code) of each fenced block in `language`."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(info.strip(), code) for name, info, code in found if name == language]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = ModuleType(f"docs_{page.stem.lower()}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for info, code in blocks(page, "python"):
        exec(compile(code, f"{page.name} {info}", "exec"), module.__dict__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def anchors(page: Path) -> set[str]:
    """The names by which links find the headings of a page, as GitHub makes them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(text))
    return {each.strip().replace(" ", "-") for each in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_headings_find_them(page: Path) -> None:
    for target, name in ANCHOR.findall(page.read_text(encoding="utf-8")):
        there = page.parent / target if target else page
        assert name in anchors(there), f"{target}#{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_toml_blocks_parse(page: Path) -> None:
    for info, code in blocks(page, "toml"):
        assert tomllib.loads(code), info


def keys_of(model: type[BaseModel]) -> Iterator[str]:
    """Every key that a run file may hold, sections included."""
    for name, field in model.model_fields.items():
        yield name
        for inner in (field.annotation, *get_args(field.annotation)):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from keys_of(inner)


@pytest.mark.parametrize("run", [TrainRun, SftRun])
def test_the_training_page_names_every_option(run: type[BaseModel]) -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    missing = sorted(
        {key for key in keys_of(run) if f"`{key}`" not in text and f"[{key}]" not in text}
    )
    assert not missing
