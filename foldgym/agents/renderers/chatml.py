"""ChatML with the Hermes convention for tools, in words of our own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from foldgym.agents.renderers.base import Plain, Tokenizer, When, body
from foldgym.agents.renderers.template import schema, split_thought, thought_end
from foldgym.tools import Parsed
from foldgym.tools.dialects import HERMES, object_of
from foldgym.types import Ids, Message, Role, Tool

TOOLS_INTRO = (
    "You may call these tools. Write each call as a JSON object with `name` and `arguments` "
    "between <tool_call> and </tool_call>.\n<tools>\n"
)


class ChatMLRenderer(Plain):
    """ChatML with tool calls as JSON between `<tool_call>` tags (the Hermes convention).

    Append-only: thinking of earlier turns stays. Tool results travel as `<tool_response>` in a
    user message, as Qwen's templates do.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._start = tokenizer.control("<|im_start|>")
        self._end = tokenizer.control("<|im_end|>")
        self._newline = tokenizer.encode("\n")
        self.stop_ids: Ids = (self._end,)

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """The opening messages; tool schemas join the system message (made if there is none)."""
        shown = list(messages)
        if tools:
            lines = [json.dumps(schema(tool)) for tool in tools]
            text = TOOLS_INTRO + "\n".join(lines) + "\n</tools>"
            if shown and shown[0].role == "system":
                text = shown.pop(0).text + "\n\n" + text
            shown.insert(0, Message("system", text))
        return tuple(i for message in shown for i in self.encode(message))

    def encode(self, message: Message) -> Ids:
        """`<|im_start|>role\\n` text `<|im_end|>\\n`."""
        before, after = self.frame(message.role)
        text = self.write(message, ()) if message.role == "assistant" else message.text
        if message.role == "tool":
            text = f"<tool_response>\n{text}\n</tool_response>"
        return (*before, *self.tokenizer.encode(text), *after)

    def frame(self, role: Role) -> tuple[Ids, Ids]:
        """The header with the role's name, and the end token with a newline."""
        name = self.tokenizer.encode(("user" if role == "tool" else role) + "\n")
        return (self._start, *name), (self._end, *self._newline)

    def header(self, cut: Ids = ()) -> Ids:
        """`<|im_start|>assistant\\n`."""
        return self.frame("assistant")[0]

    def seal(self, ids: Ids) -> Ids:
        """A newline, after the end token if that was not sampled."""
        return self._newline if ids and ids[-1] == self._end else (self._end, *self._newline)

    def write(self, message: Message, tools: Sequence[Tool]) -> str:
        """Thinking, text, then one `<tool_call>` block a call."""
        parts = [f"<think>\n{message.thinking}\n</think>\n"] if message.thinking else []
        if message.text:
            parts.append(message.text)
        for call in message.tool_calls:
            body = f'{{"name": {json.dumps(call.name)}, "arguments": {object_of(call)}}}'
            parts.append(f"<tool_call>\n{body}\n</tool_call>")
        return "\n".join(parts)

    def say(self, message: Message, tools: Sequence[Tool]) -> Ids:
        """What `write` writes, and the end token."""
        return (*self.tokenizer.encode(self.write(message, tools)), self._end)

    def parse(self, ids: Ids, tools: Sequence[Tool]) -> Parsed:
        """Splits thinking, text and calls. One broken block makes the whole message a problem."""
        text = self.tokenizer.decode(body(ids, self.stop_ids))
        thinking, rest = split_thought(text, opened=False)
        read = HERMES.read(rest, tools)
        return Parsed(replace(read.message, thinking=thinking), read.problem)

    def thoughts(self, ids: Ids, when: When) -> tuple[tuple[int, int], ...]:
        """The thought of a past turn, as templates of this kind leave it out."""
        end = thought_end(self.tokenizer, ids, opened=False) if when == "past" else 0
        return ((0, end),) if end else ()
