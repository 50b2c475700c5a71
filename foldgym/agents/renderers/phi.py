"""Phi 3 to 4: a mark a role, with or without line breaks, or ChatML with a separator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from foldgym.agents.renderers.base import Tokenizer
from foldgym.agents.renderers.template import TemplateRenderer, led, schema_lines
from foldgym.tools.dialects import HERMES, LISTED, Mark
from foldgym.types import Ids, Message, Role, Tool

START, SEPARATOR, STOP = Mark("<|im_start|>"), Mark("<|im_sep|>"), Mark("<|im_end|>")
TOOLS, TOOLS_END = Mark("<|tool|>"), Mark("<|/tool|>")
_TOOLS = (
    "You may call these tools. Write each call as a JSON object with `name` and `arguments` "
    "between <tool_call> and </tool_call>.\n<tools>\n"
)

Version = Literal["auto", "3", "4", "4-mini"]


class PhiRenderer(TemplateRenderer):
    """Phi 3 and 3.5, Phi 4 (which has `<|im_sep|>`) or Phi 4 mini (which has `<|tool_call|>`).

    Phi 3 and Phi 4 were published without tools: their schemas stand in the system message and
    calls between tags, as Hermes has it. Phi 4 mini has marks for both. Results of tools come as
    the user's words, in tags.
    """

    stops = ("<|endoftext|>",)

    def __init__(self, tokenizer: Tokenizer, version: Version = "auto") -> None:
        self.tokenizer = tokenizer
        self._known = {}
        if version == "auto":
            mini = self.find("<|tool_call|>") is not None
            version = "4" if self.find(SEPARATOR) is not None else "4-mini" if mini else "3"
        self.version = version
        self.ends = STOP if version == "4" else "<|end|>"
        if version == "3":  # its generation_config.json lists the next header, too
            self.stops = ("<|endoftext|>", "<|assistant|>")
        self.dialect = LISTED if version == "4-mini" else HERMES
        super().__init__(tokenizer)

    def outer(self, role: Role) -> tuple[list[str], list[str]]:
        """By version."""
        name = "user" if role == "tool" else role
        if self.version == "4":
            return [START, name, SEPARATOR], [STOP]
        line = "\n" if self.version == "3" else ""
        return [Mark(f"<|{name}|>"), line], [Mark("<|end|>"), line]

    def inner(self, message: Message) -> list[str]:
        """Results of tools in tags."""
        content = self.content(message)
        if message.role != "tool":
            return content
        return ["<tool_response>\n", *content, "\n</tool_response>"]

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """The system message with the tools, then the others."""
        if not tools:
            return super().open(messages, ())
        system, rest = led(messages)
        lines = schema_lines(tools)
        if self.version == "4-mini":
            parts = [system or "", TOOLS, f"[{', '.join(lines)}]", TOOLS_END]
        else:
            told = f"{system}\n\n" if system else ""
            parts = [told + _TOOLS + "\n".join(lines) + "\n</tools>"]
        before, after = self.frame("system")
        return (*before, *self.lay(parts), *after, *super().open(rest, ()))
