"""Tasks whose project lies in their image: played and graded there, and the image is unchanged."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from images_made import base_image, engine, test_image

from foldgym.containers import BoxSpec, Limits, available, find, open_box
from foldgym.containers.box import Box
from foldgym.containers.docker import Container
from foldgym.containers.sandbox import MB
from foldgym.envs.swe.checking import check_task
from foldgym.envs.swe.grading import grade, start_tree
from foldgym.envs.swe.miniatures import miniatures
from foldgym.envs.swe.places import Place
from foldgym.envs.swe.preparing import unprepared
from foldgym.envs.swe.rows.repository import read_repository, write_repository
from foldgym.envs.swe.task import SweTask, save_tasks
from foldgym.envs.swe.verdict import Grade, Reason
from foldgym.envs.swe.world import Swe
from foldgym.errors import SandboxError, UserError
from foldgym.tools import call

__all__ = ["base_image", "engine", "test_image"]

TAG = "foldgym-test:swe-images"
_MORE = """RUN mkdir -p spans/__pycache__ && echo answer > spans/__pycache__/core.pyc \\
 && touch .empty && mkdir kept && chown -R 1234:1234 README.md kept && chmod 600 README.md
"""


def test_only_docker_works_in_an_image():
    task = replace(miniatures()[0], image="acme/one", workdir="/testbed")
    with pytest.raises(UserError, match="workdir='/testbed': only docker boxes"):
        Place(task, "process")
    if not available("bubblewrap"):
        with pytest.raises(UserError, match="workdir='/testbed': only docker boxes"):
            Place(task, "bubblewrap")


@pytest.mark.parametrize(
    ("workdir", "said"),
    [
        ("testbed", "is no folder of an image"),
        ("/", "is no folder of an image"),
        ("/a/../etc", "is no folder of an image"),
        ("/tmp/x", "has its own /tmp"),
    ],
)
def test_folders_that_cannot_be_worked_in(workdir: str, said: str):
    with pytest.raises(UserError, match=said):
        BoxSpec(workdir=workdir)


@pytest.fixture(scope="module")
def task(test_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SweTask]:
    """A task repository of ours, its image built by plain docker build, read as others' are."""
    import docker

    (own,) = [each for each in miniatures() if each.id == "foldgym__spans-inside"]
    there = {"tests/__init__.py": b"", "tests/test_spans.py": b"import unittest\n"}
    own = replace(own, files={**own.files, **there})
    root = tmp_path_factory.mktemp("repository") / "r"
    (read,) = read_repository(write_repository(root, [own], "me/set", test_image))
    folder = root / "tasks" / own.id
    with (folder / "Dockerfile").open("a") as file:
        file.write(_MORE)
    client = docker.from_env()
    client.images.build(
        path=str(folder), tag=TAG, forcerm=True, network_mode="none", labels={"foldgym": "test"}
    )
    try:
        yield replace(read, image=TAG, split="train", timeout=60.0)
    finally:
        client.images.remove(TAG, force=True)
        client.close()


@pytest.mark.docker
def test_a_box_works_in_its_image_and_leaves_it_alone(task: SweTask):
    spec = BoxSpec(image=TAG, workdir="/testbed")
    with open_box(spec, "docker") as box:
        assert box.exec("id -u; pwd; echo ~").stdout == b"0\n/testbed\n/root\n"
        assert box.exec("stat -c '%u %a' README.md").stdout == b"1234 600\n"
        before = box.snapshot()
        done = box.exec("echo x >> README.md && echo y > /usr/y && rm -rf spans && chown 7 tests")
        assert done.ok, done.text
        assert not box.exec("mount -t tmpfs none /mnt || mknod /dev/x b 8 0 || chroot / true").ok
        assert box.exec("grep -E 'Cap(Eff|Bnd)|NoNew' /proc/self/status").stdout == (
            b"CapEff:\t000000000000000b\nCapBnd:\t000000000000000b\nNoNewPrivs:\t1\n"
        )  # CHOWN 0, DAC_OVERRIDE 1, FOWNER 3
        assert box.exec("ls /sys/class/net").stdout == b"lo\n"
        box.restore(before)
        assert box.exec("stat -c '%u %a' README.md kept").stdout == b"1234 600\n1234 755\n"
        assert box.exec("cat spans/core.py | wc -l; ls .git | wc -l").ok
        assert b"\nx\n" not in box.read("README.md")
    with open_box(spec, "docker") as fresh:
        assert not fresh.exec("ls /usr/y").ok
        assert fresh.exec("git status --porcelain -uno").stdout == b""
    with pytest.raises(UserError, match="has no folder '/nowhere'"):
        open_box(BoxSpec(image=TAG, workdir="/nowhere"), "docker")


