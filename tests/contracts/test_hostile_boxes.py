"""Hostile scripts, run as a model's commands: none reaches the host, and the box serves on or says
that it is gone."""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hostile_scripts import ATTACKS, Attack

from foldgym.containers import (
    BACKENDS,
    BoxSpec,
    Limits,
    Result,
    Sandbox,
    Snapshot,
    available,
    find,
    open_box,
    pack,
)
from foldgym.containers.channel import Running
from foldgym.containers.processes import started
from foldgym.containers.sandbox import MB
from foldgym.errors import SandboxError

ISOLATING = [
    pytest.param(name, marks=[pytest.mark.docker] if name == "docker" else [])
    for name in BACKENDS
    if name != "process"
]
SPEC = BoxSpec(
    files=pack({"README": b"hello\n"}),
    limits=Limits(memory=150 * MB, disk=30 * MB, file=20 * MB, pids=48),
    run="hostile",
)
TOKEN = "the-host's-own-secret-5081"


@dataclass
class Host:
    """What is planted on this machine, and must be as it was afterwards."""

    folder: Path
    victim: subprocess.Popen[bytes]
    tcp: socket.socket
    udp: socket.socket
    unix: socket.socket
    abstract: socket.socket
    other: Path = Path("/nonexistent")

    def names(self) -> dict[str, str]:
        """What the scripts are told, which no model would know."""
        return {
            "secret": str(self.folder / "secret"),
            "home": str(Path.home()),
            "repository": str(Path(__file__).parents[2]),
            "state": str(self.other.parent),
            "other": str(self.other),
            "victim": str(self.victim.pid),
            "tcp": str(self.tcp.getsockname()[1]),
            "udp": str(self.udp.getsockname()[1]),
            "address": _address(),
            "unix": str(self.unix.getsockname()),
            "abstract": self.abstract.getsockname()[1:].decode(),
        }

    def touched(self) -> list[str]:
        """What a script has done to this machine; asking forgets it."""
        problems: list[str] = []
        for name in ("tcp", "unix", "abstract"):
            try:
                getattr(self, name).accept()[0].close()
                problems.append(f"connected to {name}")
            except BlockingIOError:
                pass
        try:
            self.udp.recv(100)
            problems.append("sent to udp")
        except BlockingIOError:
            pass
        if self.victim.poll() is not None:
            problems.append("killed the victim")
        if sorted(each.name for each in self.folder.iterdir()) != ["secret", "socket"]:
            problems.append("wrote beside the secret")
        if (self.folder / "secret").read_text() != TOKEN:
            problems.append("changed the secret")
        return problems


def _address() -> str:
    """An address of this machine that is not the loopback's, if there is one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.2"


def _listen(family: int, kind: int, where: object) -> socket.socket:
    sock = socket.socket(family, kind)
    sock.bind(where)  # type: ignore[arg-type]
    if kind == socket.SOCK_STREAM:
        sock.listen(8)
    sock.setblocking(False)
    return sock


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="host-")))
        folder.chmod(0o755)  # only isolation keeps anybody from it
        (folder / "secret").write_text(TOKEN)
        victim = subprocess.Popen(
            [sys.executable, "-IS", "-c", "import time; time.sleep(600)"],
            env={"SECRET": TOKEN},
            start_new_session=True,
        )
        stack.callback(victim.wait)
        stack.callback(victim.kill)
        unix = _listen(socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        abstract = _listen(socket.AF_UNIX, socket.SOCK_STREAM, f"\0foldgym-test-{os.getpid()}")
        tcp = _listen(socket.AF_INET, socket.SOCK_STREAM, ("0.0.0.0", 0))
        udp = _listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        for sock in (unix, abstract, tcp, udp):
            stack.enter_context(sock)
        yield Host(folder, victim, tcp, udp, unix, abstract)


class Boxes:
    """A box for one attack after another, a new one when one is gone, and a neighbour."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self.neighbour = self.open()
        self.neighbour.write("neighbour", TOKEN.encode())
        self.box = self.open()

    def open(self) -> Sandbox:
        return open_box(SPEC, self.backend)

    def clean(self) -> Sandbox:
        """The box as at its start. A box that is gone is replaced; any other error is a defect."""
        try:
            self.box.restore(SPEC.files)
        except SandboxError:
            self.box.close()
            self.box = self.open()
        return self.box

    def close(self) -> None:
        self.box.close()
        self.neighbour.close()


@pytest.fixture(scope="module")
def boxes(request: pytest.FixtureRequest, host: Host) -> Iterator[Boxes]:
    if why := available(request.param):
        pytest.skip(f"no {request.param} boxes: {why}")
    opened = Boxes(request.param)
    names = {opened.box.id, opened.neighbour.id}
    host.other = next(each.folder for each in find() if each.label.id == opened.neighbour.id)
    yield opened
    inside = {p for each in find() if each.label.id in names for p in each.processes}
    opened.close()
    assert not [each for each in find() if each.label.id in names]
    assert not [each for each in inside if started(each)]


