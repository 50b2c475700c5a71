"""A package's own tests: the command that runs them, and what each of them said."""

from __future__ import annotations

import io
import shlex
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from foldgym.containers import End, Sandbox
from foldgym.envs.swe.parsers import Status, parse_pytest_v2
from foldgym.errors import DataError

PYTHON = "python3"
_CAP = 20_000_000
_SETTINGS = {
    "PYTHONDONTWRITEBYTECODE": "1",
    "COLUMNS": "160",
    "PYTHONHASHSEED": "0",
    "TZ": "UTC",
    "LANG": "C.UTF-8",
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of a suite. `statuses` is empty where the log is no whole report."""

    statuses: Mapping[str, Status] = field(repr=False)
    log: str = field(repr=False)
    code: int = 0
    end: End = End.EXITED
    seconds: float = 0.0

    def passed(self) -> set[str]:
        """The tests that passed, or failed as they were expected to."""
        return {
            name for name, said in self.statuses.items() if said in (Status.PASSED, Status.XFAIL)
        }


def test_command(tests: Sequence[str]) -> str:
    """The shell command that runs the tests of some files or folders, one line for each test.

    The project's own settings hold, but not its extra options, which may ask for plug-ins.
    """
    where = " ".join(shlex.quote(each) for each in tests)
    options = "-rA --tb=short -q -o addopts= -p no:cacheprovider --color=no"
    return f"{PYTHON} -m pytest {options} {where}"


def run_suite(box: Sandbox, tests: Sequence[str], timeout: float) -> Outcome:
    """Run the tests in the box's working folder. Raises `SandboxError` if the box is gone."""
    done = box.exec(test_command(tests), timeout=timeout, environment=_SETTINGS, cap=_CAP)
    log = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
    whole = done.end is End.EXITED and done.code in (0, 1) and not done.dropped
    return Outcome(
        dict(parse_pytest_v2(log)) if whole else {}, log, done.code, done.end, done.seconds
    )


# ---------------------------------------------------------------- a box without pytest


def tools(folder: Path, packages: Sequence[str] = ("pytest",), seconds: float = 120.0) -> bytes:
    """pytest and what it needs, as a tar archive made of wheels that pip downloads into `folder`.

    Raises `DataError` if pip finds no wheels.
    """
    place = folder / "wheels"
    place.mkdir(parents=True, exist_ok=True)
    if not list(place.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:"]
        command += ["--disable-pip-version-check", "--dest", str(place), *packages]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=seconds, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise DataError(f"pip could not download {' '.join(packages)}: {problem}") from None
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise DataError(f"pip could not download {' '.join(packages)}: {said[0]}")
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for wheel in sorted(place.glob("*.whl")):
            with zipfile.ZipFile(wheel) as zipped:
                for name in sorted(zipped.namelist()):
                    if not name.endswith("/"):
                        data = zipped.read(name)
                        entry = tarfile.TarInfo(name)
                        entry.size, entry.mode = len(data), 0o644
                        archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def equip(box: Sandbox, archive: bytes) -> None:
    """Unpack the tools where the box's own Python finds them, outside the working folder.

    Raises `DataError` if the box has no Python that can run them.
    """
    command = (
        f'd=$({PYTHON} -c "import site; print(site.getusersitepackages())") && mkdir -p "$d" && '
        f'tar -x -C "$d" -f - && {PYTHON} -m compileall -q "$d" >/dev/null; {PYTHON} -m pytest -V'
    )
    done = box.exec(command, stdin=archive, timeout=120)
    if not done.ok:
        raise DataError(f"the box cannot run pytest: {done.text.strip()[-300:]}")


def has_pytest(box: Sandbox) -> bool:
    """Whether the box brings pytest itself."""
    return box.exec(f"{PYTHON} -c 'import pytest'", timeout=60).ok
