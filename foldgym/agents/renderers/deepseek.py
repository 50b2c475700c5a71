"""DeepSeek V3 and R1: one mark a role, calls and results in marks of their own."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.agents.renderers.base import Seam, Tokenizer, When
from foldgym.agents.renderers.template import TemplateRenderer, schema_lines
from foldgym.tools.dialects import DEEPSEEK, Mark
from foldgym.types import Ids, Message, Role, Tool, ToolCall

USER, ASSISTANT = Mark("<｜User｜>"), Mark("<｜Assistant｜>")
END = Mark("<｜end▁of▁sentence｜>")
RESULTS, RESULTS_END = Mark("<｜tool▁outputs▁begin｜>"), Mark("<｜tool▁outputs▁end｜>")
RESULT, RESULT_END = Mark("<｜tool▁output▁begin｜>"), Mark("<｜tool▁output▁end｜>")


class DeepSeekRenderer(TemplateRenderer):
    """DeepSeek V3; with `thinking` R1, whose header opens `<think>`.

    The published templates have no place for tool schemas (they are a section of the system
    prompt here), drop the thought of every earlier turn, and forget the opening marks of the second
    round of calls and results, which here have theirs. V3 answers a result without a new
    `<｜Assistant｜>`; R1, which was published without tools, thinks anew.
    """

    ends = END
    start = (Mark("<｜begin▁of▁sentence｜>"),)
    dialect = DEEPSEEK
    after_thought = ""
    before_calls = ""

    def __init__(self, tokenizer: Tokenizer, thinking: bool = False) -> None:
        self.thinks = "opened" if thinking else "tagged"
        super().__init__(tokenizer)

    def outer(self, role: Role) -> tuple[list[str], list[str]]:
        """A mark before; an end only behind what the assistant said. Notices speak as the user."""
        if role == "assistant":
            return [ASSISTANT], [END]
        if role == "tool":
            return [RESULTS, RESULT], [RESULT_END, RESULTS_END]
        return [USER], []

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
        """Without the system messages, which stand at the very start."""
        return [message for message in messages if message.role != "system"]

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """The system prompt has no mark of its own."""
        told = [message.text for message in messages if message.role == "system"]
        parts: list[str] = [*self.start, "\n\n".join(told)]
        if tools:
            parts += ["\n\n" if told else "", *self.tools_block(tools)]
        return (*self.lay(parts), *super().open(messages, ())[len(self.lay(self.start)) :])

    def tools_block(self, tools: Sequence[Tool]) -> list[str]:
        """What there is to call and how, in words of ours."""
        example = DEEPSEEK.write([ToolCall("NAME", "ARGUMENTS")])
        lines = "\n".join(schema_lines(tools))
        return [f"## Tools\n\n{lines}\n\nCall tools like this, arguments as JSON:\n", *example]

    def joints(self) -> tuple[Seam, ...]:
        """Results of one turn share their marks, and need no header behind them."""
        opened, closed = self.lay([RESULTS]), self.lay([RESULTS_END])
        together = Seam("tool", "tool", closed, opened, ())
        if self.thinks == "opened":
            return (together,)
        return (together, Seam("tool", "assistant", closed, self.header(), closed))

    def thoughts(self, ids: Ids, when: When) -> tuple[tuple[int, int], ...]:
        """Of every turn but the one that is being said."""
        return super().thoughts(ids, "past")
