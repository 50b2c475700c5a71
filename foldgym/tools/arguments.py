"""Arguments that a model wrote: read with suspicion, answered in one readable line, then run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast

from foldgym.tools.schema import ToolFunction
from foldgym.types import Json, Tool

MAX_ARGUMENTS = 16_384
"""Characters of one call's arguments."""
MAX_DEPTH = 16
"""Lists and objects inside each other in one call's arguments."""
MAX_DIGITS = 100
"""Digits of one number."""

_PYTHON_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


class Mistake(ValueError):
    """What a model did wrong, in words for the model; never leaves `foldgym.tools`."""


def call_tool(tool: Tool, arguments: str) -> str:
    """Check `arguments` (JSON text), run the tool and return its result as text.

    Whatever is wrong with the arguments comes back as one line that starts with `error:` and ends
    with the usage. An exception of the tool itself propagates: it is a bug, not a mistake.
    Results that are no text are written as JSON; None becomes "done".
    """
    if tool.run is None:
        raise TypeError(f"tool {tool.name} has no function to run here")
    try:
        checked = check_arguments(tool, arguments)
    except Mistake as mistake:
        return f"error: {mistake}. Usage: {usage(tool)}"
    return as_text(tool.run(**checked))


def check_arguments(tool: Tool, text: str) -> dict[str, Any]:
    """Typed arguments; raises `Mistake`."""
    given = read_object(text, tool.name)
    properties = tool.parameters.get("properties", {})
    for name in given:
        if name not in properties and tool.parameters.get("additionalProperties") is not True:
            raise Mistake(f"{tool.name} has no parameter {short(name)}{nearest(name, properties)}")
    for name in tool.parameters.get("required", ()):
        if name not in given:
            raise Mistake(f"{tool.name}: {name} is missing")
    if not isinstance(tool, ToolFunction):
        return _check_plain(tool, given)
    from pydantic import ValidationError

    try:
        return tool.checked(given)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:60]
        said = first["msg"][:1].lower() + first["msg"][1:]
        raise Mistake(
            f"{tool.name}: {one_line(where)}: {one_line(said, 160)}, got {short(first['input'])}"
        ) from None


def _check_plain(tool: Tool, given: dict[str, Json]) -> dict[str, Any]:
    """The top level of a hand-written schema; what lies deeper is the tool's own affair."""
    for name, value in given.items():
        declared = tool.parameters.get("properties", {}).get(name, {})
        kinds = declared.get("type")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if kinds and not any(_is_a(value, kind) for kind in kinds):
            raise Mistake(
                f"{tool.name}: {name}: should be {' or '.join(kinds)}, got {short(value)}"
            )
        if "enum" in declared and value not in declared["enum"]:
            choices = ", ".join(str(choice) for choice in declared["enum"])
            raise Mistake(f"{tool.name}: {name}: should be one of {choices}, got {short(value)}")
    return given


def _is_a(value: Json, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _PYTHON_TYPES.get(kind, object))


def usage(tool: Tool) -> str:
    """How to call a tool, in the compact syntax where there is one: `search <query>`."""
    properties: Mapping[str, Json] = tool.parameters.get("properties", {})
    required = tool.parameters.get("required", ())
    if not properties:
        return tool.name
    if len(properties) == 1:
        (name,) = properties
        kind = _kind(properties[name])
        inside = f"<{name}>" if kind == "string" else f"<{name}: {kind}>"
        return f"{tool.name} {inside}" if name in required else f"{tool.name} [{inside}]"
    parts = (
        f'"{name}"{"" if name in required else "?"}: {_kind(schema)}'
        for name, schema in properties.items()
    )
    return f"{tool.name} {{{', '.join(parts)}}}"


