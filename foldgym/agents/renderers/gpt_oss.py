"""GPT-OSS: the harmony format, in which a turn is several messages on channels."""

from __future__ import annotations

import json
from collections.abc import Sequence

from foldgym.agents.renderers.base import Tokenizer, When, body
from foldgym.agents.renderers.template import TemplateRenderer, led
from foldgym.agents.renderers.typescript import namespace
from foldgym.tools import Parsed
from foldgym.tools.harmony import CALL, CHANNEL, END, HARMONY, MESSAGE, RETURN, START, on_channel
from foldgym.types import Ids, Message, Role, Tool

_CHANNELS = (
    "# Valid channels: analysis, commentary, final. Channel must be included for every message."
)
_FUNCTIONS = "\nCalls to these tools must go to the commentary channel: 'functions'."


class GptOssRenderer(TemplateRenderer):
    """GPT-OSS. `effort` is how long it should think; `date` is fixed, so that ids are too.

    The published template drops the analysis of turns before a final answer and writes `<|end|>`
    where `<|return|>` was sampled; here all ids stay (memory "drop_thinking" does both).
    """

    ends = RETURN
    stops = (CALL, "<|endoftext|>")
    dialect = HARMONY

    def __init__(
        self,
        tokenizer: Tokenizer,
        effort: str = "medium",
        date: str = "2024-07-26",
        identity: str = "You are ChatGPT, a large language model trained by OpenAI.",
    ) -> None:
        self.effort, self.date, self.identity = effort, date, identity
        super().__init__(tokenizer)

    def outer(self, role: Role) -> tuple[list[str], list[str]]:
        """A system message is the developer's; `encode` gives a tool its name."""
        if role == "assistant":
            return [START, "assistant"], [END]
        name = {"system": "developer", "user": "user", "tool": "functions.tool to=assistant"}[role]
        channel = [CHANNEL, "commentary"] if role == "tool" else []
        return [START, name, *channel, MESSAGE], [END]

    def inner(self, message: Message) -> list[str]:
        """Results of tools as JSON text."""
        if message.role == "tool" and isinstance(message.content, str):
            return [json.dumps(message.content, ensure_ascii=False)]
        return self.content(message)

    def encode(self, message: Message) -> Ids:
        """A tool speaks under its own name, an assistant on channels."""
        if message.role == "assistant":
            end = CALL if message.tool_calls else END
            return self.lay([START, "assistant", *self.turn(message, ()), end])
        if message.role != "tool" or not message.name:
            return super().encode(message)
        head = [START, f"functions.{message.name} to=assistant", CHANNEL, "commentary", MESSAGE]
        return (*self.lay(head), *self.lay(self.inner(message)), *self.lay([END]))

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
        """A developer's message with instructions and tools."""
        system, rest = led(messages)
        told = f"# Instructions\n\n{system}\n\n" if system else ""
        told += f"# Tools\n\n{namespace('functions', tools)}" if tools else ""
        return [Message("system", told), *rest] if told else rest

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """The system message is the template's own."""
        told = (
            f"{self.identity}\nKnowledge cutoff: 2024-06\nCurrent date: {self.date}\n\n"
            f"Reasoning: {self.effort}\n\n{_CHANNELS}{_FUNCTIONS if tools else ''}"
        )
        head = self.lay([START, "system", MESSAGE, told, END])
        return (*head, *super().open(messages, tools))

    def turn(self, message: Message, tools: Sequence[Tool]) -> list[str]:
        """Analysis, then calls, or a final answer; text beside calls is commentary."""
        messages: list[list[str]] = []
        if message.thinking:
            messages.append(on_channel("analysis", message.thinking))
        if message.text or not message.tool_calls:
            channel = "commentary" if message.tool_calls else "final"
            messages.append(on_channel(channel, message.text))
        if message.tool_calls:
            messages.append(self.dialect.write(message.tool_calls))
        parts: list[str] = []
        for each in messages:
            parts += [END, START, "assistant", *each] if parts else each
        return parts

    def end(self, message: Message) -> int:
        """`<|call|>` behind calls."""
        called = self.find(CALL) if message.tool_calls else None
        return self._end if called is None else called

    def seal(self, ids: Ids) -> Ids:
        """`<|end|>`, unless the turn ended itself."""
        return () if ids and ids[-1] in self.stop_ids else self.lay([END])

    def parse(self, ids: Ids, tools: Sequence[Tool]) -> Parsed:
        """Every message on its channel; never raises."""
        return self.dialect.read(self.tokenizer.decode(body(ids, self.stop_ids)), tools)

    def thoughts(self, ids: Ids, when: When) -> tuple[tuple[int, int], ...]:
        """Every analysis of a past turn up to the next message's channel, and `<|return|>`."""
        if when != "past":
            return ()
        end = self.tokenizer.control(END)
        following = self.lay([START, "assistant"])
        cuts: list[tuple[int, int]] = []
        at = 0
        while end in ids[at:]:
            close = ids.index(end, at)
            after = close + 1 + len(following)
            if ids[close + 1 : after] != following:
                break
            if self.tokenizer.decode(ids[at:close]).startswith(f"{CHANNEL}analysis"):
                cuts.append((at, after))
            at = after
        if ids and ids[-1] == self.stop_ids[0]:
            cuts.append((len(ids) - 1, len(ids)))
        return tuple(cuts)
