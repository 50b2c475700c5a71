"""Which backend is taken, how many boxes may live, and what a pool keeps ready."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from late_writer import late_writer

from foldgym.containers import BoxSpec, Limits, Pool, available, find, open_box, pack
from foldgym.containers.channel import Output
from foldgym.containers.opening import _Live, choose  # type: ignore[reportPrivateUsage]
from foldgym.errors import DataError, Failure, SandboxError, UnknownName, UserError

TRUSTED = BoxSpec(untrusted=False)

pytestmark = pytest.mark.skipif(available("process") != "", reason="boxes need Linux and bash")


@pytest.fixture(autouse=True)
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="boxes-") as name:  # pytest's own lets nobody else in
        folder = Path(name)
        folder.chmod(0o711)
        monkeypatch.setenv("FOLDGYM_STATE", name)
        yield folder


def test_a_box_that_isolates_nothing_is_taken_only_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    available.cache_clear()
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    monkeypatch.setattr("foldgym.containers.process.unavailable", lambda: "")
    try:
        with pytest.raises(UserError, match="isolates nothing") as caught:
            choose("auto", BoxSpec())
        assert "bwrap is not installed" in str(caught.value)
        assert "does not answer" in str(caught.value)
        assert choose("auto", TRUSTED) == "process"
        assert choose("process", BoxSpec()) == "process"
        with pytest.raises(UserError, match="no bubblewrap boxes on this machine"):
            choose("bubblewrap", TRUSTED)
    finally:
        available.cache_clear()


def test_wrong_requests_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'bubblewrap'"):
        open_box(backend="bublewrap")
    with pytest.raises(UserError, match="pids is 0"):
        Limits(pids=0)
    with pytest.raises(UserError, match="warm=3 and cap=2"):
        Pool(TRUSTED, "process", warm=3, cap=2)
    with pytest.raises(UserError, match="has no image"):
        open_box(BoxSpec(image="/", untrusted=False), "process")
    with pytest.raises(DataError, match="not a folder"):
        pack(tmp_path / "missing")
    with pytest.raises(DataError, match="not below"):
        pack({"../x": b""})
    assert issubclass(SandboxError, Failure)
    assert find() == []


def test_a_box_refuses_what_cannot_be_run() -> None:
    with open_box(TRUSTED, "process") as box:
        with pytest.raises(UserError, match="zero byte"):
            box.exec("echo \0")
        with pytest.raises(UserError, match="cannot be an environment variable"):
            box.exec("true", environment={"A B": "x"})
        with pytest.raises(UserError, match="timeout=0"):
            box.exec("true", timeout=0)


def test_the_cap_on_live_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDGYM_LIVE_BOXES", "1")
    with open_box(TRUSTED, "process"):
        with pytest.raises(SandboxError, match="1 boxes live already"):
            open_box(TRUSTED, "process", wait=0.05)
    open_box(TRUSTED, "process", wait=0.05).close()
    monkeypatch.setenv("FOLDGYM_LIVE_BOXES", "many")
    with pytest.raises(UserError, match="FOLDGYM_LIVE_BOXES='many'"):
        open_box(TRUSTED, "process")


def test_boxes_are_watched_although_the_first_one_was_refused(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("foldgym.containers.opening._live", _Live())
    refused = state / "refused"
    (refused / f"foldgym-boxes-{os.getuid()}").mkdir(parents=True)
    (refused / f"foldgym-boxes-{os.getuid()}").chmod(0o777)
    with monkeypatch.context() as other:
        other.setenv("FOLDGYM_STATE", str(refused))
        with pytest.raises(SandboxError, match="not ours alone"):
            open_box(TRUSTED, "process")
    with open_box(BoxSpec(limits=Limits(seconds=0.2), untrusted=False), "process") as box:
        with pytest.raises(SandboxError, match="lived for its"):
            box.exec("sleep 600", timeout=20)


def test_a_box_that_died_gives_its_place_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDGYM_LIVE_BOXES", "1")
    with open_box(TRUSTED, "process") as box:
        os.kill(find()[0].label.keeper, signal.SIGKILL)
        with pytest.raises(SandboxError, match="gone"):
            box.exec("sleep 60")
    assert find() == []
    open_box(TRUSTED, "process", wait=0.05).close()


def test_a_box_that_does_not_come_up_leaves_nothing_although_it_still_writes(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writers: list[subprocess.Popen[bytes]] = []

    def start(spec: BoxSpec, folder: Path) -> None:
        writers.append(late_writer(folder))
        raise SandboxError("its shell was not ready")

    monkeypatch.setattr("foldgym.containers.process.start", start)
    with pytest.raises(SandboxError, match="not ready"):
        open_box(TRUSTED, "process")
    writers[0].wait(120)
    assert [*state.glob("foldgym-boxes-*/*-*")] == []


def test_a_pool_serves_each_box_once_and_leaves_nothing() -> None:
    spec = BoxSpec(files=pack({"a": b"1"}), untrusted=False, run="pooled")
    seen: set[str] = set()
    with Pool(spec, "process", warm=1, cap=2) as pool:
        for _ in range(3):
            with pool.box() as box:
                assert box.exec("cat a; rm a").text == "1"
                seen.add(box.id)
        with pool.box(), pool.box():
            with pytest.raises(SandboxError, match="all 2 boxes"):
                pool._take(0.05)  # type: ignore[reportPrivateUsage]
        assert {each.label.run for each in find()} <= {"pooled"}
    assert len(seen) == 3
    with pytest.raises(SandboxError, match="closed"):
        pool._take(1)  # type: ignore[reportPrivateUsage]
    assert find() == []


def test_packing_is_the_same_every_time(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.py").write_text("1")
    (tmp_path / "a").symlink_to("/etc/passwd")
    first = pack(tmp_path)
    (tmp_path / "b" / "x.py").touch()
    assert pack(tmp_path) == first
    with tarfile.open(fileobj=io.BytesIO(first.archive)) as archive:
        assert archive.getnames() == ["a", "b", "b/x.py"]
        assert archive.getmember("a").linkname == "/etc/passwd"


def test_output_keeps_both_ends() -> None:
    output = Output(5)
    for part in (b"ab", b"cdefg", b"hij"):
        output.add(part)
    assert output.dropped == 5
    assert output.data == b"abc\n[... 5 bytes left out ...]\nij"
    short = Output(5)
    short.add(b"abcde")
    assert (short.data, short.dropped) == (b"abcde", 0)
    nothing = Output(0)
    nothing.add(b"abc")
    assert nothing.data == b"\n[... 3 bytes left out ...]\n"
