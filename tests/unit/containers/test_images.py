"""Images as they are made: trees and layers, what is refused, and what a killed build leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from foldgym.cli.main import main
from foldgym.containers import BoxSpec, available, open_box
from foldgym.containers.images import (
    BASE,
    PYTHON_TESTS,
    Debian,
    Recipe,
    build,
    find,
    made,
    missing,
    remove,
    store,
    tag,
    tree,
    unavailable,
)
from foldgym.containers.images.furnish import furnish
from foldgym.errors import UnknownName, UserError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test's own."""
    monkeypatch.setenv("FOLDGYM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def plant(recipe: Recipe, **files: str) -> Path:
    """A tree of a few files under the recipe's tag, as if it had been made."""
    with store.locked(tag(recipe)), store.half_made(recipe) as root:
        for name, text in files.items():
            (root / name).write_text(text)
    return store.place(tag(recipe)) / "root"


class Notebook:
    """A workshop that writes down what it is asked, and fails where it is told to."""

    def __init__(self, failing: str = "") -> None:
        self.asked: list[str] = []
        self.variables: dict[str, str] = {}
        self.failing = failing

    def run(
        self, command: str, variables: Any, stdin: bytes = b"", online: bool = False
    ) -> tuple[int, str]:
        self.asked.append(f"{command}{' (online)' * online}{' (input)' * bool(stdin)}")
        self.variables = dict(variables)
        return (3, "it broke\n") if command == self.failing else (0, "")


def test_files_come_before_commands_and_only_package_sources_see_a_network() -> None:
    notebook, told = Notebook(), list[str]()
    recipe = Recipe(
        "a",
        base="registry/image",
        debian=("gcc",),
        files={"/a": b""},
        commands=("one", "two"),
        environment={"TZ": "Mars"},
    )
    furnish(recipe, notebook, told.append)
    assert notebook.asked[0].startswith("apt-get update")
    assert notebook.asked[0].endswith("(online)")
    assert notebook.asked[1:] == ["tar -C / -xf - (input)", "one", "two"]
    assert notebook.variables["TZ"] == "Mars"
    assert told == ["Debian packages", "1 files", "one", "two"]


def test_a_command_that_fails_is_told_with_its_code_and_output() -> None:
    notebook = Notebook(failing="two")
    with pytest.raises(UserError, match="image a: 'two' ended with code 3: it broke"):
        furnish(Recipe("a", commands=("one", "two", "three")), notebook, lambda _: None)
    assert notebook.asked == ["one", "two"]


def test_a_tree_is_there_whole_or_not_at_all(cache: Path) -> None:
    recipe = Recipe("a")
    with pytest.raises(IsADirectoryError), store.half_made(recipe) as root:
        root.write_text("a build that fails half-way")
    assert find(recipe, "bubblewrap") == ""
    assert made_trees() == []
    folder = plant(recipe, file="whole")
    assert find(recipe, "bubblewrap") == str(folder)
    assert [each.image for each in made_trees()] == [str(folder)]
    assert not list(cache.glob("images/.*.half"))


def made_trees() -> list[Any]:
    return [each for each in made() if each.backend == "bubblewrap"]


def test_what_a_killed_build_left_is_cleared_by_the_next(cache: Path) -> None:
    recipe = Recipe("a")
    half = store.place(tag(recipe)).with_name(f".{store.place(tag(recipe)).name}.half")
    (half / "root").mkdir(parents=True)
    (half / "root/stale").write_text("x")
    assert not (plant(recipe, file="whole") / "stale").exists()


def test_only_layers_that_are_missing_are_made(cache: Path) -> None:
    top = Recipe("top", base=Recipe("middle", base=Recipe("low")))
    assert [each.name for each in missing(top, "bubblewrap")] == ["low", "middle", "top"]
    plant(Recipe("low"))
    assert [each.name for each in missing(top, "bubblewrap")] == ["middle", "top"]
    plant(top)
    assert missing(top, "bubblewrap") == []
    assert build(top, "bubblewrap") == find(top, "bubblewrap")


def test_the_lock_lets_one_in_at_a_time_and_leaves_no_file(cache: Path) -> None:
    name, inside, most = tag(Recipe("a")), [0], [0]

    def enter(_: int) -> None:
        with store.locked(name):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.001)
            inside[0] -= 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(enter, range(64)))
    assert most == [1]
    assert list(cache.glob("images/.*")) == []


