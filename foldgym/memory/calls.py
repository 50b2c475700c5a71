"""What memories with tools share: a call's arguments, read as suspiciously as a world reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from foldgym.tools import call_tool
from foldgym.types import Json, Log, Tool, ToolCall


def offer(name: str, description: str, required: Mapping[str, Json]) -> Tool:
    """A tool whose parameters are all required: `offer("note", "...", {"text": "string"})`."""
    properties = {
        key: {"type": kind} if isinstance(kind, str) else kind for key, kind in required.items()
    }
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return Tool(name, description, schema)


def read(tool: Tool, call: ToolCall) -> tuple[dict[str, Any], str]:
    """Checked arguments and "", or nothing and one `error:` line for the model."""
    given: dict[str, Any] = {}

    def take(**checked: Any) -> str:
        given.update(checked)
        return ""

    problem = call_tool(replace(tool, run=take), call.arguments)
    return given, problem


def speaking(log: Log) -> int:
    """The turn of the newest model event, whose call a memory is answering."""
    return next(event.turn for event in reversed(log) if event.kind == "model")