@pytest.mark.docker
def test_what_is_written_over_an_image_is_limited(task: SweTask):
    limits = Limits(disk=20 * MB)
    with open_box(BoxSpec(image=TAG, workdir="/testbed", limits=limits), "docker") as box:
        assert isinstance(box, Box)
        assert isinstance(box.keeper, Container)
        layer = box.keeper.layer
        if not layer:
            pytest.skip("this engine does not tell where a box's files lie, or not to us")
        assert box.exec("head -c 5000000 /dev/zero > /tmp/a").ok
        flood = "for i in {1..10}; do head -c 9000000 /dev/zero > /var/$i; sleep 1; done"
        with pytest.raises(SandboxError, match="bytes over its image, and may 20000000"):
            box.exec(flood)
    until = time.monotonic() + 30
    while Path(layer).exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(layer).exists()


@pytest.mark.docker
def test_a_place_is_filled_by_what_differs(task: SweTask):
    with Place(task, "docker") as place:
        tree = place.tree()
        assert "spans/__pycache__/core.pyc" not in tree
        del tree["tests/__init__.py"]
        tree["kept/new.py"] = replace(tree["spans/core.py"], executable=True)
        place.fill(tree)
        assert place.tree() == tree
        assert place.exec("stat -c '%u %a' README.md kept/new.py", 9).stdout == b"1234 600\n0 755\n"
        assert place.exec("find . -name .git -o -name '*.pyc'", 9).stdout == b""
        place.commit()
        assert place.exec("git log --format=%s; git status --porcelain", 9).stdout == b"start\n"


@pytest.mark.docker
def test_it_is_graded_in_its_image(task: SweTask):
    assert unprepared(task)  # its test patch edits files, which the image alone has
    check = check_task(task, "docker", guard=True)
    assert check.problems == ()
    assert (check.gold, check.untouched) == ("resolved", "unresolved")
    wrong = task.gold_patch.replace("max(", "min(")
    assert wrong != task.gold_patch
    assert grade(task, wrong, backend="docker").grade is Grade.UNRESOLVED
    broken = grade(task, "no patch\n", backend="docker")
    assert (broken.grade, broken.reason) == (Grade.INVALID, Reason.PATCH)
    assert "tests/test_spans.py" in start_tree(task, "docker")


@pytest.mark.docker
def test_it_is_played_in_its_image(task: SweTask, tmp_path: Path):
    save_tasks(tmp_path / "tasks.jsonl", [task])
    env = Swe(str(tmp_path / "tasks.jsonl"), backend="docker")
    try:
        env.reset(seed=0)
        looked = env.step(call("bash", command="pwd; git log --format=%s; find . -name '*.pyc'"))
        assert "/testbed\nstart" in looked.observation[-1].text
        assert "pyc" not in looked.observation[-1].text
        env.step(
            call(
                "str_replace",
                path="spans/core.py",
                old="(merged[-1][0], end)",
                new="(merged[-1][0], max(merged[-1][1], end))",
            )
        )
        env.step(call("bash", command="echo 'raise SystemExit' > tests/test_spans.py"))
        held = env.snapshot()
        env.step(call("bash", command="rm -rf spans"))
        env.restore(held)
        step = env.step(call("submit"))
        assert (step.terminated, step.reward) == (True, 1.0)
        facts = env.measure()
        assert facts["resolved"]
        assert facts["set_aside"] == ["tests/test_spans.py"]
    finally:
        env.close()


@pytest.mark.docker
def test_nothing_is_left(task: SweTask, engine: Any, monkeypatch: pytest.MonkeyPatch):
    with tempfile.TemporaryDirectory(prefix="boxes-") as name:
        Path(name).chmod(0o711)
        monkeypatch.setenv("FOLDGYM_STATE", name)
        with Place(task, "docker"):
            assert len(engine.containers.list(filters={"ancestor": TAG})) == 1
        assert engine.containers.list(all=True, filters={"ancestor": TAG}) == []
        assert find() == []
