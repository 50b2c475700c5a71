"""What renderers of published chat templates share: marks, frames, tool calls, thinking.

A template is a list of parts. A `Mark` is one control id where the vocabulary has it; everything
else is text, and neighbouring texts are encoded as one. So the ids are those of the rendered
template, and no text can become a control id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from foldgym.agents.renderers.base import Piece, Plain, Seam, Tokenizer, When, body, weave
from foldgym.errors import FoldgymError
from foldgym.tools import Parsed
from foldgym.tools.dialects import HERMES, Dialect, Mark
from foldgym.types import Ids, Image, Json, Message, Role, Tool

THINK, THINK_END = Mark("<think>"), Mark("</think>")
_THOUGHT = re.compile(r"\A\s*<think>(.*?)(?:</think>|\Z)\s*", re.DOTALL)


class _Run(NamedTuple):
    """A text, or a control token with its id; `hidden` characters at its start have no ids."""

    text: str
    number: int | None = None
    hidden: int = 0


class TemplateRenderer(Plain):
    """A family says in `outer` what stands around a message, in `inner` what a message holds.

    `thinks` is where a policy thinks: "never", "tagged" (it opens and closes `<think>` itself) or
    "opened" (the header has opened the thought).
    """

    dialect: Dialect = HERMES
    stops: tuple[str, ...] = ()
    ends = ""
    start: tuple[str, ...] = ()
    trims = False
    thinks = "tagged"
    after_thought = "\n\n"
    before_calls = "\n"

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, int | None] = {}
        found = (self.find(name) for name in self.stops)
        self._end = tokenizer.control(self.ends)
        self.stop_ids: Ids = tuple(dict.fromkeys([self._end, *(i for i in found if i is not None)]))
        self.seams: Sequence[Seam] = self.joints()

    # ------------------------------------------------------------ what a family says

    def outer(self, role: Role) -> tuple[list[str], list[str]]:
        """Parts before and after a message of `role`."""
        raise NotImplementedError

    def inner(self, message: Message) -> list[str]:
        """The parts of a message inside its frame."""
        return self.content(message)

    def told(self, message: Message) -> list[str]:
        """The parts of an assistant's message that nobody sampled, such as an example."""
        thought = self.thought(message.thinking) if message.thinking else []
        opened = self.opened() if thought and self.thinks == "opened" else []
        parts = [*opened, *thought, *self.content(message)]
        if message.tool_calls:
            parts += [self.before_calls] if message.text else []
            parts += self.dialect.write(message.tool_calls)
        return parts

    def opening(self, messages: Sequence[Message], tools: Sequence[Tool]) -> list[Message]:
        """The opening messages with the tools among them; here as they are."""
        return list(messages)

    def joints(self) -> tuple[Seam, ...]:
        """Where neighbouring messages are written otherwise."""
        return ()

    def picture(self, image: Image) -> list[str]:
        """The parts that stand for a picture: nothing, as the ids have no place for it."""
        return []

    def opened(self) -> list[str]:
        """What the header says of the turn's thoughts."""
        return [THINK, "\n"] if self.thinks == "opened" else []

    # ------------------------------------------------------------ parts and ids

    def find(self, name: str) -> int | None:
        """The id of a control token, None if the vocabulary lacks it."""
        if name not in self._known:
            try:
                self._known[name] = self.tokenizer.control(name)
            except FoldgymError:
                self._known[name] = None
        return self._known[name]

    def _runs(self, parts: Sequence[str]) -> list[_Run]:
        """Texts, as long as can be, and control tokens with their ids."""
        runs: list[_Run] = []
        for part in parts:
            number = self.find(part) if isinstance(part, Mark) else None
            if number is None and runs and runs[-1].number is None:
                runs[-1] = _Run(runs[-1].text + part)
            elif part:
                runs.append(_Run(part, number))
        pairs = zip([None, *runs], runs, strict=False)
        return [run._replace(hidden=self._hidden(before, run)) for before, run in pairs]

    def _hidden(self, before: _Run | None, run: _Run) -> int:
        """Characters of white space that a control token swallows, as those of Phi 3 do."""
        swallowing = getattr(self.tokenizer, "swallowing", ())
        if before is None or before.number not in swallowing or run.number is not None:
            return 0
        return len(run.text) - len(run.text.lstrip())

    def lay(self, parts: Sequence[str]) -> Ids:
        """The ids of parts."""
        ids: list[int] = []
        for text, number, hidden in self._runs(parts):
            ids += self.tokenizer.encode(text[hidden:]) if number is None else (number,)
        return tuple(ids)

    def content(self, message: Message) -> list[str]:
        """Text as it is (without white space around it where the template trims), pictures."""
        if isinstance(message.content, str):
            return [message.content.strip() if self.trims else message.content]
        parts: list[str] = []
        for part in message.content:
            parts += [part] if isinstance(part, str) else self.picture(part)
        return parts

    # ------------------------------------------------------------ the renderer's methods

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """The start of the text, then the opening messages with the tools among them."""
        shown = self.opening(messages, tools)
        pieces = [Piece(self.encode(each), each.role, each.role) for each in shown]
        return (*self.lay(self.start), *weave(pieces, self.seams))

    def encode(self, message: Message) -> Ids:
        """One message nobody sampled, in its frame."""
        before, after = self.frame(message.role)
        told = self.told if message.role == "assistant" else self.inner
        return (*before, *self.lay(told(message)), *after)

    def frame(self, role: Role) -> tuple[Ids, Ids]:
        """What stands before and after a message of `role`."""
        before, after = self.outer(role)
        return self.lay(before), self.lay(after)

    def header(self, cut: Ids = ()) -> Ids:
        """The frame of an assistant's message, and the thought that it opens.

        A thought that is not shown again is not opened either.
        """
        gone = bool(cut) and THINK_END in self.tokenizer.decode(cut)
        return self.lay([*self.outer("assistant")[0], *([] if gone else self.opened())])

    def seal(self, ids: Ids) -> Ids:
        """What closes the turn, without the end token if that was sampled."""
        after = self.frame("assistant")[1]
        return after[1:] if ids and after and ids[-1] == after[0] else after

    def turn(self, message: Message, tools: Sequence[Tool]) -> list[str]:
        """The parts with which a policy would say `message`."""
        parts = self.thought(message.thinking)
        if text := message.text:
            parts.append(text)
        if message.tool_calls:
            parts += [self.before_calls] if text else []
            parts += self.dialect.write(message.tool_calls)
        return parts

    def thought(self, thinking: str) -> list[str]:
        """The parts of a thought, closed."""
        if self.thinks == "opened":
            return [f"{thinking}\n" if thinking else "\n", THINK_END, self.after_thought]
        return [THINK, f"\n{thinking}\n", THINK_END, self.after_thought] if thinking else []

    def write(self, message: Message, tools: Sequence[Tool]) -> str:
        """Thinking, text and calls, with control tokens by their names."""
        return "".join(self.turn(message, tools))

    def say(self, message: Message, tools: Sequence[Tool]) -> Ids:
        """What `write` writes, and the end token."""
        return (*self.lay(self.turn(message, tools)), self.end(message))

    def end(self, message: Message) -> int:
        """The token with which a policy ends `message`."""
        return self._end

    def spans(self, message: Message, tools: Sequence[Tool]) -> tuple[tuple[int, int], ...]:
        """Those of every text, and one for every control token."""
        spans: list[tuple[int, int]] = []
        at = 0
        for text, number, hidden in self._runs(self.turn(message, tools)):
            inside = self.tokenizer.spans(text[hidden:]) if number is None else ((0, len(text)),)
            spans += [(at + hidden + first, at + hidden + last) for first, last in inside]
            at += len(text)
        return tuple(spans)

    def parse(self, ids: Ids, tools: Sequence[Tool]) -> Parsed:
        """Splits thinking, text and calls; never raises."""
        text = self.tokenizer.decode(body(ids, self.stop_ids))
        thinking, rest = split_thought(text, self.thinks == "opened")
        read = self.dialect.read(rest, tools)
        thinking = read.message.thinking or thinking
        return Parsed(replace(read.message, thinking=thinking), read.problem)

    def thoughts(self, ids: Ids, when: When) -> tuple[tuple[int, int], ...]:
        """The thought at the start, its tags and the white space behind it, in a past turn."""
        if when != "past" or self.thinks == "never":
            return ()
        end = self.thought_end(ids)
        return ((0, end),) if end else ()

    def thought_end(self, ids: Ids) -> int:
        """How many ids at the start of a turn are its thought; 0 without a closed one."""
        opened = self.thinks == "opened"
        return thought_end(self.tokenizer, ids, opened, bool(self.after_thought))


