"""TOML text and dotted overrides to a checked run, and a run back to TOML; errors are one line."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from foldgym.config.chat import ChatSection
from foldgym.config.engines import EngineSection
from foldgym.config.models import WHOLE, MemorySection, ScaffoldSection, Section
from foldgym.config.runs import Run
from foldgym.errors import ConfigError, DataError

R = TypeVar("R", bound=Run)
S = TypeVar("S", bound=Section)


def load(kind: type[R], path: str | Path, overrides: Sequence[str] = ()) -> R:
    """Read a run file. Raises `DataError` (unreadable) or `ConfigError` (wrong), one line each."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as problem:
        raise DataError(f"cannot read run file {path}: {problem.strerror or problem}") from None
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: not UTF-8 text at byte {problem.start}") from None
    return parse(kind, text, overrides, source=str(path))


def parse(
    kind: type[R],
    text: str | Mapping[str, Any] = "",
    overrides: Sequence[str] = (),
    *,
    source: str = "run file",
) -> R:
    """`parse(TrainRun, text, ["optim.lr=1e-4", "envs.0.weight=2"])`; `text` may be a table too."""
    if isinstance(text, str):
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as problem:
            raise ConfigError(f"{source}: not valid TOML: {_at(problem, text)}") from None
    else:
        table = _copy(text)
    for override in overrides:
        _override(table, override)
    return _validate(kind, table, source)


def parse_memory(use: str, options: Mapping[str, Any]) -> MemorySection:
    """A `[memory]` section by itself. Raises `ConfigError`, as `parse` does."""
    return _validate(MemorySection, {"use": use, **options}, "memory")


def parse_scaffold(use: str, options: Mapping[str, Any]) -> ScaffoldSection:
    """A `[scaffold]` section by itself. Raises `ConfigError`, as `parse` does."""
    return _validate(ScaffoldSection, {"use": use, **options}, "scaffold")


def parse_engine(use: str, options: Mapping[str, Any]) -> EngineSection:
    """An `[engine]` section by itself. Raises `ConfigError`, as `parse` does."""
    return _validate(EngineSection, {"use": use, **options}, "engine")


def parse_chat(options: Mapping[str, Any]) -> ChatSection:
    """How a chat API is asked. Raises `ConfigError`, as `parse` does."""
    return _validate(ChatSection, options, "--chat")


def dump(run: Run) -> str:
    """TOML text that parses to an equal run; every option that has an effect is written out."""
    skip = {key for key, _ in run.inert()}
    lines: list[str] = []
    _emit(_plain(run, skip, ""), "", lines)
    return "\n".join(lines).strip() + "\n"


# ---------------------------------------------------------------- overrides


class _Said(str):
    """A text that an override gave."""

    __slots__ = ()


def _override(table: dict[str, Any], text: str) -> None:
    key, equals, raw = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts):
        raise ConfigError(f"override {text!r}: write it as key=value, for example optim.lr=1e-4")
    here: Any = table
    for depth, part in enumerate(parts[:-1]):
        where = ".".join(parts[: depth + 1])
        following: Any = [] if parts[depth + 1].isdigit() else {}
        if isinstance(here, list):
            position = _position(here, part, text)
            if position == len(here):
                here.append(following)
            here = here[position]
        else:
            if isinstance(here.get(part), _Said):  # an earlier override named a plug-in
                here[part] = {"use": str(here[part])}
            here = here.setdefault(part, following)
        if not isinstance(here, (dict, list)):
            raise ConfigError(f"override {text!r}: {where} is {here!r}, not a section")
    value = parse_value(raw.strip())
    value = _Said(value) if isinstance(value, str) else value
    if isinstance(here, list):
        position = _position(here, parts[-1], text)
        here[position : position + 1] = [value]
    elif isinstance(value, _Said) and isinstance(section := here.get(parts[-1]), dict):
        section["use"] = value  # as `Use` reads a text; the options stay
    else:
        here[parts[-1]] = value


