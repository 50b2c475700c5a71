"""A renderer for any chat template that only appends, found out by comparing what it renders."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile

from foldgym.agents.engines.chat_template import ChatTemplate
from foldgym.agents.engines.tokenizer import Tokenizer
from foldgym.agents.renderers import Seam
from foldgym.agents.renderers.template import TemplateRenderer
from foldgym.errors import ConfigError
from foldgym.tools.dialects import (
    DEEPSEEK,
    GLM,
    HERMES,
    LISTED,
    LLAMA,
    PYTHONIC,
    XML,
    Dialect,
    Mark,
)
from foldgym.types import Ids, Message, Role, Tool, ToolCall

_DIALECTS = (HERMES, XML, GLM, DEEPSEEK, LISTED, LLAMA, PYTHONIC)
_PROBE = Tool(
    "probe_tool",
    "Probe.",
    {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
)


def _word(number: int) -> str:
    """A text that no template has, and that none would change."""
    return f"\ue000{number}\ue001"


_WORD = re.compile("(\ue000\\d+\ue001)")


class GenericRenderer(TemplateRenderer):
    """Frames are what a template writes around words that we know, in conversations that we make.

    Whatever a template writes between two messages must not depend on what follows later: if a
    longer conversation does not begin with the shorter one, it is refused with `ConfigError`, as
    there is nothing that could be appended. A template that knows no tool results gets them as the
    user's words; thoughts stay (memory "drop_thinking" drops them where the template does).
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        if not tokenizer.template:
            raise ConfigError(
                "the renderer 'generic' needs the tokenizer's chat template, and this folder has "
                "none (chat_template.jinja); name a family instead"
            )
        self._template = ChatTemplate(tokenizer.template, tokenizer.settings)
        self._names = sorted(tokenizer.controls(), key=len, reverse=True)
        self._split = re.compile("|".join(map(re.escape, self._names)) or r"(?!)")
        self._learn()
        self.dialect = self._dialect()
        first = next((part for part in self._closing if isinstance(part, Mark)), None)
        eos = self._template.tokens.get("eos_token")
        if first is None and eos is None:
            raise ConfigError("the chat template ends a turn with no control token, and no eos")
        self.ends = first or Mark(eos or "")
        self.stops = tuple(mark for mark in (eos,) if mark)
        super().__init__(tokenizer)

    # ------------------------------------------------------------ what the template says

    def _learn(self) -> None:
        user, said, more = (Message("user", _word(0)), Message("assistant", _word(1)), _word(2))
        asked, answered = self._seen([user]), self._seen([user, said], prompt=False)
        again = self._seen([user, said, Message("user", more)])
        if len(asked) != 3 or len(answered) != 5 or len(again) != 7:
            raise ConfigError("the chat template leaves out or repeats what was said")
        close_user = _common(self._parts(asked[2]), self._parts(self._alone(user)[2]))
        header = self._parts(asked[2])[len(close_user) :]
        shown = self._parts(again[2])
        if shown != [*close_user, *header]:
            raise ConfigError(
                f"the chat template opens a turn with {''.join(header)!r} but shows it later as "
                f"{''.join(shown[len(close_user) :])!r}: it rewrites what was sampled, so nothing "
                "can be appended to it. Name a family (policy.renderer) that knows how"
            )
        if again[:3] != answered[:3] or again[-1] != asked[-1]:
            raise ConfigError(
                f"the chat template writes a turn as {answered[2]!r} while it is the last and as "
                f"{again[2]!r} later: it rewrites what was sampled, so nothing can be appended to "
                "it. Name a family (policy.renderer) that knows how"
            )
        self._closing = _common(self._parts(again[4]), self._parts(answered[4]))
        open_user = self._parts(again[4])[len(self._closing) :]
        self._outer: dict[str, tuple[list[str], list[str]]] = {
            "user": (open_user, close_user),
            "assistant": (header, self._closing),
        }
        self._between: list[str] | None = None
        spaced = f" {_word(0)} "
        self._trimmed = (
            {"user"} if spaced not in self._template([Message("user", spaced)]) else set()
        )
        self._results = self._learn_results(user)
        self._system = self._learn_system([user, said])

    def _alone(self, message: Message) -> list[str]:
        return self._seen([message], prompt=False)

    def _learn_results(self, user: Message) -> bool:
        """Frames of tool results; whether the template has any."""
        calls = tuple(ToolCall("probe_tool", f'{{"text": "{_word(1)}"}}', f"c{n}") for n in (0, 1))
        results = [Message("tool", _word(n), tool_call_id=f"c{n - 2}") for n in (2, 3)]
        called = [Message("assistant", "", tool_calls=calls[:n]) for n in (1, 2)]
        quoted = Message("tool", f'{_word(2)}"{_word(3)}', tool_call_id="c0")
        try:
            one = self._seen([user, called[0], results[0]])
            plain = '"' in self._seen([user, called[0], quoted])
        except ConfigError:
            return False
        if _word(2) not in one or one.count(_word(1)) != 1 or not plain:
            return False
        try:
            two = self._seen([user, called[1], *results])
        except ConfigError:  # it takes one call a turn
            two = [_word(2)]
        place = one.index(_word(2))
        gap, tail = self._parts(one[place - 1]), self._parts(one[place + 1])
        header = self._outer["assistant"][0]
        if tail[len(tail) - len(header) :] != header:
            return False
        after = tail[: len(tail) - len(header)]
        inside = self._parts(two[two.index(_word(2)) + 1]) if _word(3) in two else []
        end = next((mark for mark in self._closing if isinstance(mark, Mark)), None)
        if end is None or end not in gap:
            return False
        start = len(gap) - 1 - gap[::-1].index(end) if gap.count(end) == 1 else gap.index(end)
        before = gap[start + len(self._closing) :]
        if gap[start : start + len(self._closing)] != self._closing:
            before = _after(gap[start:], self._closing)
        self._outer["tool"] = (before, after)
        if inside and inside != [*after, *before]:
            self._between = inside
        return True

    def _learn_system(self, rest: Sequence[Message]) -> bool:
        """Whether a system message may open a text."""
        spaced = f" {_word(7)} "
        try:
            found = self._template([Message("system", spaced), *rest])
        except ConfigError:
            return False
        if spaced not in found:
            self._trimmed.add("system")
        return _word(7) in found

    def _dialect(self) -> Dialect:
        """The one that reads what the template writes of a call, Hermes' if it writes nothing."""
        asked = [Message("user", _word(0))]
        call = ToolCall("probe_tool", f'{{"text": "{_word(1)}"}}', "c0")
        try:
            text = self._template([*asked, Message("assistant", "", tool_calls=(call,))], (), False)
        except ConfigError:
            return HERMES
        text = text.partition(_word(0))[2]
        if _word(1) not in text:
            return HERMES
        header = "".join([*self._outer["user"][1], *self._outer["assistant"][0]])
        text = text.removeprefix(header)
        for dialect in _DIALECTS:
            read = dialect.read(text, (_PROBE,))
            if [each.name for each in read.message.tool_calls] == ["probe_tool"]:
                return dialect
        return HERMES

    def _seen(self, messages: Sequence[Message], prompt: bool = True) -> list[str]:
        """What is rendered, cut at our words."""
        return _WORD.split(self._template(messages, (), prompt))

    def _parts(self, text: str) -> list[str]:
        """A text that the template wrote, control tokens as marks."""
        parts: list[str] = []
        at = 0
        for found in self._split.finditer(text):
            parts += [text[at : found.start()]] if found.start() > at else []
            parts.append(Mark(found.group()))
            at = found.end()
        return [*parts, text[at:]] if at < len(text) else parts

    # ------------------------------------------------------------ a family like the others

    def outer(self, role: Role) -> tuple[list[str], list[str]]:
        """As learned; a role that the template does not know speaks as the user."""
        return self._outer.get(role, self._outer["user"])

    def inner(self, message: Message) -> list[str]:
        """Results in tags where the template has no place for them."""
        content = self.content(message)
        if message.role == "tool" and not self._results:
            return ["<tool_response>\n", *content, "\n</tool_response>"]
        return content

    def content(self, message: Message) -> list[str]:
        """Without white space around it in the roles whose text the template trims."""
        if isinstance(message.content, str) and message.role in self._trimmed:
            return [message.content.strip()]
        return super().content(message)

    def joints(self) -> tuple[Seam, ...]:
        """Neighbouring results, where the template joins them."""
        if self._between is None:
            return ()
        before, after = (self.lay(parts) for parts in self.outer("tool"))
        return (Seam("tool", "tool", after, before, self.lay(self._between)),)

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """What the template writes, up to the header. Raises `ConfigError` where it refuses."""
        shown = list(messages)
        if shown and shown[0].role == "system" and not self._system:
            told, *shown = shown
            first = shown[0].text if shown else ""
            shown[:1] = [Message("user", f"{told.text}\n\n{first}")]
        words = [Message(each.role, _word(100 + n)) for n, each in enumerate(shown)]
        ends = "".join(self._outer["assistant"][0])
        text = self._template(words, tools).removesuffix(ends)
        parts: list[str] = []
        for piece in _WORD.split(text):
            if _WORD.fullmatch(piece):
                message = shown[int(piece[1:-1]) - 100]
                assistant = message.role == "assistant"
                parts += self.told(message) if assistant else self.content(message)
            else:
                parts += self._trusted(piece, tools)
        for n, message in enumerate(shown):
            if text.count(_word(100 + n)) != 1:
                raise ConfigError(f"the chat template does not show {message.text[:60]!r} once")
        return self.lay(parts)

    def _trusted(self, text: str, tools: Sequence[Tool]) -> list[str]:
        """Control tokens are marks, except where a tool's own words spell one."""
        spelled = {name for name in self._names for tool in tools if name in repr(tool)}
        return [str(p) if p in spelled else p for p in self._parts(text)]


def _common(left: Sequence[str], right: Sequence[str]) -> list[str]:
    """The parts with which both begin; of the last, if it is text in both, what they share."""
    pairs = list(zip(left, right, strict=False))
    same = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    if len(same) < len(pairs):
        a, b = pairs[len(same)]
        marks = isinstance(a, Mark) or isinstance(b, Mark)
        if not marks and (a.startswith(b) or b.startswith(a)):
            same.append(min(a, b, key=len))
    return same


def _after(parts: Sequence[str], start: Sequence[str]) -> list[str]:
    """The parts behind `start`, whose last text may be the beginning of one of theirs."""
    rest = list(parts)
    for part in start:
        if rest and rest[0] == part:
            rest.pop(0)
        elif rest and not isinstance(rest[0], Mark) and rest[0].startswith(part):
            rest[0] = rest[0][len(part) :]
    return rest
