"""A task as a folder: an instruction, an image to build, tests that come later, a solution."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

from foldgym.errors import DataError, MissingExtra
from foldgym.types import Json

Kind = Literal["harbor", "terminal-bench"]
MOST_BYTES = 200_000_000
Files = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class FolderTask:
    """`FolderTask("acme/hello", "Write hello.txt.", tests={"test.sh": b"..."})`.

    `environment` are the files that the image is built from, with a Dockerfile among them, unless
    `image` names one that exists; `workdir` is where its project lies. `tests` come into the box
    when the agent is done, and `test_script` among them is run; `solution_script` of `solution`
    solves the task. `separate`: the tests ask for a box of their own. `settings` is the whole
    table of the task's own file, so that nothing of it is lost.
    """

    name: str
    instruction: str
    kind: Kind = "harbor"
    environment: Files = field(default_factory=dict[str, bytes])
    image: str = ""
    workdir: str = "/app"
    tests: Files = field(default_factory=dict[str, bytes])
    test_script: str = "test.sh"
    solution: Files = field(default_factory=dict[str, bytes])
    solution_script: str = "solve.sh"
    agent_seconds: float = 600.0
    test_seconds: float = 600.0
    variables: Mapping[str, str] = field(default_factory=dict[str, str])
    separate: bool = False
    settings: Mapping[str, Json] = field(default_factory=dict[str, Json])

    def __post_init__(self) -> None:
        if not self.name.strip() or "\n" in self.name:
            raise DataError(f"{self.name!r} is no name of a task")
        for seconds in (self.agent_seconds, self.test_seconds):
            if not 0 < seconds < float("inf"):
                raise DataError(f"task {self.name}: a limit of {seconds} seconds")
        if self.test_script not in self.tests:
            raise DataError(f"task {self.name}: its tests have no {self.test_script}")
        for files in (self.environment, self.tests, self.solution):
            for path in files:
                parts = PurePosixPath(path).parts
                if not parts or ".." in parts or path.startswith("/") or "\0" in path:
                    raise DataError(f"task {self.name}: {path!r} leaves the task's folder")


def read_files(folder: Path) -> dict[str, bytes]:
    """The files below a folder; none if it is not there. Raises `DataError` for links and more
    than `MOST_BYTES`."""
    found: dict[str, bytes] = {}
    size = 0
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_symlink():
            raise DataError(f"{path} is a link: a task's folder holds plain files")
        if path.is_file():
            size += path.stat().st_size
            if size > MOST_BYTES:
                raise DataError(f"{folder} holds more than {MOST_BYTES} bytes")
            found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def write_files(folder: Path, files: Files) -> None:
    """Write files below a folder; scripts can be executed."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        if path.suffix == ".sh":
            path.chmod(0o755)


def read_text(path: Path) -> str:
    """A text file. Raises `DataError`."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as problem:
        raise DataError(f"cannot read {path}: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise DataError(f"{path} is not UTF-8 text: {problem.reason}") from None


def new_folder(folder: str | Path) -> Path:
    """A folder to write into. Raises `DataError` if there is something in it."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(os.scandir(path)):
            raise DataError(f"{path} is not empty: nothing was written")
    except OSError as problem:
        raise DataError(f"cannot write {path}: {problem.strerror}") from None
    return path


def read_yaml(path: Path) -> dict[str, Any]:
    """The table of a YAML file. Raises `DataError`, and `MissingExtra` without PyYAML."""
    yaml = _yaml(path)
    try:
        table: Any = yaml.safe_load(read_text(path))
    except yaml.YAMLError as problem:
        raise DataError(f"{path} is no YAML: {' '.join(str(problem).split())}") from None
    if not isinstance(table, dict):
        raise DataError(f"{path} holds no table")
    return cast("dict[str, Any]", table)


def yaml_text(table: Mapping[str, Json], path: Path) -> str:
    """A table as YAML, texts of several lines as blocks."""
    yaml = _yaml(path)

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: Any, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return yaml.dump(dict(table), Dumper=Dumper, sort_keys=True, allow_unicode=True)


def _yaml(path: Path) -> Any:
    try:
        import yaml
    except ModuleNotFoundError as problem:
        raise MissingExtra(f"the YAML of {path}", "swe") from problem
    return yaml


def workdir_of(dockerfile: str, default: str) -> str:
    """The last absolute WORKDIR of a Dockerfile, with the relative ones below it."""
    place = PurePosixPath(default)
    for line in dockerfile.split("\n"):
        words = line.split()
        if len(words) == 2 and words[0].upper() == "WORKDIR":
            place = place / words[1].strip("\"'")
    return str(place)
