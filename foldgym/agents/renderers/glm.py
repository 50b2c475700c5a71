"""GLM-4.5 and its kin: the mark that opens the next message ends the turn before it."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.agents.renderers.base import Seam, Tokenizer, When
from foldgym.agents.renderers.template import THINK, THINK_END, TemplateRenderer, schema_lines
from foldgym.tools.dialects import GLM, Mark
from foldgym.types import Ids, Message, Role, Tool

SYSTEM, USER = Mark("<|system|>"), Mark("<|user|>")
ASSISTANT, RESULTS = Mark("<|assistant|>"), Mark("<|observation|>")
RESULT, RESULT_END = Mark("<tool_response>"), Mark("</tool_response>")
CALL, CALL_END = Mark("<tool_call>"), Mark("</tool_call>")
KEY, KEY_END = Mark("<arg_key>"), Mark("</arg_key>")
VALUE, VALUE_END = Mark("<arg_value>"), Mark("</arg_value>")

_TOOLS = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
_CALLS = (
    "\n</tools>\n\nFor each function call, output the function name and arguments within the "
    "following XML format:\n"
)


class Glm4Renderer(TemplateRenderer):
    """GLM-4 MoE. Without `thinking` the header holds an empty thought and questions `/nothink`.

    A turn ends with the mark of who speaks next, `<|user|>` or `<|observation|>`; sampled, it
    opens that message. The published template writes an empty thought in place of each thought
    before the latest user message; here all ids stay (memory "drop_thinking" drops them).
    """

    ends = USER
    stops = (RESULTS, "<|endoftext|>")
    start = (Mark("[gMASK]"), Mark("<sop>"))
    dialect = GLM
    after_thought = "\n"

    def __init__(self, tokenizer: Tokenizer, thinking: bool = True) -> None:
        self._off = not thinking
        super().__init__(tokenizer)

    def opened(self) -> list[str]:
        """An empty thought where thinking is off."""
        return ["\n", THINK, THINK_END] if self._off else []

    def outer(self, role: Role) -> tuple[list[str], list[str]]:
        """A mark and a line break before, nothing after."""
        if role == "assistant":
            return [ASSISTANT], []
        mark = {"system": SYSTEM, "user": USER, "tool": RESULTS}[role]
        return [mark, "\n"], []

    def inner(self, message: Message) -> list[str]:
        """Results of tools in tags."""
        content = self.content(message)
        if message.role == "tool":
            return [RESULT, "\n", *content, "\n", RESULT_END]
        if message.role == "user" and self._off and not message.text.endswith("/nothink"):
            return [*content, "/nothink"]
        return content

    def told(self, message: Message) -> list[str]:
        """As it would have been said."""
        return [*self.opened(), *self.turn(message, ())]

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """A system message of its own for the tools."""
        ids = super().open(messages, ())
        if not tools:
            return ids
        start = self.lay(self.start)
        example = [CALL, "{function-name}\n"]
        for number in "12":
            example += [KEY, f"{{arg-key-{number}}}", KEY_END, "\n"]
            example += [VALUE, f"{{arg-value-{number}}}", VALUE_END, "\n"]
        lines = "\n".join(schema_lines(tools))
        shown = [SYSTEM, "\n", _TOOLS + lines + _CALLS, *example, "...\n", CALL_END]
        return (*start, *self.lay(shown), *ids[len(start) :])

    def joints(self) -> tuple[Seam, ...]:
        """Results of one turn share a mark; the mark that ended a turn opens what follows."""
        result, user = self.lay([RESULTS]), self.lay([USER])
        return (
            Seam("tool", "tool", (), result, ()),
            Seam("assistant", "tool", result, result, result),
            Seam("assistant", "user", user, user, user),
        )

    def turn(self, message: Message, tools: Sequence[Tool]) -> list[str]:
        """A thought, empty or not, then text and calls on lines of their own."""
        parts = [] if self._off else ["\n", THINK, message.thinking.strip(), THINK_END]
        if text := message.text.strip():
            parts += ["\n", text]
        if message.tool_calls:
            parts += ["\n", *self.dialect.write(message.tool_calls)]
        return parts

    def end(self, message: Message) -> int:
        """The mark of who speaks next."""
        wanted = self.find(RESULTS) if message.tool_calls else None
        return self._end if wanted is None else wanted

    def seal(self, ids: Ids) -> Ids:
        """Nothing: the next message's mark closes the turn."""
        return ()

    def thoughts(self, ids: Ids, when: When) -> tuple[tuple[int, int], ...]:
        """What stands between the tags of a past thought; the tags stay."""
        decode = self.tokenizer.decode
        if when != "past" or not (end := self.thought_end(ids)):
            return ()
        first = next(n for n in range(1, end + 1) if THINK in decode(ids[:n]))
        last = next(n for n in range(1, end + 1) if THINK_END not in decode(ids[n:end])) - 1
        return ((first, last),) if first < last else ()
