"""Harbor's task folders, read and written: task.toml, instruction.md, environment, tests, solution.

Format: harbor 0.25.0, schema 1.4; docs/swe_formats.md.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from foldgym.envs.swe.folders.task import (
    FolderTask,
    new_folder,
    read_files,
    read_text,
    workdir_of,
    write_files,
)
from foldgym.errors import DataError
from foldgym.types import Json

SCHEMA = "1.4"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*/[a-zA-Z0-9][a-zA-Z0-9._-]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def read_harbor(folder: str | Path) -> FolderTask:
    """The task of a folder. Raises `DataError` for what is none, or of a kind that cannot run here:
    several steps, Windows, several containers."""
    root = Path(folder)
    path = root / "task.toml"
    try:
        table = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as problem:
        raise DataError(f"{path} is no TOML: {problem}") from None
    environment = _table(table, "environment", path)
    agent, verifier = _table(table, "agent", path), _table(table, "verifier", path)
    named = _table(table, "task", path)
    if table.get("steps"):
        raise DataError(f"{path} has steps: tasks of several steps do not run here")
    if environment.get("os", "linux") != "linux":
        raise DataError(f"{path}: os is {environment['os']!r}; only linux runs here")
    files = read_files(root / "environment")
    compose = [name for name in files if name.startswith("docker-compose")]
    image = str(environment.get("docker_image") or "")
    if "Dockerfile" not in files and not image:
        has = f", but {compose[0]}" if compose else ""
        raise DataError(f"{root}/environment has no Dockerfile{has}; task.toml names no image")
    workdir = str(environment.get("workdir") or "")
    dockerfile = files.get("Dockerfile", b"").decode(errors="replace")
    mode = verifier.get("environment_mode")
    return FolderTask(
        name=str(named.get("name") or root.resolve().name),
        instruction=read_text(root / "instruction.md"),
        environment=files,
        image=image,
        workdir=workdir or workdir_of(dockerfile, "/app"),
        tests=read_files(root / "tests"),
        solution=read_files(root / "solution"),
        agent_seconds=_seconds(agent, path, 600.0),
        test_seconds=_seconds(verifier, path, 600.0),
        variables={k: str(v) for k, v in _table(verifier, "env", path).items()},
        separate=mode == "separate" or (mode is None and "environment" in verifier),
        settings=table,
    )


def write_harbor(task: FolderTask, folder: str | Path) -> Path:
    """Write a task's folder. Raises `DataError` if it exists and is not empty."""
    root = new_folder(folder)
    settings = dict(task.settings) if task.kind == "harbor" and task.settings else _settings(task)
    write_files(root, {"instruction.md": task.instruction.encode()})
    write_files(root, {"task.toml": toml_text(settings).encode()})
    for name in ("environment", "tests", "solution"):
        write_files(root / name, getattr(task, name))
    return root


def harbor_name(name: str, owner: str = "foldgym") -> str:
    """A name as Harbor wants it, `owner/name`, of any other."""
    if _NAME.fullmatch(name) and ".." not in name:
        return name
    short = re.sub(r"[^a-zA-Z0-9_-]+", "-", name).strip("-_") or "task"
    return f"{owner}/{short}"


def _settings(task: FolderTask) -> dict[str, Json]:
    environment: dict[str, Json] = {"network_mode": "no-network", "workdir": task.workdir}
    if task.image:
        environment["docker_image"] = task.image
    verifier: dict[str, Json] = {"timeout_sec": task.test_seconds}
    if task.variables:
        verifier["env"] = dict(task.variables)
    if task.separate:
        verifier["environment_mode"] = "separate"
    return {
        "schema_version": SCHEMA,
        "task": {"name": harbor_name(task.name)},
        "agent": {"timeout_sec": task.agent_seconds},
        "verifier": verifier,
        "environment": environment,
    }


def read_reward(text: str | None, table: str | None) -> dict[str, float]:
    """What a verifier wrote: reward.json (names to numbers), or else reward.txt (one number).

    Raises `DataError` for neither, and for what holds no finite numbers.
    """
    try:
        if table is not None:
            found: Any = json.loads(table)
            if not isinstance(found, dict) or not found:
                raise DataError(f"reward.json holds {table[:80]!r}, not names with numbers")
            named = cast("dict[str, Any]", found)
        elif text is not None:
            named = {"reward": float(text.strip())}
        else:
            raise DataError("there is neither reward.json nor reward.txt")
    except (ValueError, RecursionError):
        raise DataError(f"the reward is {(table or text or '')[:80]!r}, no number") from None
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"the reward {name!r} is {value!r}, no number")
        if not math.isfinite(value):
            raise DataError(f"the reward {name!r} is {value}, not finite")
    return {name: float(value) for name, value in named.items()}


def toml_text(table: Mapping[str, Json]) -> str:
    """A table as TOML. Raises `DataError` for what TOML has no word for."""
    lines: list[str] = []
    _write(table, (), lines)
    return "\n".join(lines).strip() + "\n"


def _write(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    plain = {k: v for k, v in table.items() if not isinstance(v, Mapping) and v is not None}
    if path and (plain or not table):
        lines += ["", f"[{'.'.join(path)}]"]
    lines += [f"{_key(name)} = {_value(value)}" for name, value in plain.items()]
    for name, value in table.items():
        if isinstance(value, Mapping):
            _write(cast("Mapping[str, Any]", value), (*path, _key(name)), lines)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(each) for each in cast("list[Any]", value)) + "]"
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value).items()
        inner = ", ".join(f"{_key(k)} = {_value(v)}" for k, v in items if v is not None)
        return "{" + inner + "}"
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise DataError(f"TOML has no word for {value!r}")


def _table(table: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    value = table.get(name, {})
    if not isinstance(value, dict):
        raise DataError(f"{path}: {name} is {value!r}, not a table")
    return cast("dict[str, Any]", value)


def _seconds(table: Mapping[str, Any], path: Path, default: float) -> float:
    value = table.get("timeout_sec")
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise DataError(f"{path}: timeout_sec is {value!r}, no number of seconds")
    return float(value)