def _position(items: list[Any], part: str, text: str) -> int:
    if part.isdigit() and int(part) <= len(items):
        return int(part)
    raise ConfigError(f"override {text!r}: {part!r} is no index; the list has {len(items)} items")


def parse_value(raw: str) -> Any:
    """One value as a run file would have it; what is no TOML is text."""
    try:
        parsed = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        return raw
    return parsed["value"] if list(parsed) == ["value"] else raw


# ---------------------------------------------------------------- errors


def _validate(kind: type[S], table: Mapping[str, Any], source: str) -> S:
    try:
        # through JSON, so that TOML's arrays are taken for tuples while all else stays strict
        return kind.model_validate_json(json.dumps(table, default=str))
    except ValidationError as problem:
        errors = problem.errors(include_url=False)
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ConfigError(f"{source}: {_line(kind, errors[0])}{more}") from None


def _at(problem: tomllib.TOMLDecodeError, text: str) -> str:
    message = str(problem)
    if "at end of document" in message:
        lines = text.splitlines() or [""]
        message = message.replace(
            "at end of document", f"at line {len(lines)}, column {len(lines[-1]) + 1}"
        )
    return message.replace("(", "").replace(")", "")


def _line(kind: type[BaseModel], error: ErrorDetails) -> str:
    """One pydantic error as `dotted.key: what is wrong; what is allowed`."""
    if error["type"] == WHOLE:
        return error["msg"]
    location = list(error["loc"])
    where = ".".join(map(str, location))
    value, allowed = error["input"], error["msg"][:1].lower() + error["msg"][1:]
    if error["type"] == "extra_forbidden":
        known = sorted(_section(kind, location[:-1]))
        near = get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        return f"{where}: unknown key{hint} known: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{where}: is required and not given"
    return f"{where}: {_short(value)} is not allowed: {allowed}"


def _section(kind: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Names of the fields of the section that a location of pydantic leads to."""
    for part in location:
        if isinstance(part, int) or part not in kind.model_fields:
            continue
        annotation = kind.model_fields[part].annotation
        for option in (annotation, *get_args(annotation)):
            if isinstance(option, type) and issubclass(option, BaseModel):
                kind = option
    return list(kind.model_fields)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


# ---------------------------------------------------------------- back to TOML


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(item) for item in value]
    return value


def _plain(value: Any, skip: set[str], where: str) -> Any:
    """A run as tables and lists, without options that are inert or absent."""
    if isinstance(value, BaseModel):
        fields = {name: getattr(value, name) for name in type(value).model_fields}
        value = fields | dict(value.model_extra or {})
    if isinstance(value, Mapping):
        inside = {key: f"{where}.{key}".lstrip(".") for key in value}
        return {
            key: _plain(item, skip, inside[key])
            for key, item in value.items()
            if item is not None and inside[key] not in skip
        }
    if isinstance(value, (list, tuple)):
        return [_plain(item, skip, f"{where}.{index}") for index, item in enumerate(value)]
    return value


def _emit(table: Mapping[str, Any], where: str, lines: list[str]) -> None:
    tables = {key: item for key, item in table.items() if _is_table(item)}
    lines.extend(f"{_key(key)} = {_toml(item)}" for key, item in table.items() if key not in tables)
    for key, item in tables.items():
        path = f"{where}.{_key(key)}".lstrip(".")
        for header, inner in (
            [(f"[{path}]", item)] if isinstance(item, dict) else [(f"[[{path}]]", i) for i in item]
        ):
            lines.extend(["", header])
            _emit(inner, path, lines)


def _is_table(value: Any) -> bool:
    if isinstance(value, dict):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(i, dict) for i in value)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    # TOML basic strings take JSON's escapes; only DEL must be escaped on top of them
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    bare = key and all(c.isascii() and (c.isalnum() or c in "-_") for c in key)
    return key if bare else json.dumps(key, ensure_ascii=False).replace("\x7f", "\\u007f")