def thought_end(tokenizer: Tokenizer, ids: Ids, opened: bool, newlines: bool = True) -> int:
    """How many ids at the start of a turn are its thought; 0 without a closed one.

    `opened` says that the turn begins inside of it; `newlines` behind it belong to it.
    """
    decode = tokenizer.decode
    text = decode(ids)
    if THINK_END not in text or not (opened or text.lstrip().startswith(THINK)):
        return 0
    low, high = 1, len(ids)
    while low < high:  # the shortest start that holds all of the thought
        middle = (low + high) // 2
        if THINK_END in decode(ids[:middle]):
            high = middle
        else:
            low = middle + 1
    while newlines and low < len(ids) and not decode(ids[low : low + 1]).strip("\n"):
        low += 1
    return low


def split_thought(text: str, opened: bool) -> tuple[str, str]:
    """A thought and what follows; `opened` says that the text begins inside of it.

    One that is not closed is all there is.
    """
    if opened and not text.lstrip().startswith(THINK):
        text = f"{THINK}{text}"
    found = _THOUGHT.match(text)
    if found is None:
        return "", text.strip()
    return found.group(1).strip(), text[found.end() :].strip()


def schema(tool: Tool) -> dict[str, Json]:
    """A tool as chat templates and chat APIs are given it."""
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }
    return {"type": "function", "function": function}


def schema_lines(tools: Sequence[Tool], indent: int | None = None) -> list[str]:
    """Each tool as JSON, as templates dump it."""
    return [json.dumps(schema(tool), ensure_ascii=False, indent=indent) for tool in tools]


def led(messages: Sequence[Message], role: Role = "system") -> tuple[str | None, list[Message]]:
    """The text of the first message if it is of `role`, and the messages behind it."""
    if messages and messages[0].role == role:
        return messages[0].text, list(messages[1:])
    return None, list(messages)
