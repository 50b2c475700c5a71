"""Root file systems as folders: debootstrap makes the lowest, bubblewrap furnishes the others."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from foldgym.containers.images.furnish import Tell
from foldgym.containers.images.recipe import Debian
from foldgym.containers.images.store import cache_folder
from foldgym.errors import UserError

_STEP = re.compile(r"I: (Retrieving|Validating|Extracting|Unpacking|Configuring) (.{1,40})")
_FRESH: dict[str, str] = {
    "etc/apt/sources.list": "",
    "etc/hostname": "box\n",
    "etc/resolv.conf": "",
    "etc/machine-id": "",
}
"""debootstrap leaves here the names of this machine, of its resolver and of its mirror."""


def missing() -> str:
    """Why no tree can be made here; empty if one can."""
    if os.geteuid():
        return (
            "debootstrap needs root: run `foldgym images build` with sudo, or name a registry's "
            "image with --from"
        )
    for program, package in (("debootstrap", "debootstrap"), ("bwrap", "bubblewrap")):
        if shutil.which(program) is None:
            return f"{program} is not installed (apt-get install {package})"
    return ""


def mirror(suite: str) -> str:
    """$FOLDGYM_DEBIAN_MIRROR, or where this machine's apt gets the suite; empty: debootstrap's."""
    if given := os.environ.get("FOLDGYM_DEBIAN_MIRROR"):
        return given
    command = ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)"]
    try:
        done = subprocess.run(
            [*command, "Identifier: Packages"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    for line in done.stdout.splitlines():
        release, component, address = line.split(maxsplit=2)
        if (release, component) == (suite, "main"):
            return address
    return ""


def bootstrap(debian: Debian, packages: tuple[str, ...], root: Path, tell: Tell) -> None:
    """Install Debian into `root`, by a process that takes its mounts with it. Raises `UserError`.

    Packages that were fetched stay in the cache folder for the next tree.
    """
    if why := missing():
        raise UserError(f"no root file system can be made here: {why}")
    cache = cache_folder() / "debs"
    cache.mkdir(parents=True, exist_ok=True)
    command = ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--cache-dir={cache}"]
    command += [f"--include={','.join(packages)}"] if packages else []
    source = mirror(debian.suite)
    process = subprocess.Popen(
        [*command, debian.suite, str(root), *([source] if source else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    said: list[str] = []
    try:
        for line in process.stdout or ():
            said = [*said[-40:], line]
            if step := _STEP.match(line):
                tell(f"{step[1].lower()} {step[2]}".strip())
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if code:
        raise UserError(f"debootstrap ended with code {code}: {_reason(said, source)}")
    _clean(root)


def _reason(said: list[str], source: str) -> str:
    """What it complained of, and what to do."""
    problems = [line for line in said if line.startswith(("E:", "W:"))] or said[-3:]
    text = " ".join(" ".join(problems).split())
    if "Release" in text or "Couldn't download" in text:
        where = f"the mirror {source}" if source else "debootstrap's own mirror"
        return f"{text} (is {where} reachable? FOLDGYM_DEBIAN_MIRROR names another)"
    if "cannot create /dev" in text or "mknod" in text.lower():
        return f"{text} (device files cannot be made here: is this a container without mknod?)"
    return text


def _clean(root: Path) -> None:
    for name, text in _FRESH.items():
        path = root / name
        path.unlink(missing_ok=True)
        path.write_text(text)
    for name in ("var/cache/apt", "var/lib/apt/lists", "var/log"):
        for path in sorted((root / name).rglob("*"), reverse=True):
            if path.is_symlink() or not path.is_dir():
                path.unlink()


def copy(base: Path, root: Path) -> None:
    """All of a tree, for its own: shared inodes would let one image write into another."""
    command = ["cp", "--archive", "--reflink=auto", f"{base}/.", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{base} could not be copied: {' '.join(done.stderr.split())[-400:]}")


class Tree:
    """A root file system that is being furnished."""

    def __init__(self, root: Path) -> None:
        if why := missing():
            raise UserError(f"no root file system can be made here: {why}")
        self.root = root

    def run(
        self, command: str, variables: Mapping[str, str], stdin: bytes = b"", online: bool = False
    ) -> tuple[int, str]:
        """See `Workshop.run`."""
        words = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent"]
        words += ["--cap-add", "ALL", "--bind", str(self.root), "/", "--dev", "/dev"]
        words += ["--proc", "/proc", "--tmpfs", "/tmp", "--hostname", "box", "--clearenv"]
        if online:
            words += ["--ro-bind", "/etc/resolv.conf", "/etc/resolv.conf"]
        else:
            words += ["--unshare-net"]
        for name, value in variables.items():
            words += ["--setenv", name, value]
        done = subprocess.run(
            [*words, "--chdir", "/", "--", "/bin/bash", "-euc", command],
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return done.returncode, done.stdout.decode(errors="replace")
