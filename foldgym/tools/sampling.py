"""Random calls that fit a tool's schema: what a random player does, and what spaces sample."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence

from foldgym.tools.arguments import kinds_of
from foldgym.types import Json, Tool, ToolCall

_WORDS = ("a", "key", "north", "red", "7", "the", "box")


def random_call(tools: Sequence[Tool], words: Sequence[str], rng: random.Random) -> ToolCall:
    """A random tool with random arguments of the right types.

    Text is one or two of `words` (usually those of the conversation so far), numbers are numbers
    among them or small, choices are drawn from the schema. Raises `ValueError` without tools.
    """
    if not tools:
        raise ValueError("a random call needs at least one tool")
    tool = rng.choice(tools)
    required = tool.parameters.get("required", ())
    arguments = {
        name: _value(schema, words or _WORDS, rng)
        for name, schema in tool.parameters.get("properties", {}).items()
        if name in required or rng.random() < 0.5
    }
    return ToolCall(tool.name, json.dumps(arguments, ensure_ascii=False), "call_0")


def _value(schema: Mapping[str, Json], words: Sequence[str], rng: random.Random) -> Json:
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kinds = kinds_of(schema)
    kind = rng.choice(kinds) if kinds else "string"
    if kind in ("integer", "number"):
        return _number(schema, words, rng, whole=kind == "integer")
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "null":
        return None
    if kind == "array":
        each = schema.get("items", {"type": "string"})
        return [_value(each, words, rng) for _ in range(rng.randint(0, 3))]
    if kind == "object":
        return {
            name: _value(each, words, rng) for name, each in schema.get("properties", {}).items()
        }
    return " ".join(rng.choice(words) for _ in range(rng.randint(1, 2)))


def _number(
    schema: Mapping[str, Json], words: Sequence[str], rng: random.Random, *, whole: bool
) -> float:
    bounded = "minimum" in schema or "maximum" in schema
    seen = [int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 10]
    if seen and not bounded and rng.random() < 0.5:
        return rng.choice(seen)
    low = int(schema.get("minimum", 0))
    high = max(low, int(schema.get("maximum", low + 100)))
    return rng.randint(low, high) if whole else round(rng.uniform(low, high), 3)
