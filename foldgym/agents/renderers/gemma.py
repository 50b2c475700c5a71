"""Gemma 1 to 3: turns of user and model in strict alternation, no role for system or tools."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.agents.renderers.base import Seam
from foldgym.agents.renderers.template import TemplateRenderer, led, schema_lines
from foldgym.tools.dialects import PYTHONIC, Mark
from foldgym.types import Image, Message, Role, Tool

START, END = Mark("<start_of_turn>"), Mark("<end_of_turn>")
_OTHERS: tuple[Role, ...] = ("system", "user", "tool")
_TOOLS = (
    "You have access to functions. To call them, answer with nothing but a list of calls: "
    "[name(parameter=value, ...), ...]\n\n"
)


class GemmaRenderer(TemplateRenderer):
    """Gemma. What is said by others than the model between two turns of it is one turn.

    The published templates know no tools: their schemas stand before the first question, calls
    are written as Python, results come as the user's words. Gemma 1 and 2 refuse a system message;
    it is the start of the first question, as in Gemma 3.
    """

    ends = END
    stops = ("<eos>",)
    start = (Mark("<bos>"),)
    dialect = PYTHONIC
    trims = True

    def outer(self, role: Role) -> tuple[list[str], list[str]]:
        """`<start_of_turn>` and one of two names, `<end_of_turn>` and a line break."""
        return [START, "model\n" if role == "assistant" else "user\n"], [END, "\n"]

    def inner(self, message: Message) -> list[str]:
        """Results of tools say which tool they are from."""
        if message.role != "tool":
            return self.content(message)
        return ["```tool_output\n", *self.content(message), "\n```"]

    def picture(self, image: Image) -> list[str]:
        """One mark."""
        return [Mark("<start_of_image>")]

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
        """System message and tools before the first question."""
        system, rest = led(messages)
        told = "" if system is None else f"{system}\n\n"
        if tools:
            told += _TOOLS + "\n".join(schema_lines(tools)) + "\n\n"
        if not told:
            return rest
        question, rest = led(rest, "user")
        return [Message("user", (told + (question or "").strip(),)), *rest]

    def joints(self) -> tuple[Seam, ...]:
        """An empty line in place of the end of one turn and the start of the next."""
        before, after = (self.lay(parts) for parts in self.outer("user"))
        line = self.tokenizer.encode("\n\n")
        return tuple(Seam(a, b, after, before, line) for a in _OTHERS for b in _OTHERS)
