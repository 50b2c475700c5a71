"""A tokenizer's own chat template, run in a sandbox."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from foldgym.agents.renderers.template import schema
from foldgym.errors import ConfigError
from foldgym.types import Json, Message, Tool

TODAY = "2024-07-26"  # a date that stays, or the same run would have other ids tomorrow
_GENERATION = re.compile(r"\{%(-?)\s*(?:end)?generation\s*(-?)%\}")


class ChatTemplate:
    """Renders messages as transformers does, except that today is always the same day.

    `told` are further names that the template knows, such as `enable_thinking`. Raises
    `ConfigError` for a template that cannot be read or that refuses its messages.
    """

    def __init__(
        self, source: str, settings: Mapping[str, Json], told: Mapping[str, Json] | None = None
    ) -> None:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        world = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        world.filters["tojson"] = _tojson
        known: dict[str, Any] = {"raise_exception": _refuse, "strftime_now": _today}
        world.globals.update(known)
        self._errors = (TemplateError, _Refused, TypeError, ValueError, AttributeError, KeyError)
        source = _GENERATION.sub(lambda tag: f"{{#{tag[1]} {tag[2]}#}}", source)
        try:
            self._made = world.from_string(source)
        except TemplateError as problem:
            raise ConfigError(f"the chat template cannot be read: {problem}") from None
        self._told = dict(told or {})
        self.tokens = {
            key: str(value["content"] if isinstance(value, dict) else value)
            for key, value in settings.items()
            if key.endswith("_token") and value
        }

    def __call__(
        self, messages: Sequence[Message], tools: Sequence[Tool] = (), prompt: bool = True
    ) -> str:
        """The text; with `prompt`, up to where the next turn is sampled."""
        given: dict[str, Any] = {
            "messages": [_entry(message) for message in messages],
            "tools": [schema(tool) for tool in tools] or None,
            "add_generation_prompt": prompt,
            **self.tokens,
            **self._told,
        }
        try:
            return self._made.render(**given)
        except self._errors as problem:
            raise ConfigError(f"the chat template refuses its messages: {problem}") from None


class _Refused(Exception):
    """What `raise_exception` raises in a template."""


def _refuse(message: str) -> None:
    raise _Refused(message)


def _today(form: str) -> str:
    from datetime import date

    return date.fromisoformat(TODAY).strftime(form)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None, **how: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **how)


def _entry(message: Message) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.thinking:
        entry |= {"reasoning_content": message.thinking, "thinking": message.thinking}
    if message.name:
        entry["name"] = message.name
    if message.tool_calls:
        entry["tool_calls"] = [
            {
                "type": "function",
                "id": call.id,
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    return entry


def _arguments(text: str) -> Json:
    try:
        return json.loads(text)
    except ValueError:
        return text