def _kind(schema: Mapping[str, Json]) -> str:
    if "enum" in schema:
        return "|".join(str(choice) for choice in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kinds = kinds_of(schema)
    return " or ".join(kinds) if kinds else "any"


def kinds_of(schema: Mapping[str, Json]) -> tuple[str, ...]:
    """The JSON types a schema allows at its top; empty if it does not say."""
    kinds = schema.get("type", ())
    if isinstance(kinds, str):
        return (kinds,)
    for option in schema.get("anyOf", ()):
        kinds = (*kinds, *kinds_of(option))
    return tuple(kinds)


def unknown_tool(name: str, tools: Sequence[Tool]) -> str:
    """The reply to a call of a tool that does not exist."""
    known = [tool.name for tool in tools]
    listing = "; ".join(usage(tool) for tool in tools) or "none"
    return f"error: there is no tool {short(name)}{nearest(name, known)}. Tools: {listing}"


def nearest(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """` (did you mean 'search'?)`, or nothing."""
    near = get_close_matches(name[:64], list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


# ------------------------------------------------------------------ reading and writing


def _pairs(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Mistake(f"the key {short(twice)} appears twice")
    return found


def _whole(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise Mistake(f"a number of {len(digits)} digits is too long, at most {MAX_DIGITS}")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits[:1000])
    if not math.isfinite(value):
        raise Mistake(f"the number {short(digits)} is too large")
    return value


def _constant(name: str) -> float:
    raise Mistake(f"{name} is not a number that can be used")


decoder = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_whole, parse_float=_real, parse_constant=_constant
)
"""JSON as we accept it: no key twice, no NaN, no endless numbers (`Mistake` otherwise)."""


def read_object(text: Any, name: str) -> dict[str, Json]:
    """The JSON object of a call's arguments; raises `Mistake`. Nothing at all counts as `{}`."""
    if not isinstance(text, str):
        raise Mistake(f"{name}: the arguments must be JSON text")
    if len(text) > MAX_ARGUMENTS:
        raise Mistake(
            f"the arguments of {name} are {len(text)} characters long, at most {MAX_ARGUMENTS}"
        )
    text = text.strip()
    if not text:
        return {}
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError as problem:
        raise Mistake(
            f"{name}: broken JSON at character {problem.pos}: {one_line(problem.msg)}"
        ) from None
    except Mistake as mistake:
        raise Mistake(f"{name}: {mistake}") from None
    except RecursionError:
        raise Mistake(f"{name}: the JSON is nested too deeply, at most {MAX_DEPTH}") from None
    if not isinstance(value, dict):
        raise Mistake(f"{name}: the arguments must be a JSON object, got {short(value)}")
    return cast("dict[str, Json]", tidy(value, name))


def tidy(value: Json, name: str, depth: int = 1) -> Json:
    """The same value without lone surrogates, which no UTF-8 text can hold; bounded in depth."""
    if isinstance(value, str):
        return printable(value)
    if depth > MAX_DEPTH and isinstance(value, dict | list):
        raise Mistake(f"{name}: the JSON is nested too deeply, at most {MAX_DEPTH}")
    if isinstance(value, dict):
        items = cast("dict[str, Json]", value).items()
        return {printable(key): tidy(each, name, depth + 1) for key, each in items}
    if isinstance(value, list):
        return [tidy(each, name, depth + 1) for each in cast("list[Json]", value)]
    return value


def printable(text: str) -> str:
    """Text that can be written as UTF-8: a lone surrogate becomes `?`."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def one_line(text: str, limit: int = 80) -> str:
    """Text squeezed into one line of at most `limit` characters."""
    line = " ".join(printable(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 3] + "..."


def short(value: Json) -> str:
    """A value as JSON, for an error message."""
    if isinstance(value, str):
        return json.dumps(one_line(value, 40), ensure_ascii=False)
    try:
        return one_line(json.dumps(value, ensure_ascii=False, default=str), 48)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"


def as_text(value: Any) -> str:
    """What a tool returned, as text for a model."""
    if value is None:
        return "done"
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return printable(value)
