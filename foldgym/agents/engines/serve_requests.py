"""What clients ask of a served policy, read strictly: a field that would have no effect is refused.

The fields and their meanings are those of OpenAI's `/v1/chat/completions` and `/v1/completions`;
`return_token_ids` is vLLM's.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from foldgym.agents.engines.chat_messages import misshapen, read_message
from foldgym.listening import Refused
from foldgym.types import Content, Ids, Image, Message, Tool

MOST_CHOICES = 128
MOST_PROMPTS = 128

_NEUTRAL: Mapping[str, tuple[object, ...]] = {  # values that ask for nothing
    "top_p": (1, 1.0, None),
    "top_k": (-1, 0, None),
    "min_p": (0, 0.0, None),
    "frequency_penalty": (0, 0.0, None),
    "presence_penalty": (0, 0.0, None),
    "repetition_penalty": (1, 1.0, None),
    "logit_bias": ({}, None),
    "top_logprobs": (0, None),
    "best_of": (1, None),
    "echo": (False, None),
    "suffix": ("", None),
    "response_format": ({"type": "text"}, None),
    "parallel_tool_calls": (True, None),
    "functions": ([], None),
    "function_call": ("auto", "none", None),
    "modalities": (["text"], None),
    "audio": (None,),
}
_NOTES = frozenset({"user", "store", "metadata", "service_tier", "safety_identifier"})
_KNOWN = frozenset(
    {
        *("model", "temperature", "max_tokens", "max_completion_tokens", "stop", "seed", "n"),
        *("logprobs", "stream", "stream_options", "return_token_ids"),
    }
)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: what is shown, and how it is answered. `max_tokens` 0: as much as fits.

    `prompts` are ids or text of plain completions, `messages` and `tools` those of a chat.
    """

    model: str
    prompts: tuple[Ids | str, ...] = ()
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    may_call: bool = True
    temperature: float = 1.0
    max_tokens: int = 0
    stops: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    logprobs: bool = False
    token_ids: bool = False
    stream: bool = False
    usage: bool = False


def read_chat(table: Mapping[str, Any]) -> Asked:
    """The body of `/v1/chat/completions`. Raises `Refused`."""
    _fields(table, {"messages", "tools", "tool_choice"})
    given: Any = table.get("messages")
    if not isinstance(given, list) or not given:
        raise Refused("messages: give a list of at least one message")
    entries = cast("list[Any]", given)
    messages = tuple(_message(entry, f"messages.{i}") for i, entry in enumerate(entries))
    offered: Any = table.get("tools") or []
    if not isinstance(offered, list):
        raise Refused("tools: give a list of functions")
    tools = tuple(_tool(entry, i) for i, entry in enumerate(cast("list[Any]", offered)))
    choice: Any = table.get("tool_choice")
    if choice not in (None, "auto", "none"):
        raise Refused(f"tool_choice: only auto and none are offered, not {_short(choice)}")
    return _asked(
        table,
        messages=messages,
        tools=tools,
        may_call=choice != "none",
        logprobs=_flag(table, "logprobs"),
    )


def read_completion(table: Mapping[str, Any]) -> Asked:
    """The body of `/v1/completions`. Raises `Refused`."""
    _fields(table, {"prompt"})
    logprobs: Any = table.get("logprobs")
    if logprobs not in (None, False, True, 0, 1):
        raise Refused(f"logprobs: only those of sampled ids are known (0 or 1), not {logprobs!r}")
    asked = _asked(
        table, prompts=_prompts(table.get("prompt")), logprobs=logprobs not in (None, False)
    )
    if asked.stream and len(asked.prompts) > 1:
        raise Refused("stream: one prompt at a time can be streamed")
    return asked


def _asked(table: Mapping[str, Any], **more: Any) -> Asked:
    limits = [table.get(name) for name in ("max_completion_tokens", "max_tokens")]
    limit = next((value for value in limits if value is not None), None)
    options: Any = table.get("stream_options") or {}
    if not isinstance(options, dict):
        raise Refused("stream_options: give an object")
    temperature = table.get("temperature")
    seed = table.get("seed")
    return Asked(
        model=_of(table, "model", str, "a text") if "model" in table else "",
        temperature=1.0 if temperature is None else _number(temperature),
        max_tokens=0 if limit is None else _whole(limit, "max_tokens", 1, 1 << 31),
        stops=_stops(table.get("stop")),
        seed=None if seed is None else _whole(seed, "seed", -(1 << 63), 1 << 64),
        n=_whole(1 if table.get("n") is None else table["n"], "n", 1, MOST_CHOICES),
        token_ids=_flag(table, "return_token_ids"),
        stream=_flag(table, "stream"),
        usage=bool(cast("dict[str, Any]", options).get("include_usage")),
        **more,
    )


def _fields(table: Mapping[str, Any], own: set[str]) -> None:
    for name, value in table.items():
        if name in _KNOWN or name in own or name in _NOTES:
            continue
        if name not in _NEUTRAL:
            raise Refused(f"{name}: there is no such option here; remove it")
        if value not in _NEUTRAL[name]:
            raise Refused(f"{name}: {_short(value)} is not offered; remove it")


