"""The three JSON memories of DeepAgent, and what is wrong with a text that should be one."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeAlias, cast

Shape: TypeAlias = "type | tuple[float, float] | frozenset[str] | list[Any] | dict[str, Any]"

EPISODE: Shape = {
    "task_description": str,
    "key_events": [{"step": str, "description": str, "outcome": str}],
    "current_progress": str,
}
WORKING: Shape = {
    "immediate_goal": str,
    "current_challenges": str,
    "next_actions": [
        {"type": frozenset({"tool_call", "planning", "decision"}), "description": str}
    ],
}
TOOLS: dict[str, Any] = {
    "tools_used": [
        {
            "tool_name": str,
            "success_rate": (0.0, 1.0),
            "effective_parameters": [str],
            "common_errors": [str],
            "response_pattern": str,
            "experience": str,
        }
    ],
    "derived_rules": [str],
}
SHAPES: Mapping[str, Shape] = {"episode": EPISODE, "working": WORKING, "tool": TOOLS}


def shapes_for(tools: Collection[str]) -> Mapping[str, Shape]:
    """The shapes of an episode with these tools: its tool memory may speak of no others."""
    used = {**TOOLS["tools_used"][0], "tool_name": frozenset(tools) if tools else str}
    return {**SHAPES, "tool": {**TOOLS, "tools_used": [used]}}


_FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL)


def wrong(text: str, shape: Shape) -> str:
    """What is wrong with a written memory, in words for its writer; empty if nothing is.

    The JSON may stand in a fenced block. Keys that the shape does not know are let through.
    """
    fenced = _FENCE.search(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError) as problem:
        return f"it is not JSON: {problem}"
    return _wrong(value, shape, "it")


def _wrong(value: Any, shape: Shape, where: str) -> str:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{where} should be an object"
        given = cast("dict[str, Any]", value)
        problems = (
            _wrong(given[key], inner, key) if key in given else f"{where} lacks {key}"
            for key, inner in shape.items()
        )
    elif isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} should be a list"
        each = cast("list[Any]", value)
        problems = (_wrong(item, shape[0], f"{where}.{place}") for place, item in enumerate(each))
    elif isinstance(shape, frozenset):
        fits = isinstance(value, str) and value in shape
        problems = ("" if fits else f"{where} should be one of {', '.join(sorted(shape))}",)
    elif isinstance(shape, tuple):
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = number and shape[0] <= value <= shape[1]
        problems = ("" if fits else f"{where} should be a {_range(shape)}",)
    else:
        fits = isinstance(value, shape)
        problems = ("" if fits else f"{where} should be a {_NAMES[shape]}",)
    return next((problem for problem in problems if problem), "")


_NAMES: Mapping[type, str] = {str: "text"}


def _range(shape: tuple[float, float]) -> str:
    return f"number from {shape[0]:g} to {shape[1]:g}"


def describe(shape: Shape) -> str:
    """The shape as JSON with a word for each value, for the instruction to its writer."""

    def words(part: Shape) -> Any:
        if isinstance(part, dict):
            return {key: words(inner) for key, inner in part.items()}
        if isinstance(part, list):
            return [words(part[0])]
        if isinstance(part, frozenset):
            return "|".join(sorted(part))
        if isinstance(part, tuple):
            return _range(part)
        return _NAMES[part]

    return json.dumps(words(shape))
