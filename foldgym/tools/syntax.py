"""What a model writes: text to tool calls and back, in one compact line or as JSON.

    search pastan lies                 the rest of the line binds to the one parameter that fits
    search {"query": "pastan lies"}    the same with a JSON object
    {"name": "search", "arguments": {"query": "pastan lies"}}

Text that starts with no tool's name is plain content, not a problem.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

from foldgym.tools.arguments import (
    Mistake,
    decoder,
    kinds_of,
    one_line,
    printable,
    read_object,
    short,
    usage,
)
from foldgym.types import Json, Message, Tool, ToolCall

MAX_CALLS = 32
"""Tool calls in one message."""

_WORD = re.compile(r"\S+")
_INTEGER = re.compile(r"[+-]?\d{1,100}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d{1,100}\.?\d{0,100}|\.\d{1,100})([eE][+-]?\d{1,2})?", re.ASCII)


class Parsed(NamedTuple):
    """A message, and why its text could not be read (one `error: ...` line; empty if it could)."""

    message: Message
    problem: str = ""


def call(tool_name: str, /, **arguments: Json) -> Message:
    """The assistant message that makes one call: `call("search", query="pastan lies")`."""
    written = json.dumps(arguments, ensure_ascii=False)
    return Message("assistant", tool_calls=(ToolCall(tool_name, written, "call_0"),))


def parse_action(text: str, tools: Sequence[Tool]) -> Parsed:
    """Read what a model wrote; never raises, whatever the text.

    Calls are numbered `call_0`, `call_1`, ... within the message. Lines between calls become the
    message's content. With a problem the message holds the text and no calls.
    """
    text = printable(text)
    body = text.strip()
    try:
        if body[:1] in ("{", "["):
            return _parse_json(text, body, tools)
        return _parse_lines(text, body, tools)
    except Mistake as mistake:
        listing = "; ".join(usage(tool) for tool in tools) or "none"
        return Parsed(Message("assistant", text), f"error: {mistake}. Tools: {listing}")


def _parse_lines(text: str, body: str, tools: Sequence[Tool]) -> Parsed:
    by_name = {tool.name: tool for tool in tools}
    first = _WORD.match(body)
    if first is None or first.group() not in by_name:
        return Parsed(Message("assistant", text))
    calls: list[tuple[str, str]] = []
    said: list[str] = []
    at = 0
    while at < len(body):
        end = body.find("\n", at)
        end = len(body) if end < 0 else end
        word = _WORD.match(body, at, end)
        tool = by_name.get(word.group()) if word else None
        if tool is None or word is None:
            said.append(body[at:end])
        else:
            start = word.end()
            closing = _json_end(body, start)
            if closing:
                end = body.find("\n", closing)
                end = len(body) if end < 0 else end
            rest = body[start:end].strip()
            calls.append((tool.name, rest if rest.startswith("{") else bound(tool, rest)))
            _limit(calls)
        at = end + 1
    return _made("\n".join(said).strip(), calls)


def _limit(calls: Sequence[object]) -> None:
    if len(calls) > MAX_CALLS:
        raise Mistake(f"more than {MAX_CALLS} tool calls in one message")


def _made(content: str, calls: Sequence[tuple[str, str]]) -> Parsed:
    numbered = tuple(
        ToolCall(name, arguments, f"call_{index}") for index, (name, arguments) in enumerate(calls)
    )
    return Parsed(Message("assistant", content, tool_calls=numbered))


def _json_end(body: str, start: int) -> int:
    """Where the JSON object that starts here ends, over as many lines as it takes; 0 if none."""
    brace = _WORD.search(body, start)
    if brace is None or body[brace.start()] != "{" or "\n" in body[start : brace.start()]:
        return 0
    try:
        return decoder.raw_decode(body, brace.start())[1]
    except (ValueError, RecursionError):
        return 0


def bound(tool: Tool, rest: str) -> str:
    """The JSON arguments that the rest of a compact line stands for: `bound(search, "Ada")`."""
    if not rest:
        return "{}"
    name = _compact_parameter(tool)
    if name is None:
        return json.dumps(rest, ensure_ascii=False)  # no object: the tool's reply says so
    schema = tool.parameters["properties"][name]
    return json.dumps({name: as_value(rest, schema)}, ensure_ascii=False)


def _compact_parameter(tool: Tool) -> str | None:
    """The only required parameter, else the first that takes a string, else the only one."""
    properties: Mapping[str, Json] = tool.parameters.get("properties", {})
    required = [name for name in tool.parameters.get("required", ()) if name in properties]
    if len(required) == 1:
        return required[0]
    for name, schema in properties.items():
        if "string" in kinds_of(schema):
            return name
    return next(iter(properties)) if len(properties) == 1 else None


def as_value(rest: str, schema: Mapping[str, Json]) -> Json:
    """A value that was written as bare text: text where the schema takes text, else as JSON."""
    kinds = kinds_of(schema)
    if "string" in kinds:
        return rest
    if "integer" in kinds and _INTEGER.fullmatch(rest):
        return int(rest)
    if "number" in kinds and _NUMBER.fullmatch(rest):
        return float(rest)
    if "boolean" in kinds and rest.lower() in ("true", "false"):
        return rest.lower() == "true"
    try:
        return decoder.decode(rest)
    except (ValueError, RecursionError):
        return rest


def _parse_json(text: str, body: str, tools: Sequence[Tool]) -> Parsed:
    """One call object, a list of them, or several after each other."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(body) and body[at] in "{[":
        try:
            value, at = decoder.raw_decode(body, at)
        except (ValueError, RecursionError) as problem:
            if not found and not _means_call(body, tools):
                return Parsed(Message("assistant", text))
            raise Mistake(_why(problem)) from None
        calls = _call_objects(value)
        if calls is None and not found:
            return Parsed(Message("assistant", text))
        if calls is None:
            raise Mistake(f"not a tool call: {short(value)}")
        found += calls
        _limit(found)
        space = re.compile(r"[\s,;]*").match(body, at)
        at = space.end() if space else at
    return _made(body[at:].strip(), found)


def _means_call(body: str, tools: Sequence[Tool]) -> bool:
    """Whether broken JSON was meant as a call: it has the key, or the name of a tool in quotes."""
    head = body[:2000]
    return '"name"' in head or any(f'"{tool.name}"' in head for tool in tools)


def _why(problem: Exception) -> str:
    if isinstance(problem, json.JSONDecodeError):
        return f"broken JSON at character {problem.pos}: {one_line(problem.msg)}"
    return str(problem) if isinstance(problem, Mistake) else "the JSON is nested too deeply"


def _call_objects(value: Json) -> list[tuple[str, str]] | None:
    """Names and arguments, or None if the JSON is something else."""
    items = cast("list[Json]", value) if isinstance(value, list) else [value]
    found: list[tuple[str, str]] = []
    for item in items:
        if not isinstance(item, dict):
            return None
        entry = cast("dict[str, Json]", item)
        entry = entry if "name" in entry else entry.get("function")  # as chat APIs nest it
        if not isinstance(entry, dict):
            return None
        entry = cast("dict[str, Json]", entry)
        name = entry.get("name")
        arguments = entry.get("arguments", entry.get("parameters", {}))
        if not isinstance(name, str) or not name:
            return None
        if not isinstance(arguments, str):
            try:
                arguments = json.dumps(arguments, ensure_ascii=False)
            except RecursionError:
                raise Mistake("the JSON is nested too deeply") from None
        found.append((printable(name), printable(arguments)))
    return found or None


def format_call(call: ToolCall, tools: Sequence[Tool]) -> str:
    """The text that `parse_action` reads back as this call.

    Compact when that round-trips; with a JSON object otherwise; the bare JSON form for calls of
    unknown tools or with arguments that are no JSON object.
    """
    tool = next((tool for tool in tools if tool.name == call.name), None)
    wanted = _object(call.arguments)
    if tool is not None and wanted is not None:
        compact = _compact(tool, wanted)
        candidates = [compact] if compact is not None else []
        candidates.append(f"{call.name} {call.arguments.strip() or '{}'}")
        for text in candidates:
            made = parse_action(text, tools).message
            if made.content == "" and len(made.tool_calls) == 1:
                read = made.tool_calls[0]
                if read.name == call.name and same_json(_object(read.arguments), wanted):
                    return text
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)


def _compact(tool: Tool, arguments: Mapping[str, Json]) -> str | None:
    if not arguments:
        return tool.name
    name = _compact_parameter(tool)
    if set(arguments) != {name}:
        return None
    value = arguments[cast("str", name)]
    return f"{tool.name} {value if isinstance(value, str) else json.dumps(value)}"


def _object(text: str) -> dict[str, Json] | None:
    try:
        return read_object(text, "")
    except Mistake:
        return None


def same_json(left: Json, right: Json) -> bool:
    """Equality that tells 1 from 1.0 and from true, as a schema does."""
    return json.dumps(left, sort_keys=True) == json.dumps(right, sort_keys=True)
