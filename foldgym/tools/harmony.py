"""The channels of GPT-OSS: thinking is analysis, calls go to `functions.NAME`, answers are final.

`<|channel|>analysis<|message|>hm<|end|><|start|>assistant to=functions.search<|channel|>commentary
json<|message|>{"query": "Ada"}<|call|>` is what stands behind `<|start|>assistant`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from foldgym.tools.arguments import Mistake, read_object
from foldgym.tools.dialects import Dialect, Found, Mark, between, object_of
from foldgym.types import Tool, ToolCall

START, CHANNEL, MESSAGE = Mark("<|start|>"), Mark("<|channel|>"), Mark("<|message|>")
END, CALL, RETURN = Mark("<|end|>"), Mark("<|call|>"), Mark("<|return|>")
CONSTRAIN = Mark("<|constrain|>")

_TO = re.compile(r"to=([^\s<]+)")
_ON = re.compile(r"<\|channel\|>\s*(\w*)")
_END = re.compile(r"(?:<\|(?:end|call|return)\|>)?\s*\Z")
_CUT = re.compile(r"assistant(?: to=\S*)?(?:<\|channel\|>[\w ]*)?(?:<\|constrain\|>\w*)?\s*")


def on_channel(channel: str, text: str) -> list[str]:
    """One message of the assistant without its start and end: channel and text."""
    return [CHANNEL, channel, MESSAGE, text]


def _write(calls: Sequence[ToolCall]) -> list[str]:
    """Behind `<|start|>assistant`; the last `<|call|>` is the end token and is left out."""
    each = [
        [f" to=functions.{call.name}", CHANNEL, "commentary json", MESSAGE, object_of(call)]
        for call in calls
    ]
    joined = between([[*parts, CALL, START] for parts in each], "assistant")
    return joined[:-2]


def _find(text: str, tools: Sequence[Tool]) -> Found:
    """Every message on its channel. Text without any `<|message|>` is plain content."""
    if MESSAGE not in text:
        return Found(_END.sub("", text, count=1).strip(), ())
    thinking: list[str] = []
    content: list[str] = []
    calls: list[tuple[str, str]] = []
    for message in _messages(text):
        head, _, body = message.partition(MESSAGE)
        body = _END.sub("", body, count=1)
        channel, to = _ON.search(head), _TO.search(head)
        before = _TO.sub("", head.partition(CHANNEL)[0].removeprefix("assistant")).strip()
        content += [before] if before else []
        if to is not None:
            name = to.group(1).removeprefix("functions.")
            if not name:
                raise Mistake("to=functions. names no tool")
            read_object(body, name)
            calls.append((name, body.strip() or "{}"))
        elif channel is not None and channel.group(1) == "analysis":
            thinking.append(body)
        elif channel is not None and channel.group(1) not in ("commentary", "final"):
            content.append(message)
        else:
            content.append(body)
    return Found("\n".join(content).strip(), calls, "\n".join(thinking))


def _messages(text: str) -> list[str]:
    """Cut at every `<|start|>` that begins a message; a head that was cut short is none."""
    messages: list[str] = []
    for part in text.split(START):
        if MESSAGE in part or not messages:
            messages.append(part)
        elif not _CUT.fullmatch(part):
            messages[-1] += START + part
    return messages


HARMONY = Dialect("harmony", _write, _find)
