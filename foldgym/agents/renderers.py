"""Messages to token ids and back. A renderer only ever appends: it never rewrites an id it emitted.

Only control tokens that a renderer places itself frame a message. Text, whoever wrote it, is
encoded by `Tokenizer.encode`, which never yields a control id, so a role marker inside tool
output stays text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Protocol

from foldgym.errors import UnknownName
from foldgym.tools import Parsed, format_call, parse_action, usage
from foldgym.types import Ids, Message, Role, Tool


class Tokenizer(Protocol):
    """Text to ids. `encode` must never yield an id that `control` returns."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are, control ids included."""
        ...

    def encode(self, text: str) -> Ids:
        """Ids of plain text."""
        ...

    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """Per id of `encode(text)`, the characters `text[start:end]` that it stands for."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; control ids appear by their name."""
        ...

    def control(self, name: str) -> int:
        """The id of the control token `name`; raises `UserError` if the vocabulary lacks it."""
        ...


def byte_spans(text: str) -> tuple[tuple[int, int], ...]:
    """`Tokenizer.spans` of a tokenizer whose ids are UTF-8 bytes."""
    sizes = [len(character.encode("utf-8", errors="replace")) for character in text]
    return tuple((place, place + 1) for place, size in enumerate(sizes) for _ in range(size))


class Renderer(Protocol):
    """The border between messages and ids."""

    tokenizer: Tokenizer
    stop_ids: Ids

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """The first prompt: what the task says and which tools there are."""
        ...

    def encode(self, message: Message) -> Ids:
        """One message nobody sampled, with its frame."""
        ...

    def frame(self, role: Role) -> tuple[Ids, Ids]:
        """What stands before and after the text of a message of `role`."""
        ...

    def header(self) -> Ids:
        """Opens an assistant turn: the last ids before sampling."""
        ...

    def seal(self, ids: Ids) -> Ids:
        """What must follow sampled `ids` to close their turn; may be empty."""
        ...

    def write(self, message: Message, tools: Sequence[Tool]) -> str:
        """The text with which a policy would say `message`."""
        ...

    def say(self, message: Message, tools: Sequence[Tool]) -> Ids:
        """The ids of `write`, and one end token: what a policy would sample to say `message`."""
        ...

    def parse(self, ids: Ids, tools: Sequence[Tool]) -> Parsed:
        """Sampled ids to a message; never raises, a failure is `Parsed.problem`."""
        ...


def _body(ids: Ids, stop_ids: Ids) -> Ids:
    return ids[:-1] if ids and ids[-1] in stop_ids else ids


class CompactRenderer:
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
        return (*before, *self.tokenizer.encode(message.text), *after)

    def frame(self, role: Role) -> tuple[Ids, Ids]:
        """One control token on each side."""
        return (self._role[role],), (self._end,)

    def header(self) -> Ids:
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
        return parse_action(self.tokenizer.decode(_body(ids, self.stop_ids)), tools)


_TOOL_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|\Z)", re.DOTALL)
_THINK = re.compile(r"\A\s*<think>(.*?)(?:</think>|\Z)\s*", re.DOTALL)
_TOOLS_INTRO = (
    "You may call these tools. Write each call as a JSON object with `name` and `arguments` "
    "between <tool_call> and </tool_call>.\n<tools>\n"
)


class ChatMLRenderer:
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
            lines = [json.dumps({"type": "function", "function": _schema(tool)}) for tool in tools]
            text = _TOOLS_INTRO + "\n".join(lines) + "\n</tools>"
            if shown and shown[0].role == "system":
                text = shown.pop(0).text + "\n\n" + text
            shown.insert(0, Message("system", text))
        return tuple(i for message in shown for i in self.encode(message))

    def encode(self, message: Message) -> Ids:
        """`<|im_start|>role\\n` text `<|im_end|>\\n`."""
        before, after = self.frame(message.role)
        text = message.text
        if message.role == "tool":
            text = f"<tool_response>\n{text}\n</tool_response>"
        return (*before, *self.tokenizer.encode(text), *after)

    def frame(self, role: Role) -> tuple[Ids, Ids]:
        """The header with the role's name, and the end token with a newline."""
        name = self.tokenizer.encode(("user" if role == "tool" else role) + "\n")
        return (self._start, *name), (self._end, *self._newline)

    def header(self) -> Ids:
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
            body = f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments}}}'
            parts.append(f"<tool_call>\n{body}\n</tool_call>")
        return "\n".join(parts)

    def say(self, message: Message, tools: Sequence[Tool]) -> Ids:
        """What `write` writes, and the end token."""
        return (*self.tokenizer.encode(self.write(message, tools)), self._end)

    def parse(self, ids: Ids, tools: Sequence[Tool]) -> Parsed:
        """Splits thinking, text and calls. One broken block makes the whole message a problem."""
        text = self.tokenizer.decode(_body(ids, self.stop_ids))
        thought = _THINK.match(text)
        thinking = thought.group(1).strip() if thought else ""
        rest = text[thought.end() :] if thought else text
        content = _TOOL_CALL.sub("", rest).strip()
        blocks = [block.strip() for block in _TOOL_CALL.findall(rest)]
        calls = []
        for number, block in enumerate(blocks):
            read = parse_action(block, tools)
            if read.problem or len(read.message.tool_calls) != 1:
                why = read.problem.removeprefix("error: ") or "it names no tool"
                broken = Message("assistant", content, thinking=thinking)
                return Parsed(broken, f"error: tool call {number + 1} of {len(blocks)}: {why}")
            calls.append(read.message.tool_calls[0])
        numbered = tuple(
            type(call)(call.name, call.arguments, f"call_{index}")
            for index, call in enumerate(calls)
        )
        return Parsed(Message("assistant", content, thinking, numbered), "")


def _schema(tool: Tool) -> dict[str, object]:
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }


RENDERERS = {"compact": CompactRenderer, "chatml": ChatMLRenderer}


def make_renderer(name: str, tokenizer: Tokenizer, **options: bool) -> Renderer:
    """A renderer by its short name."""
    if name not in RENDERERS:
        raise UnknownName("renderer", name, RENDERERS)
    return RENDERERS[name](tokenizer, **options)
