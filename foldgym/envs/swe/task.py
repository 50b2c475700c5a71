"""`SweTask`: what every source of software tasks yields, and its JSON lines."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, cast

from foldgym.errors import DataError
from foldgym.records import JsonlReader, JsonlWriter
from foldgym.types import Json

SCHEMA = 1
EvalType = Literal["pass_and_fail", "fail_only"]
EVAL_TYPES = ("pass_and_fail", "fail_only")


@dataclass(frozen=True, slots=True)
class SweTask:
    """A project with a fault, the tests that tell it from the repaired one, and how to run them.

        SweTask("acme__toy-1", "acme/toy", "`twice(2)` gives 5.",
                files={"toy.py": b"..."}, tests={"tests/test_toy.py": b"..."},
                test_command="python3 -m unittest -v tests.test_toy", log_parser="unittest",
                fail_to_pass=("tests.test_toy.Twice.test_twice",), gold_patch="...")

    What the agent starts from is `archive` (a tar file, plain or compressed, of the project's
    folder), with `files` over it and the patch `bug` applied; without archive and files it is what
    `image` holds in `workdir`. `image` is a backend's image (for docker a tag, for bubblewrap the
    folder of a root file system); `recipe` names the one in `containers/images/` that makes it.
    `workdir` is a folder of a docker image to work in, or empty for the box's own. `tests` are
    hidden: they come into the grading box last, over whatever lies there. `base_commit` is only
    told on. `split` is empty, or what the source says; `timeout` are seconds for the test command.
    """

    id: str
    repo: str
    problem_statement: str
    image: str = ""
    recipe: str = ""
    workdir: str = ""
    archive: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    bug: str = ""
    base_commit: str = ""
    test_command: str = ""
    tests: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    log_parser: str = "pytest"
    eval_type: EvalType = "pass_and_fail"
    gold_patch: str = ""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    timeout: float = 300.0
    split: str = ""
    metadata: Mapping[str, Json] = field(default_factory=dict[str, Json])

    def __post_init__(self) -> None:
        if not self.id or self.id != self.id.strip() or "\n" in self.id:
            raise DataError(f"{self.id!r} is no id of a task")
        if self.eval_type not in EVAL_TYPES:
            raise DataError(f"task {self.id}: eval_type {self.eval_type!r} is none of {EVAL_TYPES}")
        if not self.timeout > 0:
            raise DataError(f"task {self.id}: timeout is {self.timeout}: give more than 0 seconds")
        for path in (*self.files, *self.tests):
            parts = PurePosixPath(path).parts
            if not parts or ".." in parts or path.startswith("/") or "\0" in path:
                raise DataError(f"task {self.id}: {path!r} is no path below the project's folder")


_BYTES = frozenset({"files", "tests"})
_LISTS = frozenset({"fail_to_pass", "pass_to_pass"})
_DEFAULTS = {each.name for each in fields(SweTask)}


def to_row(task: SweTask) -> dict[str, Json]:
    """One JSON object; what has its default is left out."""
    row: dict[str, Json] = {"schema": SCHEMA}
    plain = SweTask(task.id, task.repo, task.problem_statement)
    for each in fields(SweTask):
        value: Any = getattr(task, each.name)
        if each.name not in ("id", "repo", "problem_statement") and value == getattr(
            plain, each.name
        ):
            continue
        if each.name in _BYTES:
            value = {path: _encoded(data) for path, data in sorted(value.items())}
        elif each.name in _LISTS:
            value = list(value)
        elif isinstance(value, Mapping):
            value = dict(cast("Mapping[str, Json]", value))
        row[each.name] = value
    return row


def from_row(row: Mapping[str, Json]) -> SweTask:
    """The task of a row. Raises `DataError` for what is no such row."""
    if row.get("schema") != SCHEMA:
        raise DataError(f"schema {row.get('schema')!r}: this foldgym reads {SCHEMA}")
    given = {name: value for name, value in row.items() if name != "schema"}
    for name in given:
        if name not in _DEFAULTS:
            raise DataError(f"unknown field {name!r} of a task")
    for name in ("id", "repo", "problem_statement"):
        if not isinstance(given.get(name), str):
            raise DataError(f"{name} is {given.get(name)!r}, not a text")
    try:
        for name in _BYTES & given.keys():
            given[name] = {path: _decoded(data) for path, data in given[name].items()}
        for name in _LISTS & given.keys():
            given[name] = tuple(str(each) for each in given[name])
        return SweTask(**given)
    except (TypeError, ValueError, AttributeError) as problem:
        raise DataError(f"task {given['id']}: {problem}") from None


def _encoded(data: bytes) -> Json:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _decoded(value: Json) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    return base64.b64decode(value["base64"], validate=True)


def save_tasks(path: str | Path, tasks: Iterable[SweTask]) -> int:
    """Append tasks to a JSON-lines file, an archive below its folder as a path from there.

    Returns how many. Raises `DataError` if the file cannot be written.
    """
    folder = Path(path).resolve().parent
    count = 0
    with JsonlWriter(path) as writer:
        for task in tasks:
            archive = Path(task.archive).resolve()
            if task.archive and archive.is_relative_to(folder):
                task = replace(task, archive=archive.relative_to(folder).as_posix())
            writer.write(to_row(task))
            count += 1
    return count


def load_tasks(path: str | Path) -> tuple[SweTask, ...]:
    """The tasks of a JSON-lines file. Raises `DataError` with the line of what is wrong."""
    folder = Path(path).resolve().parent
    found: dict[str, SweTask] = {}
    for number, row in JsonlReader(path).numbered():
        try:
            task = from_row(row)
            if task.id in found:
                raise DataError(f"the task {task.id!r} is there twice")
        except DataError as problem:
            raise DataError(f"{path}, line {number}: {problem}") from None
        if task.archive:
            task = replace(task, archive=str(folder / task.archive))
        found[task.id] = task
    if not found:
        raise DataError(f"{path} holds no task")
    return tuple(found.values())
