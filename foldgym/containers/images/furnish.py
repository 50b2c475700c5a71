"""The part of a recipe that is the same on every backend: packages, files and commands."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from foldgym.containers.images.recipe import Recipe
from foldgym.errors import UserError

Tell: TypeAlias = "Callable[[str], None]"

_WHEELS = "/opt/foldgym-wheels"
_INSTALL = (
    "PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --no-index --no-cache-dir "
    f"--disable-pip-version-check --root-user-action=ignore --find-links {_WHEELS} "
)
_APT = (
    "apt-get update -qq && apt-get install -y -qq --no-install-recommends {names} "
    "&& apt-get clean && rm -rf /var/lib/apt/lists/*"
)


class Workshop(Protocol):
    """A system that is being furnished."""

    def run(
        self, command: str, variables: Mapping[str, str], stdin: bytes = b"", online: bool = False
    ) -> tuple[int, str]:
        """The exit code and the output of a bash command, run as root."""
        ...


def furnish(recipe: Recipe, workshop: Workshop, tell: Tell) -> None:
    """Put into `workshop` what the recipe adds to its base. Raises `UserError`."""
    if recipe.debian and isinstance(recipe.base, (str, Recipe)):
        tell("Debian packages")
        _do(recipe, workshop, _APT.format(names=" ".join(recipe.debian)), online=True)
    if recipe.pip:
        tell("Python packages")
        _install(recipe, workshop)
    if recipe.files:
        tell(f"{len(recipe.files)} files")
        _put(recipe, workshop, recipe.files)
    for command in recipe.commands:
        tell(command.splitlines()[0][:60])
        _do(recipe, workshop, command)


def _do(
    recipe: Recipe, workshop: Workshop, command: str, stdin: bytes = b"", online: bool = False
) -> str:
    variables = {"HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    variables |= {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    code, said = workshop.run(command, {**variables, **recipe.variables}, stdin, online)
    if code:
        raise UserError(
            f"image {recipe.name}: {command[:200]!r} ended with code {code}: "
            f"{' '.join(said.split())[-600:]}"
        )
    return said


def _put(recipe: Recipe, workshop: Workshop, files: Mapping[str, bytes]) -> None:
    """By a tar inside, where links lead to places inside."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path, data in sorted(files.items()):
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(data), 0o755 if data.startswith(b"#!") else 0o644
            archive.addfile(entry, io.BytesIO(data))
    _do(recipe, workshop, "tar -C / -xf -", stdin=stream.getvalue())


def _install(recipe: Recipe, workshop: Workshop) -> None:
    """Wheels found by this machine's pip and its configuration, installed without a network."""
    ask = "python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'"
    version = _do(recipe, workshop, ask).strip()
    with tempfile.TemporaryDirectory(prefix="foldgym-wheels-") as folder:
        _download(recipe, version, Path(folder))
        wheels = {f"{_WHEELS}/{path.name}": path.read_bytes() for path in Path(folder).iterdir()}
    _put(recipe, workshop, wheels)
    try:
        _do(recipe, workshop, _INSTALL + " ".join(f"'{pin}'" for pin in recipe.pip))
    finally:
        _do(recipe, workshop, f"rm -rf {_WHEELS}")


def _download(recipe: Recipe, version: str, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--dest", str(folder), "--only-binary=:all:", "--python-version", version]
    done = subprocess.run([*command, *recipe.pip], capture_output=True, text=True, check=False)
    if done.returncode:
        if "No module named pip" in done.stderr:
            raise UserError(f"{sys.executable} has no pip: run {sys.executable} -m ensurepip")
        problems = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        said = " ".join((problems or [done.stderr])[-1].split())
        raise UserError(
            f"image {recipe.name}: pip finds no wheels for Python {version} of "
            f"{', '.join(recipe.pip)}: {said[-400:]} (is the index of your pip reachable?)"
        )
