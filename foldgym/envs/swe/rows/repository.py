"""SWE-bench 5's task repositories, read and written: sweb.yaml, and a folder for each task.

Format: swebench 5.0.2; docs/swe_formats.md.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foldgym.envs.qa.rows import Malformed, Row
from foldgym.envs.swe.folders.task import (
    new_folder,
    read_text,
    read_yaml,
    write_files,
    yaml_text,
)
from foldgym.envs.swe.patches import write_patch
from foldgym.envs.swe.rows.bench import WORKDIR, bench_row, bench_task
from foldgym.envs.swe.rows.commands import END, START
from foldgym.envs.swe.rows.images import IMAGE_RULES
from foldgym.envs.swe.task import SweTask
from foldgym.envs.swe.trees import Entry, Tree, base_tree, compare, put, write_tree
from foldgym.errors import DataError

_FILES = {
    "patch": "gold.patch",
    "test_patch": "test.patch",
    "eval_script": "eval.sh",
    "problem_statement": "problem_statement.md",
}
_LISTS = ("FAIL_TO_PASS", "PASS_TO_PASS")
_PROJECT = "project.tar"
_HEREDOC = "EOF_TEST_PATCH"


def read_repository(folder: str | Path) -> tuple[SweTask, ...]:
    """The tasks of a repository, by their ids. Raises `DataError` for what is none."""
    root = Path(folder)
    config = read_yaml(root / "sweb.yaml")
    if not config.get("datasets"):
        raise DataError(f"{root}/sweb.yaml names no datasets")
    found = sorted((root / "tasks").glob("*/task.yaml"))
    if not found:
        raise DataError(f"{root}/tasks holds no task.yaml")
    return tuple(_read(path.parent) for path in found)


def _read(folder: Path) -> SweTask:
    row: Row = read_yaml(folder / "task.yaml")
    for column, name in _FILES.items():
        row[column] = read_text(folder / name)
    hints = folder / "hints.md"
    row["hints_text"] = read_text(hints) if hints.is_file() else ""
    try:
        row |= json.loads(read_text(folder / "tests.json"))
        task = bench_task(row)
    except (ValueError, Malformed) as problem:
        raise DataError(f"{folder}: {problem}") from None
    dockerfile = read_text(folder / "Dockerfile")
    return replace(task, metadata={**task.metadata, "dockerfile": dockerfile})


def write_repository(
    folder: str | Path, tasks: Sequence[SweTask], dataset: str, base_image: str = ""
) -> Path:
    """Write tasks as a repository that `swebench dataset check` accepts.

    `base_image` is what the image of a task with its own files starts from: one with bash, git and
    all that the test command needs. Raises `DataError` for tasks that cannot be written, and if the
    folder is not empty.
    """
    if not tasks:
        raise DataError("there is no task to write")
    splits = sorted({task.split or "test" for task in tasks})
    pieces = {task.id: _pieces(task, dataset, base_image) for task in tasks}
    root = new_folder(folder)
    config = {"datasets": [dataset], "splits": splits}
    write_files(root, {"sweb.yaml": yaml_text(config, root / "sweb.yaml").encode()})
    for name, files in pieces.items():
        write_files(root / "tasks" / name, files)
    return root


def _pieces(task: SweTask, dataset: str, base_image: str) -> dict[str, bytes]:
    base = base_tree(task)
    if base is None:
        row = bench_row(task)
        dockerfile = str(row.pop("dockerfile", f"FROM {task.image}\n"))
        files: dict[str, bytes] = {}
    else:
        if not base_image:
            raise DataError(f"task {task.id}: its files need an image to lie in: give a base image")
        row = _own(task, base)
        files = {_PROJECT: write_tree(base).archive}
        dockerfile = dockerfile_of(base_image)
    row["image"] = IMAGE_RULES["swe-bench"](task.id)
    row["datasets"], row["split"] = row.get("datasets") or [dataset], task.split or "test"
    tests = {name: row.pop(name) for name in _LISTS}
    for column, name in _FILES.items():
        files[name] = str(row.pop(column)).encode()
    hints = str(row.pop("hints_text", ""))
    if hints:
        files["hints.md"] = hints.encode()
    text = json.dumps(tests, indent=2, ensure_ascii=False) + "\n"
    table: dict[str, Any] = {name: value for name, value in row.items() if value is not None}
    return {
        **files,
        "tests.json": text.encode(),
        "Dockerfile": dockerfile.encode(),
        "task.yaml": yaml_text(table, Path("task.yaml")).encode(),
    }


def dockerfile_of(base_image: str, workdir: str = WORKDIR) -> str:
    """The image of a project that lies beside it as `project.tar`, with a history of one commit."""
    return (
        f"FROM {base_image}\nUSER root\nWORKDIR {workdir}\nADD {_PROJECT} {workdir}/\n"
        "RUN git init -q -b main . && git add -A -f && "
        "git -c user.name=box -c user.email=box@box commit -q --no-verify -m start\n"
    )


def _own(task: SweTask, base: Tree) -> Row:
    """The row of a task that brings its own files."""
    after = dict(base)
    for path, data in task.tests.items():
        put(after, path, Entry(data))
    patch = write_patch(compare(base, after))
    name = task.log_parser
    row = bench_row(
        replace(
            task,
            archive="",
            files={},
            bug="",
            fail_to_pass=bench_names(name, task.fail_to_pass),
            pass_to_pass=bench_names(name, task.pass_to_pass),
            log_parser=_NAMES.get(name, name),
            metadata={"test_patch": patch},
        )
    )
    row["eval_script"] = eval_script(task, base, patch)
    row["version"] = row["version"] or "1"
    row["base_commit"] = row["base_commit"] or "HEAD"
    return row


_NAMES = {
    "pytest": "parse_log_pytest",
    "pytest_v2": "parse_log_pytest_v2",
    "unittest": "parse_log_django",
}


def bench_names(parser: str, tests: Sequence[str]) -> tuple[str, ...]:
    """Tests as SWE-bench's parser of the same logs calls them: cut at, or with single, blanks, and
    of unittest as Python prints them since 3.11.

    One name is not told: an expected failure whose reason pytest prints has that in its name.
    """
    if parser == "unittest":
        return tuple(f"{test.rpartition('.')[2]} ({test})" for test in tests)
    if parser == "pytest":
        return tuple(dict.fromkeys(test.split()[0] for test in tests))
    if parser == "pytest_v2":
        return tuple(dict.fromkeys(" ".join(test.split()) for test in tests))
    return tuple(tests)


def eval_script(task: SweTask, base: Tree, patch: str) -> str:
    """SWE-bench's script for a task: its tests put in place, run between the markers, put back."""
    paths = list(task.tests)
    there = [path for path in paths if path in base]
    back = f"git checkout -q HEAD -- {shlex.join(there)}\n" if there else ""
    gone = f"rm -rf -- {shlex.join(paths)}\n" if paths else ""
    variables = "".join(
        f"export {name}={shlex.quote(value)}\n" for name, value in task.environment.items()
    )
    apply = f"git apply -v - <<'{_HEREDOC}'\n{patch}{_HEREDOC}\n" if patch else ""
    return (
        "#!/bin/bash\nset -uxo pipefail\n"
        f"cd {WORKDIR}\n{variables}{gone}{back}{apply}"
        f": '{START}'\n(\n{task.test_command}\n)\nSWEBENCH_TEST_EXIT_CODE=$?\n: '{END}'\n"
        'echo ">>>>> Test Exit Code: $SWEBENCH_TEST_EXIT_CODE"\n'
        f"{gone}{back}"
    )
