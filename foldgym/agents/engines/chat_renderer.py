"""How an episode of a chat API is written down: ids that hold its messages exactly.

An API says neither its ids nor how many a message has, so ids here are pieces of text of up to
four characters: close to what tokenizers make of English, and decoded without a vocabulary.
Budgets of context are counted in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

from foldgym.agents.engines.chat_messages import Protocol, read_text, write_text, write_tools
from foldgym.agents.renderers import Plain, Tokenizer
from foldgym.errors import UserError
from foldgym.tools import MAX_CALLS, Parsed
from foldgym.types import Ids, Message, Role, Tool, ToolCall

CONTROLS = (
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
    "<|think|>",
    "<|call|>",
    "<|with|>",
)
_CHARACTERS, _BYTES = 4, 6  # of one id, at most
_FIRST = 1 << 8  # ids of text are from here on, controls below
_LARGEST = 1 << 24  # of a vocabulary; four characters are beyond it


class PieceTokenizer:
    """An id is up to four characters (six bytes) of UTF-8 behind a leading 1; no vocabulary.

    >>> tokenizer = PieceTokenizer()
    >>> [hex(piece) for piece in tokenizer.encode("Ada is")], tokenizer.decode((0x1416461,))
    (['0x141646120', '0x16973'], 'Ada')
    """

    vocab_size = 1 << (8 * _BYTES + 1)

    def encode(self, text: str) -> Ids:
        """Ids of a text; lone surrogates become question marks."""
        return tuple(
            int.from_bytes(b"\x01" + text[start:end].encode("utf-8", "replace"), "big")
            for start, end in self._pieces(text)
        )

    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """Per id of `encode(text)`, the characters it stands for."""
        return tuple(self._pieces(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text; control ids by name."""
        return "".join(
            CONTROLS[i] if i < _FIRST else i.to_bytes((i.bit_length() + 7) // 8, "big")[1:].decode()
            for i in ids
        )

    def control(self, name: str) -> int:
        """Below all ids of text."""
        if name not in CONTROLS:
            raise UserError(f"no control token {name!r}; there are {', '.join(CONTROLS)}")
        return CONTROLS.index(name)

    def _pieces(self, text: str) -> Iterator[tuple[int, int]]:
        start = size = 0
        for place, character in enumerate(text):
            wide = 1 if character.isascii() else len(character.encode("utf-8", "replace"))
            if place - start == _CHARACTERS or size + wide > _BYTES:
                yield start, place
                start, size = place, 0
            size += wide
        if start < len(text):
            yield start, len(text)


def opened_with(ids: Ids, prompt: Sequence[Message]) -> tuple[Tool, ...] | None:
    """The tools with which `ChatRenderer.open` wrote a prompt; None if it did not write `ids`.

    Tells by the ids of text, which no vocabulary reaches.
    """
    if max(ids, default=0) <= _LARGEST:
        return None
    renderer = ChatRenderer()
    task = renderer.open(prompt, ())
    (system,), (end,) = renderer.frame("system")
    tools: list[Tool] = []
    rest = ids
    while rest[: len(task)] != task:
        if rest[:1] != (system,) or end not in rest:
            return None
        close = rest.index(end)
        try:
            function = json.loads(renderer.tokenizer.decode(rest[1:close]))["function"]
            tools.append(Tool(function["name"], function["description"], function["parameters"]))
        except (ValueError, TypeError, KeyError, IndexError):
            return None
        rest = rest[close + 1 :]
    return tuple(tools)


class ChatRenderer(Plain):
    """`agents.renderers.Renderer` for a policy that speaks in messages.

    What the policy said comes back from `parse` as it was said: thinking, text, and calls with
    their ids and arguments. In the text protocol calls are read out of the text.
    """

    def __init__(self, protocol: Protocol = "native") -> None:
        self.protocol: Protocol = protocol
        self.tokenizer: Tokenizer = PieceTokenizer()
        control = self.tokenizer.control
        self._end = control("<|end|>")
        self._think, self._call, self._with = map(control, ("<|think|>", "<|call|>", "<|with|>"))
        self.stop_ids: Ids = (self._end,)

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """The tools' schemas, then the messages."""
        shown = [Message("system", json.dumps(tool)) for tool in write_tools(tools)]
        return tuple(i for message in (*shown, *messages) for i in self.encode(message))

    def encode(self, message: Message) -> Ids:
        """A message nobody sampled, with its frame."""
        before, after = self.frame(message.role)
        if message.role == "assistant":
            return (*before, *self.say(message, ()))
        return (*before, *self.tokenizer.encode(message.text), *after)

    def frame(self, role: Role) -> tuple[Ids, Ids]:
        """One control token on each side."""
        return (self.tokenizer.control(f"<|{role}|>"),), (self._end,)

    def header(self, cut: Ids = ()) -> Ids:
        """`<|assistant|>`."""
        return self.frame("assistant")[0]

    def seal(self, ids: Ids) -> Ids:
        """The end token, unless it is there."""
        return () if ids and ids[-1] == self._end else (self._end,)

    def write(self, message: Message, tools: Sequence[Tool]) -> str:
        """Text, and calls as `<tool_call>` blocks."""
        return write_text(message)

    def say(self, message: Message, tools: Sequence[Tool]) -> Ids:
        """The message behind control tokens, and the end token."""
        encode = self.tokenizer.encode
        ids: list[int] = []
        if message.thinking:
            ids += [self._think, *encode(message.thinking), self._think]
        if self.protocol == "text":
            return (*ids, *encode(write_text(message)), self._end)
        ids += encode(message.text)
        for call in message.tool_calls:
            ids += [self._call, *encode(json.dumps([call.name, call.id], ensure_ascii=False))]
            ids += [self._with, *encode(call.arguments)]
        return (*ids, self._end)

    def parse(self, ids: Ids, tools: Sequence[Tool]) -> Parsed:
        """The message that `say` wrote down, or as much as is there of it."""
        thinking = text = ""
        calls: list[ToolCall] = []
        for mode, said in self._sections(ids):
            if mode == self._think:
                thinking += said
            elif mode == self._call:
                name, id = json.loads(said)
                calls.append(ToolCall(name, "", id))
            elif mode == self._with and calls:
                calls[-1] = ToolCall(calls[-1].name, said, calls[-1].id)
            elif mode == 0:
                text += said
        if self.protocol == "text":
            message, problem = read_text(text, tools)
            return Parsed(replace(message, thinking=thinking), problem)
        problem = ""
        if len(calls) > MAX_CALLS:
            calls, problem = [], f"error: more than {MAX_CALLS} tool calls in one message"
        return Parsed(Message("assistant", text, thinking, tuple(calls)), problem)

    def _sections(self, ids: Ids) -> Iterator[tuple[int, str]]:
        """Texts and what stands before each: the control token of thinking or a call, else 0."""
        mode, run = 0, list[int]()
        for i in ids[:-1] if ids and ids[-1] == self._end else ids:
            if i >= _FIRST:
                run.append(i)
                continue
            yield mode, self.tokenizer.decode(run)
            mode, run = (0 if i == mode == self._think else i), []
        yield mode, self.tokenizer.decode(run)
