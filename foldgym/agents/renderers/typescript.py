"""Tool schemas as TypeScript declarations, as GPT-OSS is shown them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import cast

from foldgym.types import Json, Tool

_SIMPLE = {"string": "string", "number": "number", "integer": "number", "boolean": "boolean"}


def namespace(name: str, tools: Sequence[Tool]) -> str:
    """`namespace functions { type search = (_: { ... }) => any; }` of all tools."""
    body = "".join(_declared(tool) for tool in tools)
    return f"## {name}\n\nnamespace {name} {{\n\n{body}}} // namespace {name}"


def _declared(tool: Tool) -> str:
    properties = cast("Mapping[str, Mapping[str, Json]]", tool.parameters.get("properties", {}))
    required = tool.parameters.get("required") or ()
    head = f"// {tool.description}\ntype {tool.name} = "
    if not properties:
        return f"{head}() => any;\n\n"
    lines = [_parameter(key, each, required) for key, each in properties.items()]
    return f"{head}(_: {{\n{''.join(lines)}}}) => any;\n\n"


def _parameter(name: str, spec: Mapping[str, Json], required: Sequence[str]) -> str:
    told = f"// {spec['description']}\n" if spec.get("description") else ""
    line = f"{told}{name}{'' if name in required else '?'}: {type_of(spec, required)}"
    if "default" in spec:
        default, one_of = spec["default"], spec.get("oneOf")
        if spec.get("enum") or one_of:
            line += f"{'// default: ' if not spec.get('enum') else ', // default: '}{default}"
        else:
            line += f", // default: {json.dumps(default, ensure_ascii=False)}"
    return f"{line},\n"


def type_of(spec: Mapping[str, Json], required: Sequence[str] = ()) -> str:
    """The type of one parameter, "any" for what the template has no words for."""
    kind = spec.get("type")
    null = " | null" if spec.get("nullable") else ""
    if kind == "array":
        return _array(spec, required) + null
    if isinstance(kind, list) and kind:
        kinds = cast("list[str]", kind)
        return " | ".join(kinds)
    if spec.get("oneOf"):
        variants = cast("list[Mapping[str, Json]]", spec["oneOf"])
        if len(variants) > 1 and any(each.get("type") == "object" for each in variants):
            return "any"
        return " | ".join(_variant(each, required) for each in variants)
    if kind == "string":
        if spec.get("enum"):
            return '"' + '" | "'.join(str(each) for each in spec["enum"]) + '"'
        return f"string{null}"
    if kind == "object":
        return _object(spec)
    return _SIMPLE.get(str(kind), "any")


def _array(spec: Mapping[str, Json], required: Sequence[str]) -> str:
    items = cast("Mapping[str, Json]", spec.get("items") or {})
    if not items:
        return "any[]"
    simple = _SIMPLE.get(str(items.get("type")))
    inner = simple or type_of(items, required)
    return "any[]" if inner == "object | object" or len(inner) > 50 else f"{inner}[]"


def _variant(spec: Mapping[str, Json], required: Sequence[str]) -> str:
    told = f"// {spec['description']}" if spec.get("description") else ""
    default = f"// default: {json.dumps(spec['default'])}" if "default" in spec else ""
    return type_of(spec, required) + told + default


def _object(spec: Mapping[str, Json]) -> str:
    properties = cast("Mapping[str, Mapping[str, Json]]", spec.get("properties") or {})
    if not properties:
        return "object"
    required = spec.get("required") or ()
    parts = [
        f"{key}{'' if key in required else '?'}: {type_of(each, required)}"
        for key, each in properties.items()
    ]
    return "{\n" + ", ".join(parts) + "}"
