"""Published chat templates as TRL ships them, and conversations as episodes log them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from foldgym.agents.recorder import encode_view
from foldgym.agents.renderers import Renderer
from foldgym.memory import FullHistory
from foldgym.testing.families import FAMILIES, Family, backend
from foldgym.tools import tool
from foldgym.types import Ids, Log, Memory, Message, Tool


@tool
def search(query: str, limit: int = 3) -> str:
    """Find documents.

    Args:
        query: what to look for, as <b>words</b>
        limit: how many
    """
    return query * limit


@tool
def stop() -> str:
    """Stop here."""
    return "stopped"


__all__ = [
    "FAMILIES",
    "TOOLS",
    "Chat",
    "Family",
    "backend",
    "published",
    "reference",
    "template_of",
]

TOOLS: tuple[Tool, ...] = (search, stop)


def template_of(family: Family) -> str:
    """The published template as TRL ships it; skips without TRL."""
    trl = pytest.importorskip("trl", reason="the published templates come with trl")
    return (Path(trl.__file__).parent / "chat_templates" / f"{family.template}.jinja").read_text()


def reference(family: Family) -> PreTrainedTokenizerFast:
    """The same vocabulary in transformers, with the published template."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend(family), bos_token=family.bos or None, eos_token=family.eos or None
    )
    today = 'strftime_now("%Y-%m-%d")'  # GPT-OSS is told the date
    made.chat_template = template_of(family).replace(today, '"2024-07-26"')
    return made


def as_dicts(messages: Sequence[Message], family: Family) -> list[dict[str, Any]]:
    """Messages as chat templates take them."""
    as_text = family.renderer == "deepseek"  # this template adds arguments to text
    shown: list[dict[str, Any]] = []
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.text}
        if message.thinking:
            key = "thinking" if family.renderer == "gpt-oss" else "reasoning_content"
            entry[key] = message.thinking
        if message.tool_calls:
            entry["tool_calls"] = [
                {
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": call.arguments if as_text else json.loads(call.arguments),
                    },
                }
                for call in message.tool_calls
            ]
        shown.append(entry)
    return shown


def published(
    made: PreTrainedTokenizerFast,
    family: Family,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    prompt: bool = True,
) -> str:
    """What the published template renders."""
    from foldgym.agents.renderers.template import schema

    return made.apply_chat_template(
        as_dicts(messages, family),
        tools=[schema(each) for each in tools] or None,
        tokenize=False,
        add_generation_prompt=prompt,
        **family.kwargs,
    )  # type: ignore[return-value]


class Chat:
    """A conversation as an episode logs it: every message once, in order.

    `sampled` are the ids of every turn, `contexts` what was shown before each.
    """

    def __init__(
        self, renderer: Renderer, tools: Sequence[Tool], memory: Memory | None = None
    ) -> None:
        self.renderer, self.tools = renderer, tuple(tools)
        self.memory = memory or FullHistory()
        self.log = Log()
        self.turn = -1
        self.sampled: list[Ids] = []
        self.contexts: list[Ids] = []

    def open(self, messages: Sequence[Message], kit: Any = None) -> None:
        ids = self.renderer.open(messages, self.tools)
        self.log.append("task", ids, "env", messages=tuple(messages))
        self.state = self.memory.start(self.log, kit)

    def shown(self) -> Ids:
        """The prompt of the next turn."""
        return encode_view(self.memory.view(self.log, self.state), self.log, self.renderer)

    def ended(self) -> Ids:
        """All that happened, the last turn closed and nothing opened."""
        prompt, header = self.shown(), self.renderer.header()
        assert prompt[len(prompt) - len(header) :] == header
        return prompt[: len(prompt) - len(header)]

    def say(self, message: Message, ids: Ids | None = None) -> None:
        self.turn += 1
        ids = self.renderer.say(message, self.tools) if ids is None else ids
        self.contexts.append(self.shown())
        self.sampled.append(ids)
        self.log.append("model", ids, "policy", turn=self.turn, messages=(message,))

    def hear(self, message: Message) -> None:
        ids = self.renderer.encode(message)
        self.log.append("observation", ids, "env", turn=self.turn, messages=(message,))

    def play(self, messages: Sequence[Message], kit: Any = None) -> None:
        """The messages up to the first turn open it, the rest is said and heard."""
        first = next((n for n, each in enumerate(messages) if each.role == "assistant"), None)
        self.open(messages[:first], kit)
        for message in messages[len(messages) if first is None else first :]:
            self.say(message) if message.role == "assistant" else self.hear(message)