def test_removal_by_name_and_by_tag(cache: Path) -> None:
    first, second = Recipe("a"), Recipe("a", commands=("true",))
    for recipe in (first, second, Recipe("b")):
        plant(recipe)
    assert [each.tag for each in remove(tag(first), "bubblewrap")] == [tag(first)]
    assert [each.tag for each in remove("a", "bubblewrap")] == [tag(second)]
    assert [each.tag for each in made_trees()] == [tag(Recipe("b"))]
    with pytest.raises(UnknownName, match="unknown image 'a'"):
        remove("a", "bubblewrap")


def test_the_mirror_is_the_one_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDGYM_DEBIAN_MIRROR", "file:/mirror")
    assert tree.mirror("bookworm") == "file:/mirror"
    monkeypatch.delenv("FOLDGYM_DEBIAN_MIRROR")
    assert tree.mirror("no-such-suite") == ""


def test_what_is_missing_is_named_with_what_mends_it(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    hint = "apt-get install debootstrap" if os.geteuid() == 0 else "debootstrap needs root"
    assert hint in unavailable("bubblewrap")
    assert "no Docker engine answers" in unavailable("docker")
    with pytest.raises(UserError, match=hint):
        build(Recipe("a"), "bubblewrap")
    with pytest.raises(UserError, match="no Docker engine answers"):
        build(Recipe("a"), "docker")
    with pytest.raises(UnknownName, match="unknown image backend 'podman'"):
        build(Recipe("a"), "podman")


def test_the_commands_answer_in_one_line(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    plant(BASE)
    assert main(["images", "build", "--backend", "bubblewrap", "--json"]) == 0
    sheet = json.loads(capsys.readouterr().out)
    assert [(each["tag"], each["made"]) for each in sheet] == [(tag(BASE), [])]
    assert main(["images", "list", "--json"]) == 0
    assert [each["tag"] for each in json.loads(capsys.readouterr().out)] == [tag(BASE)]
    assert main(["images", "remove", "base"]) == 0
    assert capsys.readouterr().out == f"removed {tag(BASE)} (bubblewrap)\n"
    for words, complaint in (
        (["build", "bsae"], "unknown recipe 'bsae'; did you mean 'base'?"),
        (["build", "no.py:A"], "there is no file 'no.py'"),
        (["remove", "base"], "unknown image 'base'"),
        (["build", "--backend", "docker"], "no Docker engine answers"),
    ):
        assert main(["images", *words]) == 2
        assert complaint in capsys.readouterr().err


# ---------------------------------------------------------------- made for real


@pytest.fixture
def leaf() -> Iterator[Recipe]:
    """A small image upon the one with pytest; it is gone from both backends afterwards."""
    recipe = Recipe(
        f"test-leaf-{os.getpid()}",
        base=PYTHON_TESTS,
        pip=("iniconfig==2.1.0",),
        files={"/opt/leaf/run": b"#!/bin/bash\necho ran $GREETING\n", "/opt/leaf/data": b"\0\xff"},
        commands=(
            "test $(id -u) = 0; echo made > /opt/leaf/made; rm /opt/leaf/data",
            "! python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 80), 1)'",
        ),
        environment={"GREETING": "$HOME \"and\" 'all'"},
    )
    yield recipe
    with contextlib.suppress(UnknownName):
        remove(tag(recipe))


LOOK = (
    "/opt/leaf/run; cat /opt/leaf/made; ls /opt/leaf; "
    "python3 -m pytest --version; cat /etc/apt/sources.list; ls /opt | grep wheels || true"
)
SEEN = "made\nmade\nrun\npytest 8.4.2\n"


@pytest.mark.docker
@pytest.mark.slow
def test_a_layer_for_docker(leaf: Recipe, engine: Any) -> None:
    assert build(leaf, "docker") == tag(leaf)
    said = engine.containers.run(
        tag(leaf),
        ["bash", "-c", f"id -un; stat -c %U /opt/leaf/run; {LOOK}"],
        network_mode="none",
        remove=True,
    )
    assert said.decode() == "box\nroot\nran $HOME \"and\" 'all'\n" + SEEN
    config = engine.images.get(tag(leaf)).attrs["Config"]
    assert (config["User"], config["Cmd"], config["Entrypoint"] or []) == ("box", ["/bin/bash"], [])
    assert missing(leaf, "docker") == []
    assert not engine.containers.list(all=True, filters={"label": f"foldgym.building={tag(leaf)}"})


@pytest.mark.docker
@pytest.mark.slow
def test_a_layer_that_fails_leaves_no_image_and_no_container(engine: Any) -> None:
    recipe = Recipe(f"test-broken-{os.getpid()}", base=BASE, commands=("true", "echo why; exit 7"))
    with pytest.raises(UserError, match="ended with code 7: why"):
        build(recipe, "docker")
    assert find(recipe, "docker") == ""
    label = f"foldgym.building={tag(recipe)}"
    assert not engine.containers.list(all=True, filters={"label": label})


@pytest.mark.docker
@pytest.mark.slow
def test_a_killed_build_leaves_nothing_that_the_next_does_not_clear(engine: Any) -> None:
    name = f"test-killed-{os.getpid()}"
    code = (
        "from foldgym.containers.images import *\n"
        f"build(Recipe({name!r}, base=BASE, commands=('sleep 600',)), 'docker')"
    )
    recipe = Recipe(name, base=BASE, commands=("sleep 600",))
    process = subprocess.Popen(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"]
    )
    label = {"label": f"foldgym.building={tag(recipe)}"}
    until = time.monotonic() + 60
    while not engine.containers.list(filters=label) and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    from foldgym.containers.images import engine as images_engine

    assert len(engine.containers.list(all=True, filters=label)) == 1
    assert find(recipe, "docker") == ""
    with store.locked(tag(recipe)):  # which the killed one held, and does not any more
        images_engine.clear(engine, tag(recipe))
    assert not engine.containers.list(all=True, filters=label)


@pytest.mark.docker
@pytest.mark.slow
def test_an_image_of_the_engine_as_a_base(leaf: Recipe, base_image: str) -> None:
    """As with --from, where the image is one that a registry gave."""
    recipe = Recipe(leaf.name, base=base_image, commands=("echo hello > /opt/hello",))
    try:
        assert build(recipe, "docker") == tag(recipe)
        assert tag(recipe) != tag(leaf)
    finally:
        remove(tag(recipe), "docker")
    gone = Recipe(leaf.name, base="foldgym/no-such-image:0")
    with pytest.raises(UserError, match="could not be pulled"):
        build(gone, "docker")


@pytest.mark.slow
def test_a_layer_for_bubblewrap(leaf: Recipe, base_tree: str) -> None:
    if why := available("bubblewrap") or tree.missing():
        pytest.skip(why)
    folder = build(leaf, "bubblewrap")
    spec = BoxSpec(image=folder, environment=leaf.variables)
    with open_box(spec, "bubblewrap") as box:
        result = box.exec(LOOK)
        assert result.text == "ran $HOME \"and\" 'all'\n" + SEEN
    assert not Path(base_tree, "opt/leaf").exists()


@pytest.mark.docker
@pytest.mark.slow
def test_a_mirror_that_does_not_answer(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if why := tree.missing():
        pytest.skip(why)
    monkeypatch.setenv("FOLDGYM_DEBIAN_MIRROR", f"file:{cache}/nothing")
    with pytest.raises(UserError, match="FOLDGYM_DEBIAN_MIRROR names another"):
        build(Recipe("a", base=Debian("bookworm")), "bubblewrap")
    assert list(cache.glob("images/*/root")) == []
    assert list(cache.glob("images/.*.half")) == []
