"""Qwen 2.5 and 3: ChatML, tool schemas in the system message, calls and results in tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from foldgym.agents.renderers.base import Seam, Tokenizer, When
from foldgym.agents.renderers.template import (
    THINK,
    THINK_END,
    TemplateRenderer,
    led,
    schema_lines,
)
from foldgym.tools.dialects import HERMES, XML, Mark
from foldgym.types import Ids, Message, Role, Tool

START, END = Mark("<|im_start|>"), Mark("<|im_end|>")
CALL, CALL_END = Mark("<tool_call>"), Mark("</tool_call>")
RESULT, RESULT_END = Mark("<tool_response>"), Mark("</tool_response>")

_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_CALLS = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments "
    "within "
)
_EXAMPLE = '\n{"name": <function-name>, "arguments": <args-json-object>}\n'
_QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

Thinking = Literal["tagged", "opened", "off", "never"]


class Qwen3Renderer(TemplateRenderer):
    """Qwen 3. `thinking` says how a turn begins:

    "tagged" (Qwen3): the policy opens `<think>` itself, if it wants to; "off": the header holds an
    empty thought (`enable_thinking=False`); "opened" (Thinking-2507): the header opens the thought;
    "never" (Instruct-2507): there is none. `xml` writes calls as Qwen3-Coder does.

    The published template drops the thoughts of turns before the latest user message, and empty
    ones before the latest turn; here all ids stay (memory "drop_thinking" drops them).
    """

    ends = END
    stops = ("<|endoftext|>",)
    default_system = ""

    def __init__(
        self, tokenizer: Tokenizer, thinking: Thinking = "tagged", xml: bool = False
    ) -> None:
        self.thinks = "tagged" if thinking == "off" else thinking
        self._off = thinking == "off"
        self.dialect = XML if xml else HERMES
        super().__init__(tokenizer)

    def opened(self) -> list[str]:
        """An empty thought where thinking is off."""
        if self._off:
            return [THINK, "\n\n", THINK_END, "\n\n"]
        return super().opened()

    def outer(self, role: Role) -> tuple[list[str], list[str]]:
        """`<|im_start|>role`, `<|im_end|>` and a line break; tools speak as the user."""
        return [START, ("user" if role == "tool" else role) + "\n"], [END, "\n"]

    def inner(self, message: Message) -> list[str]:
        """Results of tools in tags."""
        content = self.content(message)
        if message.role != "tool":
            return content
        return [RESULT, "\n", *content, "\n", RESULT_END]

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """The system message with the tools, then the others."""
        said, rest = led(messages)
        system = self.default_system if said is None else said
        shown = bool(system) or said is not None
        parts: list[str] = [system] if shown else []
        if tools:
            parts += ["\n\n"] if shown else []
            parts += ["\n".join([_TOOLS, *schema_lines(tools)]), *_rules()]
        before, after = self.frame("system")
        head = (*before, *self.lay(parts), *after) if shown or tools else ()
        return (*head, *super().open(rest, ()))

    def joints(self) -> tuple[Seam, ...]:
        """Results of one turn share a message."""
        before, after = (self.lay(parts) for parts in self.outer("tool"))
        return (Seam("tool", "tool", after, before, self.tokenizer.encode("\n")),)

    def thoughts(self, ids: Ids, when: When) -> tuple[tuple[int, int], ...]:
        """As the template does: past thoughts, and recent ones that are empty."""
        end = self.thought_end(ids) if self.thinks != "never" else 0
        if when == "recent" and end:
            said = self.tokenizer.decode(ids[:end]).replace(THINK, "").replace(THINK_END, "")
            return ((0, end),) if not said.strip() else ()
        return ((0, end),) if end else ()


def _rules() -> list[str]:
    return [_CALLS, CALL, CALL_END, " XML tags:\n", CALL, _EXAMPLE, CALL_END]


class Qwen25Renderer(Qwen3Renderer):
    """Qwen 2.5: no thoughts, and a system message of its own where there is none."""

    default_system = _QWEN

    def __init__(self, tokenizer: Tokenizer, thinking: Thinking = "never") -> None:
        super().__init__(tokenizer, thinking)
