"""Our smallest template, for models that we train from scratch."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.agents.renderers.base import Plain, Tokenizer, body
from foldgym.tools import Parsed, format_call, parse_action, usage
from foldgym.types import Ids, Message, Role, Tool


class CompactRenderer(Plain):
    """Our smallest template: one control token opens a message, one ends it.

    `<|user|>who rules Ada<|end|><|assistant|>search Ada<|end|><|tool|>Ada is ruled by Bo<|end|>`

    Tool calls are written `name rest of the line`. `show_tools` puts one usage line per tool into
    a system message; small models that learn the tools by heart do without.
    """

    def __init__(self, tokenizer: Tokenizer, show_tools: bool = False) -> None:
        self.tokenizer = tokenizer
        self.show_tools = show_tools
        self._role = {
            role: tokenizer.control(f"<|{role}|>") for role in ("system", "user", "assistant")
        }
        self._role["tool"] = tokenizer.control("<|tool|>")
        self._end = tokenizer.control("<|end|>")
        self.stop_ids: Ids = (self._end,)

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """The opening messages, after one usage line per tool if `show_tools`."""
        shown = list(messages)
        if self.show_tools and tools:
            shown.insert(0, Message("system", "\n".join(usage(tool) for tool in tools)))
        return tuple(i for message in shown for i in self.encode(message))

    def encode(self, message: Message) -> Ids:
        """`<|role|>` text `<|end|>`."""
        before, after = self.frame(message.role)
        text = self.write(message, ()) if message.role == "assistant" else message.text
        return (*before, *self.tokenizer.encode(text), *after)

    def frame(self, role: Role) -> tuple[Ids, Ids]:
        """One control token on each side."""
        return (self._role[role],), (self._end,)

    def header(self, cut: Ids = ()) -> Ids:
        """`<|assistant|>`."""
        return (self._role["assistant"],)

    def seal(self, ids: Ids) -> Ids:
        """The end token, unless it was sampled."""
        return () if ids and ids[-1] == self._end else (self._end,)

    def write(self, message: Message, tools: Sequence[Tool]) -> str:
        """Tool calls, one a line; without calls, the text."""
        return "\n".join(format_call(call, tools) for call in message.tool_calls) or message.text

    def say(self, message: Message, tools: Sequence[Tool]) -> Ids:
        """What `write` writes, and the end token."""
        return (*self.tokenizer.encode(self.write(message, tools)), self._end)

    def parse(self, ids: Ids, tools: Sequence[Tool]) -> Parsed:
        """Reads what `say` writes, and whatever else a policy may emit."""
        return parse_action(self.tokenizer.decode(body(ids, self.stop_ids)), tools)
