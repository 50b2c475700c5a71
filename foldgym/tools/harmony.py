"""The channels of GPT-OSS: thinking is analysis, calls go to `functions.NAME`, answers are final.

`<|channel|>analysis<|message|>hm<|end|><|start|>assistant to=functions.search<|channel|>commentary
json<|message|>{"query": "Ada"}<|call|>` is what stands behind `<|start|>assistant`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from foldgym.tools.arguments import Mistake, read_object
from foldgym.tools.dialects import Dialect, Found, Mark, between
from foldgym.types import Tool, ToolCall

START, CHANNEL, MESSAGE = Mark("<|start|>"), Mark("<|channel|>"), Mark("<|message|>")
END, CALL, RETURN = Mark("<|end|>"), Mark("<|call|>"), Mark("<|return|>")
CONSTRAIN = Mark("<|constrain|>")

_TO = re.compile(r"to=([^\s<]+)")
_ON = re.compile(r"<\|channel\|>\s*(\w*)")
_ENDS = re.compile(r"<\|(?:end|call|return)\|>")


def on_channel(channel: str, text: str) -> list[str]:
    """One message of the assistant without its start and end: channel and text."""
    return [CHANNEL, channel, MESSAGE, text]


def _write(calls: Sequence[ToolCall]) -> list[str]:
    """Behind `<|start|>assistant`; the last `<|call|>` is the end token and is left out."""
    each = [
        [f" to=functions.{call.name}", CHANNEL, "commentary json", MESSAGE, call.arguments]
        for call in calls
    ]
    joined = between([[*parts, CALL, START] for parts in each], "assistant")
    return joined[:-2]


def _find(text: str, tools: Sequence[Tool]) -> Found:
    """Every message on its channel. Text without any `<|message|>` is plain content."""
    if MESSAGE not in text:
        return Found(_ENDS.sub("", text).strip(), ())
    thinking: list[str] = []
    content: list[str] = []
    calls: list[tuple[str, str]] = []
    for message in text.split(START):
        head, opened, body = message.partition(MESSAGE)
        if not opened:
            continue
        body = _ENDS.split(body, maxsplit=1)[0]
        channel, to = _ON.search(head), _TO.search(head)
        if to is not None:
            name = to.group(1).removeprefix("functions.")
            if not name:
                raise Mistake("to=functions. names no tool")
            read_object(body, name)
            calls.append((name, body.strip() or "{}"))
        elif channel is not None and channel.group(1) == "analysis":
            thinking.append(body)
        else:
            content.append(body)
    return Found("\n".join(content).strip(), calls, "\n".join(thinking))


HARMONY = Dialect("harmony", _write, _find)
