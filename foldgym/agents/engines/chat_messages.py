"""Messages to the chat-completions format and back, with native tool calls or as text.

Native tool calls come with rules that a foldgym conversation need not keep: a window may drop a
call and show its result, a world may answer a call with a user message, ids may repeat. So calls
and results are paired anew: a result without its call becomes a user message, a call without a
result gets one that says so, and an id that was used before is replaced.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from foldgym.tools import Parsed, parse_action
from foldgym.tools.arguments import Mistake, printable
from foldgym.tools.dialects import object_of, tool_call_blocks
from foldgym.types import Content, Image, Json, Message, Tool, ToolCall

Protocol = Literal["native", "text"]
Part = dict[str, Json]

_INTRO = (
    "You can use tools. To use one, write a JSON object with `name` and `arguments` between "
    "<tool_call> and </tool_call>, like this:\n"
    '<tool_call>\n{"name": "NAME", "arguments": {"KEY": "VALUE"}}\n</tool_call>\n'
    "Results come back between <tool_response> and </tool_response>. The tools are, one a line:\n"
)
_THINK = re.compile(r"\A\s*<think>(.*?)(?:</think>|\Z)\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Wording:
    """How messages are written down; see `foldgym.config.ChatSection`."""

    protocol: Protocol = "native"
    tool_images: Literal["inline", "after"] = "inline"
    send_thinking: bool = False


def write_messages(
    messages: Sequence[Message], tools: Sequence[Tool], how: Wording
) -> list[dict[str, Json]]:
    """A conversation as the `messages` of a request."""
    if how.protocol == "native":
        return [entry for message in _paired(messages, how) for entry in _native(message, how)]
    return _as_text(messages, tools, how)


def write_tools(tools: Sequence[Tool]) -> list[dict[str, Json]]:
    """Tools as the `tools` of a request."""
    return [{"type": "function", "function": _schema(tool)} for tool in tools]


def _schema(tool: Tool) -> dict[str, Json]:
    return {
        "name": tool.name,
        "description": tool.description,
        "parameters": dict(tool.parameters),
    }


def _parts(content: Content) -> str | list[Part]:
    """Text stays text; pictures travel as data URLs between the texts around them."""
    if isinstance(content, str):
        return content
    if not any(isinstance(part, Image) for part in content):
        return "".join(part for part in content if isinstance(part, str))
    return [
        {"type": "text", "text": part} if isinstance(part, str) else _picture(part)
        for part in content
        if part != ""
    ]


def _picture(image: Image) -> Part:
    data = b64encode(image.data).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:{image.media_type};base64,{data}"}}


# ---------------------------------------------------------------- native tool calls


def _native(message: Message, how: Wording) -> list[dict[str, Json]]:
    entry: dict[str, Json] = {"role": message.role, "content": _parts(message.content)}
    if message.role == "assistant":
        entry["content"] = message.text
        if how.send_thinking and message.thinking:
            entry["reasoning_content"] = message.thinking
        if message.tool_calls:
            entry["content"] = message.text or None
            entry["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in message.tool_calls
            ]
    if message.role == "tool":
        entry["tool_call_id"] = message.tool_call_id
    return [entry]


def _paired(messages: Sequence[Message], how: Wording) -> list[Message]:
    """The same conversation, every call followed by exactly one result, every id used once."""
    shown: list[Message] = []
    used: set[str] = set()
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if message.role == "tool":
            shown.append(_orphan(message))
        elif message.role != "assistant" or not message.tool_calls:
            shown.append(message)
        else:
            end = next(
                (i for i in range(at, len(messages)) if messages[i].role == "assistant"),
                len(messages),
            )
            shown += _exchange(message, messages[at:end], used, how)
            at = end
    return shown


def _exchange(
    message: Message, replies: Sequence[Message], used: set[str], how: Wording
) -> list[Message]:
    """An assistant message with calls, their results, then whatever else came back."""
    left = list(replies)
    calls: list[ToolCall] = []
    results: list[Message] = []
    for call in message.tool_calls:
        found = next((r for r in left if r.role == "tool" and r.tool_call_id == call.id), None)
        id = call.id if call.id and call.id not in used else f"call_{len(used)}"
        while id in used:
            id += "_"
        used.add(id)
        calls.append(replace(call, id=id))
        if found is None:
            why = "(no result)" if not left else "(see what follows)"
            results.append(Message("tool", why, tool_call_id=id, name=call.name))
        else:
            left.remove(found)
            results.append(replace(found, tool_call_id=id))
    moved = Message("user", ())
    if how.tool_images == "after":
        moved = replace(moved, content=_moved(results))
        results = [_without_pictures(result) for result in results]
    rest = [_orphan(each) if each.role == "tool" else each for each in left]
    said = replace(message, tool_calls=tuple(calls))
    return [said, *results, *([moved] if moved.content else []), *rest]


def _moved(results: Sequence[Message]) -> Content:
    parts: list[str | Image] = []
    for result in results:
        pictures = _images(result)
        if pictures:
            parts += [f"Pictures from the result of {result.name or 'the tool'}:", *pictures]
    return tuple(parts)


def _without_pictures(result: Message) -> Message:
    if not _images(result):
        return result
    return replace(result, content=result.text or "(a picture, see the next message)")


def _images(message: Message) -> list[Image]:
    if isinstance(message.content, str):
        return []
    return [part for part in message.content if isinstance(part, Image)]


def _orphan(message: Message) -> Message:
    """A result whose call is not shown."""
    said = f"[result of {message.name or 'a tool'}]\n"
    content = message.content
    whole = said + content if isinstance(content, str) else (said, *content)
    return Message("user", whole)


# ---------------------------------------------------------------- calls as text


def _as_text(
    messages: Sequence[Message], tools: Sequence[Tool], how: Wording
) -> list[dict[str, Json]]:
    shown = list(messages)
    if tools:
        lines = "\n".join(json.dumps(_schema(tool), ensure_ascii=False) for tool in tools)
        text = f"{_INTRO}{lines}"
        if shown and shown[0].role == "system":
            text = f"{shown.pop(0).text}\n\n{text}"
        shown.insert(0, Message("system", text))
    merged: list[Message] = []
    for message in shown:
        plain = _plain(message)
        if merged and plain.role == "user" and merged[-1].role == "user":
            merged[-1] = replace(merged[-1], content=_joined(merged[-1].content, plain.content))
        else:
            merged.append(plain)
    return [entry for message in merged for entry in _native(message, how)]


def _plain(message: Message) -> Message:
    """Roles that every model knows, calls and results as text."""
    if message.role == "assistant":
        return replace(message, content=write_text(message), tool_calls=())
    if message.role != "tool":
        return message
    content = message.content
    if isinstance(content, str):
        return Message("user", f"<tool_response>\n{content}\n</tool_response>")
    return Message("user", ("<tool_response>\n", *content, "\n</tool_response>"))


def _joined(first: Content, second: Content) -> Content:
    """Two messages of a user as one: many templates refuse two in a row."""
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    parts = [(part,) if isinstance(part, str) else part for part in (first, second)]
    return (*parts[0], "\n\n", *parts[1])


def write_text(message: Message) -> str:
    """What a model writes to say this: text, then a `<tool_call>` block for each call."""
    blocks = [
        f'<tool_call>\n{{"name": {json.dumps(call.name)}, "arguments": {object_of(call)}}}\n'
        "</tool_call>"
        for call in message.tool_calls
    ]
    return "\n".join([*filter(None, [message.text]), *blocks])


def read_text(text: str, tools: Sequence[Tool]) -> Parsed:
    """What a model wrote, to content and calls; never raises.

    Without `<tool_call>` blocks a message that begins like a call is one (`foldgym.tools`). One
    broken block makes the whole message a problem.
    """
    try:
        rest, blocks = tool_call_blocks(text)
    except Mistake as mistake:
        return Parsed(Message("assistant", text), f"error: {mistake}")
    if not blocks:
        return parse_action(text, tools)
    said = Message("assistant", rest)
    calls: list[ToolCall] = []
    for number, block in enumerate(blocks):
        read = parse_action(block, tools)
        if read.problem or len(read.message.tool_calls) != 1:
            why = read.problem.removeprefix("error: ") or "it names no tool"
            return Parsed(said, f"error: tool call {number + 1} of {len(blocks)}: {why}")
        calls.append(replace(read.message.tool_calls[0], id=f"call_{number}"))
    return Parsed(replace(said, tool_calls=tuple(calls)))


# ---------------------------------------------------------------- what comes back


def misshapen(message: Json) -> str:
    """What keeps `read_message` from reading a message; empty if nothing does."""
    if not isinstance(message, dict):
        return "the message is no object"
    calls: Any = cast("dict[str, Any]", message).get("tool_calls") or []
    if not isinstance(calls, list):
        return "tool_calls is no list"
    for number, call in enumerate(cast("list[Any]", calls)):
        if not isinstance(call, dict) or not isinstance(call.get("function") or {}, dict):
            return f"tool_calls.{number} is no object with a function"
    return ""


def read_message(table: Mapping[str, Json]) -> Message:
    """The `message` of a choice that is not `misshapen`.

    Arguments stay exactly as written, but for halves of characters, which no file could hold.
    """
    text = _text(table.get("content")) or _text(table.get("refusal"))
    thinking = _text(table.get("reasoning_content")) or _text(table.get("reasoning"))
    thought = None if thinking else _THINK.match(text)
    if thought:
        thinking, text = thought.group(1).strip(), text[thought.end() :]
    calls: list[ToolCall] = []
    for entry in cast("list[Any]", table.get("tool_calls") or ()):
        call = cast("Mapping[str, Json]", entry)
        function: Mapping[str, Json] = call.get("function") or {}
        arguments = function.get("arguments")
        if not isinstance(arguments, str):  # some servers send the object itself
            arguments = "{}" if arguments is None else json.dumps(arguments, ensure_ascii=False)
        name, id = (printable(str(each or "")) for each in (function.get("name"), call.get("id")))
        calls.append(ToolCall(name, printable(arguments) or "{}", id))
    return Message("assistant", text, thinking, tuple(calls))


def _text(value: Json) -> str:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):  # a list of parts, of which only text can be said
        parts = cast("list[Any]", value)
        texts = (str(part.get("text") or "") for part in parts if isinstance(part, dict))
        return printable("".join(texts))
    return ""
