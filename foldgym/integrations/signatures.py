"""Our tools as Python methods with typed signatures and docstrings, for those who read these.

TRL and transformers take a tool's JSON schema from the type hints and the Google style docstring
of a function; here a function is made whose hints and docstring give the schema back.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import reduce
from operator import or_
from typing import Any, Literal, cast

from foldgym.errors import UserError
from foldgym.types import Json, Tool

_PLAIN: Mapping[str, Any] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}
Method = Callable[..., str]


def method_of(tool: Tool, run: Callable[[Any, str, dict[str, Json]], str]) -> Method:
    """A method that hands its arguments, whatever they are, to `run(self, name, arguments)`.

    What is wrong with arguments the environment says itself, so the signature is only for readers.
    Raises `UserError` for a parameter that no Python signature can name.
    """
    schema = tool.parameters
    properties: Mapping[str, Json] = schema.get("properties", {})
    required = schema.get("required", ())
    lines = [_line(tool.description) or tool.name]
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    hints: dict[str, Any] = {}
    if properties:
        lines += ["", "Args:"]
    for name, about in properties.items():
        hints[name] = hint_of(about, schema)
        default = inspect.Parameter.empty if name in required else about.get("default")
        try:
            parameters.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[name]
                )
            )
        except ValueError:
            raise UserError(
                f"tool {tool.name}: a Python method cannot have a parameter called {name!r}, which "
                "TRL's environments need; use `rollout_func` instead of `environment_factory`"
            ) from None
        lines.append(f"    {name}: {_line(about.get('description', '')) or name}")

    def method(self: Any, /, **arguments: Json) -> str:
        return run(self, tool.name, arguments)

    made: Any = method
    made.__name__ = made.__qualname__ = tool.name
    made.__doc__ = "\n".join(lines)
    made.__signature__ = inspect.Signature(parameters)
    made.__annotations__ = hints
    return made


def _line(text: str) -> str:
    """One line without what begins a section of a docstring, where transformers would cut it."""
    return re.sub(r"(Args|Returns|Raises):", r"\1 -", " ".join(text.split()))


def hint_of(schema: Mapping[str, Json], whole: Mapping[str, Json]) -> Any:
    """A type hint for values of a JSON schema; `whole` holds its `$defs`.

    What hints cannot say (bounds, patterns, the fields of an object) is left to the environment.
    """
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return hint_of(whole.get("$defs", {}).get(name, {}), whole)
    if "enum" in schema:
        return Literal[tuple(schema["enum"])]
    if "const" in schema:
        return Literal[schema["const"]]
    several = schema.get("anyOf") or schema.get("oneOf")
    if several:
        return _union([hint_of(each, whole) for each in several])
    kind = schema.get("type")
    if isinstance(kind, list):
        kinds = cast("list[str]", kind)
        return _union([hint_of({**schema, "type": each}, whole) for each in kinds])
    if kind == "array" and schema.get("items"):
        return list[hint_of(schema["items"], whole)]
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return dict[str, hint_of(schema["additionalProperties"], whole)]
    return _PLAIN.get(kind or "", Any)


def _union(hints: list[Any]) -> Any:
    return Any if Any in hints else reduce(or_, hints)
