"""Llama 3, 3.1 and 3.2: headers between marks, calls as bare JSON, tools in the first question."""

from __future__ import annotations

import json
from collections.abc import Sequence

from foldgym.agents.renderers.base import Tokenizer
from foldgym.agents.renderers.template import TemplateRenderer, led, schema_lines
from foldgym.tools.dialects import LLAMA, Mark
from foldgym.types import Message, Role, Tool

HEAD, HEAD_END, END = (
    Mark("<|start_header_id|>"),
    Mark("<|end_header_id|>"),
    Mark("<|eot_id|>"),
)
_TOOLS = (
    "Given the following functions, please respond with a JSON for a function call with its proper "
    "arguments that best answers the given prompt.\n\nRespond in the format "
    '{"name": function name, "parameters": dictionary of argument name and its value}.'
    "Do not use variables.\n\n"
)


class Llama3Renderer(TemplateRenderer):
    """Llama 3.1 and later where the vocabulary has `<|eom_id|>`, else Llama 3.

    The templates of 3.1 and later begin every conversation with two dates; `date` is today's, and
    fixed so that the same run has the same ids tomorrow. They refuse several calls in one turn and
    leave out the text beside a call; here several calls are separated by `; ` and what was said
    stays.
    """

    ends = END
    stops = ("<|eom_id|>", "<|end_of_text|>")
    start = (Mark("<|begin_of_text|>"),)
    dialect = LLAMA
    trims = True

    def __init__(self, tokenizer: Tokenizer, date: str = "26 Jul 2024") -> None:
        self.date = date
        super().__init__(tokenizer)
        self.dated = self.find("<|eom_id|>") is not None

    def outer(self, role: Role) -> tuple[list[str], list[str]]:
        """The role between marks and an empty line; tools speak as `ipython`."""
        name = "ipython" if role == "tool" and self.dated else "user" if role == "tool" else role
        return [HEAD, name, HEAD_END, "\n\n"], [END]

    def inner(self, message: Message) -> list[str]:
        """Results of tools as JSON text."""
        if message.role == "tool" and isinstance(message.content, str):
            return [json.dumps(message.content, ensure_ascii=False)]
        return self.content(message)

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
        """Dates in the system message, tools before the first question."""
        system, rest = led(messages)
        head: list[Message] = []
        if self.dated:
            told = "Environment: ipython\n" if tools else ""
            told += f"Cutting Knowledge Date: December 2023\nToday Date: {self.date}\n\n"
            head = [Message("system", (told + (system or "").strip(),))]
        elif system is not None:
            head = [Message("system", system)]
        if not tools:
            return [*head, *rest]
        lines = "".join(f"{line}\n\n" for line in schema_lines(tools, indent=4))
        question, rest = led(rest, "user")
        return [*head, Message("user", (_TOOLS + lines + (question or "").strip(),)), *rest]