def _run(box: Sandbox, attack: Attack, host: Host) -> Result | None:
    script = attack.script.format(**host.names())
    try:
        return box.exec(script, timeout=attack.timeout, cap=100_000)
    except SandboxError:
        return None


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
@pytest.mark.parametrize("boxes", ISOLATING, indirect=True)
def test_the_host_is_not_reached(boxes: Boxes, host: Host, attack: Attack) -> None:
    box = boxes.clean()
    clock = time.time() - time.monotonic()
    name = socket.gethostname()
    result = _run(box, attack, host)
    assert host.touched() == []
    assert socket.gethostname() == name
    assert abs(time.time() - time.monotonic() - clock) < 60  # it is set back by years
    if result is not None:
        assert TOKEN not in result.text
        assert b"REACHED" not in result.stdout, result
        assert len(result.stdout) + len(result.stderr) < 201_000
        assert re.search(attack.shows, result.text), result
        if attack.name in ("writing into the channel", "forging its own end"):
            assert result.code == {"w": 3, "f": 9}[attack.name[0]]
        assert box.exec("echo on; exit 5", timeout=60).code == 5
    assert boxes.neighbour.read("neighbour") == TOKEN.encode()
    fresh = boxes.clean()
    assert fresh.exec("ls -A; cat README", timeout=60).stdout == b"README\nhello\n"
    others = "for p in /proc/[0-9]*; do [ ${p#/proc/} = 1 ] || echo $p; done"
    alive = fresh.exec(others).stdout.split()
    assert len(alive) <= 3, alive  # the command's own shells


@pytest.mark.parametrize("boxes", ISOLATING, indirect=True)
def test_no_command_begins_before_its_pipes_have_lost_their_names(
    boxes: Boxes, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long our side takes to remove them."""
    [attack] = [each for each in ATTACKS if each.name == "writing into the channel"]
    wait = Running.wait

    def late(self: Running, *more: Any) -> bool:
        if not self.status:
            time.sleep(0.3)
        return wait(self, *more)

    box = boxes.clean()
    monkeypatch.setattr(Running, "wait", late)
    result = _run(box, attack, host)
    assert result is not None
    assert (b"REACHED" in result.stdout, result.code) == (False, 3)


@pytest.mark.parametrize("attack", [a for a in ATTACKS if a.control], ids=lambda a: a.name)
def test_the_scripts_do_reach_a_host_that_is_not_kept_from_them(host: Host, attack: Attack) -> None:
    if why := available("process"):
        pytest.skip(f"no boxes: {why}")
    with open_box(BoxSpec(untrusted=False, run="hostile"), "process") as box:
        result = _run(box, attack, host)
    assert result is not None
    assert TOKEN in result.text or b"REACHED" in result.stdout or host.touched()
    host.touched()


# ---------------------------------------------------------------- what our side reads


@pytest.mark.parametrize("boxes", ISOLATING, indirect=True)
def test_links_are_followed_inside_the_box_only(boxes: Boxes, host: Host) -> None:
    box, secret = boxes.clean(), str(host.folder / "secret")
    assert box.exec(f"ln -s {secret} a; ln -s / root; ln -s {host.folder} b").ok
    for path in ("a", f"root{secret}", "b/secret", f"../../..{secret}", secret):
        with pytest.raises((FileNotFoundError, PermissionError)):
            box.read(path)
    with pytest.raises((FileNotFoundError, PermissionError, FileExistsError)):
        box.write("b/new", b"x")
    kept = box.snapshot()
    assert TOKEN.encode() not in kept.archive
    box.restore(kept)
    assert box.exec("readlink a").text == f"{secret}\n"
    with boxes.open() as other:
        other.restore(kept)
        assert other.exec("cat a b/secret").text.count(TOKEN) == 0
    with open_box(BoxSpec(files=kept, limits=SPEC.limits), boxes.backend) as other:
        assert other.exec("cat a b/secret").text.count(TOKEN) == 0
        assert other.exec("readlink a").text == f"{secret}\n"
    assert host.touched() == []


def _archive(*entries: tarfile.TarInfo) -> Snapshot:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for entry in entries:
            archive.addfile(entry, io.BytesIO(b"evil") if entry.isreg() else None)
    return Snapshot(stream.getvalue())


def _entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.mode = kind, link, 0o6777
    entry.size = 4 if kind == tarfile.REGTYPE else 0
    entry.devmajor, entry.devminor = 1, 1
    return entry


def _keeps_to_itself(box: Sandbox, what: str) -> None:
    assert TOKEN not in box.exec("cat h l/* 2>&1").text, what
    assert box.exec("[ ! -c d ]").ok, what


@pytest.mark.parametrize("way", ["restore", "files"])
@pytest.mark.parametrize("boxes", ISOLATING, indirect=True)
def test_a_hostile_archive_stays_in_the_box(boxes: Boxes, host: Host, way: str) -> None:
    folder = str(host.folder)
    archives = {
        "parents": _archive(_entry(f"../../../../../..{folder}/evil")),
        "absolute": _archive(_entry(f"{folder}/evil")),
        "link": _archive(_entry("l", tarfile.SYMTYPE, folder), _entry("l/evil")),
        "hard link": _archive(_entry("h", tarfile.LNKTYPE, f"{folder}/secret")),
        "device": _archive(_entry("d", tarfile.CHRTYPE)),
        "pipe": _archive(_entry("p", tarfile.FIFOTYPE)),
        "setuid": _archive(_entry("s")),
    }
    for what, archive in archives.items():
        with contextlib.suppress(SandboxError):  # refused is as good
            if way == "restore":
                box = boxes.clean()
                box.restore(archive)
                _keeps_to_itself(box, what)
            else:
                with open_box(BoxSpec(files=archive, limits=SPEC.limits), boxes.backend) as box:
                    _keeps_to_itself(box, what)
        assert host.touched() == [], what


def test_there_are_enough_of_them() -> None:
    assert len(ATTACKS) >= 30
    assert len({each.name for each in ATTACKS}) == len(ATTACKS)
    assert all(each.stops for each in ATTACKS)
