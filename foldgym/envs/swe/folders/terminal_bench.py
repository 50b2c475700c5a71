"""Terminal-Bench's task folders, read and written: task.yaml, Dockerfile, run-tests.sh, tests.

Format: terminal-bench 0.2.18; docs/swe_formats.md.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from foldgym.envs.swe.folders.task import (
    FolderTask,
    new_folder,
    read_files,
    read_text,
    read_yaml,
    workdir_of,
    write_files,
    yaml_text,
)
from foldgym.errors import DataError
from foldgym.types import Json

RUN_TESTS = "run-tests.sh"
_OWN = frozenset(("task.yaml", RUN_TESTS, "solution.sh", "solution.yaml"))
_COMPOSE = """services:
  client:
    build:
      dockerfile: Dockerfile
    image: ${T_BENCH_TASK_DOCKER_CLIENT_IMAGE_NAME}
    container_name: ${T_BENCH_TASK_DOCKER_CLIENT_CONTAINER_NAME}
    command: ["sh", "-c", "sleep infinity"]
    environment:
      - TEST_DIR=${T_BENCH_TEST_DIR}
    volumes:
      - ${T_BENCH_TASK_LOGS_PATH}:${T_BENCH_CONTAINER_LOGS_PATH}
      - ${T_BENCH_TASK_AGENT_LOGS_PATH}:${T_BENCH_CONTAINER_AGENT_LOGS_PATH}
"""


def read_terminal_bench(folder: str | Path) -> FolderTask:
    """The task of a folder. Raises `DataError` for what is none, or cannot run here: a parser other
    than pytest's, several services."""
    root = Path(folder)
    path = root / "task.yaml"
    table = read_yaml(path)
    parser = table.get("parser_name", "pytest")
    if parser != "pytest":
        raise DataError(f"{path}: parser_name is {parser!r}; only pytest is read here")
    compose = root / "docker-compose.yaml"
    services: Any = read_yaml(compose).get("services", {}) if compose.is_file() else {"client": 0}
    if list(services) != ["client"]:
        raise DataError(f"{compose} has the services {', '.join(services)}; only client runs here")
    files = read_files(root)
    tests = {n.removeprefix("tests/"): d for n, d in files.items() if n.startswith("tests/")}
    environment = {n: d for n, d in files.items() if n not in _OWN and not n.startswith("tests/")}
    if "Dockerfile" not in environment:
        raise DataError(f"{root} has no Dockerfile")
    if RUN_TESTS not in files:
        raise DataError(f"{root} has no {RUN_TESTS}")
    solution = {n: files[n] for n in ("solution.sh", "solution.yaml") if n in files}
    return FolderTask(
        name=root.resolve().name,
        instruction=_instruction(table, path),
        kind="terminal-bench",
        environment=environment,
        workdir=workdir_of(read_text(root / "Dockerfile"), "/app"),
        tests={**tests, RUN_TESTS: files[RUN_TESTS]},
        test_script=RUN_TESTS,
        solution=solution,
        solution_script="solution.sh",
        agent_seconds=_seconds(table, "max_agent_timeout_sec", 360.0, path),
        test_seconds=_seconds(table, "max_test_timeout_sec", 60.0, path),
        variables={"TEST_DIR": "/tests"},
        settings=table,
    )


def write_terminal_bench(task: FolderTask, folder: str | Path) -> Path:
    """Write a task's folder. Raises `DataError` if it exists and is not empty."""
    root = new_folder(folder)
    settings: dict[str, Json] = dict(task.settings)
    if task.kind != "terminal-bench":
        settings = {
            "instruction": task.instruction,
            "difficulty": "medium",
            "parser_name": "pytest",
            "max_agent_timeout_sec": task.agent_seconds,
            "max_test_timeout_sec": task.test_seconds,
        }
    tests = dict(task.tests)
    script = tests.pop(task.test_script)
    compose = {"docker-compose.yaml": _COMPOSE.encode()}
    if "Dockerfile" not in task.environment:
        compose["Dockerfile"] = f"FROM {task.image}\nWORKDIR {task.workdir}\n".encode()
    write_files(root, {**compose, **task.environment})
    write_files(root, {"task.yaml": yaml_text(settings, root / "task.yaml").encode()})
    write_files(root, {RUN_TESTS: script})
    write_files(root / "tests", tests)
    solved = {("solution.sh" if n == task.solution_script else n): d for n, d in _flat(task)}
    write_files(root, solved)
    return root


_SUMMARY = re.compile(r"=+\s*short test summary info\s*=+", re.I)
_GOOD, _BAD = ("PASSED", "XFAIL", "SKIPPED"), ("FAILED", "XPASS", "ERROR")


def terminal_results(log: str) -> dict[str, bool]:
    """pytest's summary by Terminal-Bench's names, the file cut off: whether each test is good.

    Skipped and expectedly failing tests are. Empty without a summary.
    """
    parts = _SUMMARY.split(log, maxsplit=1)
    found: dict[str, bool] = {}
    for line in parts[1].splitlines() if len(parts) > 1 else []:
        if line.startswith("FAILED") and " - " in line:
            line = line.rpartition(" - ")[0]
        word, _, rest = line.strip().partition(" ")
        word, name = word.strip(":"), rest.strip().split("::", 1)[-1]
        if name and word in (*_GOOD, *_BAD):
            found[name] = word in _GOOD
    return found


def _flat(task: FolderTask) -> list[tuple[str, bytes]]:
    for name in task.solution:
        if "/" in name:
            raise DataError(f"task {task.name}: Terminal-Bench has no place for {name}")
    return list(task.solution.items())


def _instruction(table: dict[str, Any], path: Path) -> str:
    if isinstance(table.get("instruction"), str):
        return table["instruction"]
    described: Any = table.get("descriptions")
    first = next((d for d in described or () if isinstance(d, dict) and d.get("key") == "base"), 0)
    text: Any = first.get("description") if isinstance(first, dict) else None
    if not isinstance(text, str):
        raise DataError(f"{path} has no instruction, and no description with the key base")
    return text


def _seconds(table: dict[str, Any], name: str, default: float, path: Path) -> float:
    value = table.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise DataError(f"{path}: {name} is {value!r}, no number of seconds")
    return float(value)
