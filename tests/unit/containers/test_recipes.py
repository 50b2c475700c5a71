"""Recipes: which are refused, and what their tags depend on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.containers.images import BASE, PYTHON_TESTS, RECIPES, Debian, Recipe, grounded, tag
from foldgym.errors import UserError

LEAF = Recipe(
    "leaf",
    base=PYTHON_TESTS,
    pip=("six==1.17.0",),
    files={"/opt/a.txt": b"one", "/opt/b.txt": b"two"},
    commands=("true", "false || true"),
    environment={"A": "1", "B": "2"},
    user="box",
)


def test_a_tag_is_the_name_and_sixteen_digits() -> None:
    name, _, digits = tag(LEAF).partition(":")
    assert name == "foldgym/leaf"
    assert len(digits) == 16
    assert set(digits) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    "change",
    [
        {"base": BASE},
        {"base": Debian("trixie")},
        {"base": "python:3.12-slim"},
        {"debian": ("gcc",)},
        {"pip": ("six==1.16.0",)},
        {"files": {"/opt/a.txt": b"one", "/opt/b.txt": b"twO"}},
        {"files": {"/opt/a.txt": b"one", "/opt/c.txt": b"two"}},
        {"commands": ("false || true", "true")},
        {"environment": {"A": "1", "B": "3"}},
        {"user": "root"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_goes_in_changes_the_tag(change: dict[str, Any]) -> None:
    assert tag(replace(LEAF, **change)) != tag(LEAF)


def test_what_a_base_holds_changes_the_tag_of_those_upon_it() -> None:
    lower = replace(PYTHON_TESTS, base=replace(BASE, files={"/etc/motd": b"hello\n"}))
    assert tag(replace(LEAF, base=lower)) != tag(LEAF)


def test_order_does_not_matter_where_it_changes_nothing() -> None:
    turned = replace(
        LEAF,
        files=dict(reversed(list(LEAF.files.items()))),
        environment=dict(reversed(list(LEAF.environment.items()))),
    )
    assert tag(turned) == tag(LEAF)
    assert tag(Recipe("a", debian=("git", "patch"))) == tag(Recipe("a", debian=("patch", "git")))


@given(st.dictionaries(st.from_regex(r"\A/[a-z]{1,3}\Z"), st.binary(max_size=4), max_size=4))
def test_two_sets_of_files_share_a_tag_only_if_they_are_equal(files: dict[str, bytes]) -> None:
    other = {"/a": b"", "/b": b"x"}
    same = tag(Recipe("a", files=files)) == tag(Recipe("a", files=other))
    assert same == (files == other)


def test_the_tag_is_the_same_in_another_process() -> None:
    code = "from foldgym.containers.images import *; print(tag(PYTHON_TESTS), tag(BASE))"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed},
        )
        assert done.stdout.split() == [tag(PYTHON_TESTS), tag(BASE)]


def test_debian_packages_sink_to_where_debootstrap_installs_them() -> None:
    low = grounded(replace(LEAF, debian=("gcc", "git")))
    assert low.debian == ()
    middle = low.base
    assert isinstance(middle, Recipe)
    assert middle.name == "python-tests"
    root = middle.base
    assert isinstance(root, Recipe)
    assert root.debian == tuple(sorted({*BASE.debian, "gcc"}))  # git was there
    assert tag(replace(LEAF, debian=("git",))) == tag(LEAF)


def test_debian_packages_stay_on_a_registrys_image() -> None:
    recipe = Recipe("a", base=Recipe("b", base="python:3.12-slim"), debian=("gcc",))
    assert grounded(recipe).debian == ("gcc",)


def test_the_environment_and_the_user_are_those_of_the_bases_then_its_own() -> None:
    recipe = Recipe("a", base=Recipe("b", environment={"X": "1", "Y": "1"}, user="u"))
    assert recipe.runs_as == "u"
    assert replace(recipe, user="v").runs_as == "v"
    assert replace(recipe, environment={"Y": "2"}).variables == {"X": "1", "Y": "2"}
    assert recipe.root == Debian("bookworm")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"name": "A"}, "'A' cannot name an image"),
        ({"name": "a/b"}, "'a/b' cannot name an image"),
        ({"base": ""}, "base='' is no image"),
        ({"debian": ("git --yes",)}, "'git --yes' is not the name of a Debian package"),
        ({"pip": ("pytest",)}, "'pytest' is not pinned"),
        ({"pip": ("a==1 --index-url=x",)}, "is not pinned"),
        ({"files": {"etc/motd": b""}}, "'etc/motd' is no absolute path"),
        ({"files": {"/a/../b": b""}}, "is no absolute path"),
        ({"files": {"/": b""}}, "is no absolute path"),
        ({"environment": {"A B": "1"}}, "A B='1' is no environment variable"),
    ],
)
def test_what_cannot_be_built_is_refused(options: dict[str, Any], complaint: str) -> None:
    made: dict[str, Any] = {"name": "a", **options}
    with pytest.raises(UserError, match=complaint):
        Recipe(**made)


def test_a_suite_is_a_name() -> None:
    with pytest.raises(UserError, match="is no name of a Debian suite"):
        Debian("--arch=x")


def test_the_built_in_recipes_answer_to_their_names_and_are_not_root() -> None:
    for name, recipe in RECIPES.items():
        assert recipe.name == name
        assert recipe.runs_as not in ("", "root", "0")