# ---------------------------------------------------------------- values


def _whole(value: Any, name: str, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Refused(f"{name}: give a whole number from {least} to {most}, not {_short(value)}")
    return value


def _number(value: Any) -> float:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 100
    if not fits:
        raise Refused(f"temperature: give a number from 0 to 100, not {_short(value)}")
    return float(value)


def _flag(table: Mapping[str, Any], name: str) -> bool:
    value = table.get(name)
    if not isinstance(value, bool) and value is not None:
        raise Refused(f"{name}: give true or false, not {_short(value)}")
    return bool(value)


def _of(table: Mapping[str, Any], name: str, kind: type, what: str) -> Any:
    value = table.get(name)
    if not isinstance(value, kind):
        raise Refused(f"{name}: give {what}, not {_short(value)}")
    return value


def _stops(value: Any) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value or []
    if not isinstance(found, list) or not all(isinstance(s, str) and s for s in found):
        raise Refused(f"stop: give a text or a list of texts, not {_short(value)}")
    return tuple(cast("list[str]", found))


def _prompts(value: Any) -> tuple[Ids | str, ...]:
    several = cast("list[Any]", value) if isinstance(value, list) else [value]
    if several and all(_is_id(each) for each in several):
        return (tuple(several),)
    prompts: list[Ids | str] = []
    for each in several:
        if isinstance(each, str) and each:
            prompts.append(each)
        elif isinstance(each, list) and each and all(map(_is_id, cast("list[Any]", each))):
            prompts.append(tuple(cast("list[int]", each)))
        else:
            raise Refused(f"prompt: give a text, token ids, or a list of these, not {_short(each)}")
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise Refused(f"prompt: give 1 to {MOST_PROMPTS} of them, not {len(prompts)}")
    return tuple(prompts)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _short(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


# ---------------------------------------------------------------- messages and tools


def _tool(entry: Any, place: int) -> Tool:
    function: Any = entry.get("function") if isinstance(entry, dict) else None
    name: Any = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise Refused(f"tools.{place}: give a function with a name")
    schema: Any = function.get("parameters") or {"type": "object", "properties": {}}
    if not isinstance(schema, dict):
        raise Refused(f"tools.{place}.function.parameters: give a JSON schema")
    return Tool(name, str(function.get("description") or ""), cast("dict[str, Any]", schema))


def _message(entry: Any, where: str) -> Message:
    if not isinstance(entry, dict):
        raise Refused(f"{where}: give an object, not {_short(entry)}")
    table = cast("dict[str, Any]", entry)
    role = table.get("role")
    if role == "assistant":
        if not isinstance(table.get("content"), (str, list, type(None))):
            raise Refused(f"{where}.content: give a text")
        if wrong := misshapen(table):
            raise Refused(f"{where}: {wrong}")
        return read_message(table)
    roles: Mapping[Any, Callable[[Content], Message]] = {
        "system": lambda content: Message("system", content),
        "developer": lambda content: Message("system", content),
        "user": lambda content: Message("user", content),
        "tool": lambda content: Message(
            "tool",
            content,
            tool_call_id=str(table.get("tool_call_id") or ""),
            name=str(table.get("name") or ""),
        ),
    }
    if role not in roles:
        raise Refused(f"{where}.role: {_short(role)} is none of system, user, assistant, tool")
    return roles[role](_content(table.get("content"), f"{where}.content"))


def _content(value: Any, where: str) -> Content:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise Refused(f"{where}: give a text or a list of parts, not {_short(value)}")
    parts = tuple(_part(part, f"{where}.{i}") for i, part in enumerate(cast("list[Any]", value)))
    if any(isinstance(part, Image) for part in parts):
        return parts
    return "".join(part for part in parts if isinstance(part, str))


def _part(part: Any, where: str) -> str | Image:
    table = cast("dict[str, Any]", part) if isinstance(part, dict) else {}
    if table.get("type") == "text" and isinstance(table.get("text"), str):
        return table["text"]
    if table.get("type") == "image_url":
        given: Any = table.get("image_url")
        url = str(given.get("url") if isinstance(given, dict) else given)
        head, _, data = url.partition(",")
        kind, _, coding = head.removeprefix("data:").partition(";")
        if not url.startswith("data:image/") or coding != "base64":
            raise Refused(f"{where}: pictures must come as data:image/...;base64 URLs")
        try:
            return Image(b64decode(data, validate=True), kind)
        except ValueError:
            raise Refused(f"{where}: the picture is no base64") from None
    raise Refused(f"{where}: give a text or an image_url part, not {_short(part)}")


def parse_body(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a request. Raises `Refused`."""
    try:
        table: Any = json.loads(body)
    except (ValueError, RecursionError) as problem:
        raise Refused(f"the body is no JSON: {problem}", HTTPStatus.BAD_REQUEST) from None
    if not isinstance(table, dict):
        raise Refused(f"the body must be a JSON object, not {type(table).__name__}")
    return cast("dict[str, Any]", table)
