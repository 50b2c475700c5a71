"""How families of models write tool calls: each dialect from calls to text and back.

    hermes     <tool_call>\\n{"name": "search", "arguments": {"query": "Ada"}}\\n</tool_call>
    llama      {"name": "search", "parameters": {"query": "Ada"}}
    xml        <tool_call>\\n<function=search>\\n<parameter=query>\\nAda\\n</parameter> ...
    glm        <tool_call>search\\n<arg_key>query</arg_key>\\n<arg_value>Ada</arg_value> ...
    deepseek   function, a separator, the name, the arguments in a fenced block, in markers
    pythonic   [search(query="Ada")]                                    (`tools/pythonic.py`)
    harmony    a message on a channel, to=functions.search               (`tools/harmony.py`)

Reading is tolerant and never raises: what cannot be read is a `Parsed.problem`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from foldgym.tools.arguments import Mistake, decoder, printable, read_object, short, usage
from foldgym.tools.pythonic import read_pythonic, tool_names, write_pythonic
from foldgym.tools.syntax import MAX_CALLS, Parsed, as_value, parse_action
from foldgym.types import Json, Message, Tool, ToolCall


class Mark(str):
    """A marker of a template: one control id where the vocabulary has it, else plain text."""

    __slots__ = ()


class Found(NamedTuple):
    """What stands in a text: names and arguments (as JSON text) of calls, and the rest."""

    content: str
    calls: Sequence[tuple[str, str]]
    thinking: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """`write` gives parts of a text, of which every `Mark` may be a control id.

    `find` raises `Mistake`, `read` never raises.
    """

    name: str
    write: Callable[[Sequence[ToolCall]], list[str]]
    find: Callable[[str, Sequence[Tool]], Found]

    def read(self, text: str, tools: Sequence[Tool]) -> Parsed:
        """The message; with a problem it holds the text and no calls."""
        text = printable(text)
        try:
            found = self.find(text, tools)
            if len(found.calls) > MAX_CALLS:
                raise Mistake(f"more than {MAX_CALLS} tool calls in one message")
        except Mistake as mistake:
            listing = "; ".join(usage(tool) for tool in tools) or "none"
            return Parsed(Message("assistant", text), f"error: {mistake}. Tools: {listing}")
        calls = tuple(
            ToolCall(printable(name), printable(arguments), f"call_{number}")
            for number, (name, arguments) in enumerate(found.calls)
        )
        return Parsed(Message("assistant", found.content, found.thinking, calls))


def as_json(call: ToolCall, key: str = "arguments") -> str:
    """`{"name": ..., "arguments": ...}` with the arguments exactly as written."""
    return f'{{"name": {json.dumps(call.name, ensure_ascii=False)}, "{key}": {object_of(call)}}}'


def object_of(call: ToolCall) -> str:
    """The arguments as written; nothing at all is the empty object."""
    return call.arguments if call.arguments.strip() else "{}"


def between(parts: Sequence[list[str]], glue: str) -> list[str]:
    """All parts, with `glue` between each two."""
    joined: list[str] = []
    for number, each in enumerate(parts):
        joined += [glue, *each] if number else each
    return joined


def arguments_of(call: ToolCall) -> dict[str, Json] | None:
    """The arguments as an object; None if they are none."""
    try:
        return read_object(call.arguments, call.name)
    except Mistake:
        return None


def one_call(text: str, tools: Sequence[Tool]) -> tuple[str, str]:
    """The only call that `text` makes, in JSON or in one compact line. Raises `Mistake`."""
    read = parse_action(text, tools)
    if read.problem:
        raise Mistake(read.problem.removeprefix("error: ").partition(". Tools: ")[0])
    if len(read.message.tool_calls) != 1:
        raise Mistake("it names no tool")
    if read.message.text:
        raise Mistake(f"{short(read.message.text)} stands beside the call")
    (call,) = read.message.tool_calls
    return call.name, call.arguments


def read_blocks(
    blocks: Sequence[str],
    tools: Sequence[Tool],
    read: Callable[[str, Sequence[Tool]], tuple[str, str]],
) -> list[tuple[str, str]]:
    """The call of each block. Raises `Mistake` that says which cannot be read."""
    calls: list[tuple[str, str]] = []
    for number, block in enumerate(blocks, 1):
        try:
            calls.append(read(block.strip("\n"), tools))
        except Mistake as mistake:
            raise Mistake(f"tool call {number} of {len(blocks)}: {mistake}") from None
    return calls


def typed(tool_name: str, given: Sequence[tuple[str, str]], tools: Sequence[Tool]) -> str:
    """Arguments that were written as text, as JSON: strings where the tool wants strings."""
    tool = next((tool for tool in tools if tool.name == tool_name), None)
    schemas = tool.parameters.get("properties", {}) if tool else {}
    values: dict[str, Json] = {}
    for key, text in given:
        if key in values:
            raise Mistake(f"the parameter {short(key)} appears twice")
        values[key] = as_value(text, schemas.get(key, {}))
    return json.dumps(values, ensure_ascii=False)


def written(value: Json) -> str:
    """A value as such dialects write it: strings as they are, the rest as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# ------------------------------------------------------------------ JSON between tags

_OPEN, _CLOSE = Mark("<tool_call>"), Mark("</tool_call>")
_LEFT = " \t\r\n}],;"  # between calls, or brackets too many


def tool_call_blocks(
    text: str, opening: str = _OPEN, closing: str = _CLOSE
) -> tuple[str, list[str]]:
    """What stands outside of `<tool_call>` tags, and inside of each pair; the last may be open.

    A tag within the JSON of a call is text; what follows the JSON and is none stands outside.
    Raises `Mistake` for too many.
    """
    outside: list[str] = []
    blocks: list[str] = []
    at = 0
    while (start := text.find(opening, at)) >= 0:
        outside.append(text[at:start])
        start += len(opening)
        ended = _json_end(text, start)
        close, following = text.find(closing, ended), text.find(opening, ended)
        close, at = (close, close + len(closing)) if close >= 0 else (len(text), len(text))
        if ended > start and 0 <= following < at:  # it was not closed
            close = at = following
        more = text[ended:close].strip(_LEFT)
        if ended > start and not _json_end(more, 0):  # else a second call, which is a mistake
            outside.append(more)
            close = ended
        blocks.append(text[start:close])
        if len(blocks) > MAX_CALLS:
            raise Mistake(f"more than {MAX_CALLS} tool calls in one message")
    return "".join([*outside, text[at:]]).strip(), blocks


def _json_end(text: str, start: int) -> int:
    """Where the JSON that begins here ends, behind white space; `start` if there is none."""
    first = start
    while text[first : first + 1].isspace():
        first += 1
    try:
        return decoder.raw_decode(text, first)[1]
    except (ValueError, RecursionError):
        return start


def _write_hermes(calls: Sequence[ToolCall]) -> list[str]:
    return between([_hermes(as_json(call)) for call in calls], "\n")


def _hermes(body: str) -> list[str]:
    return [_OPEN, f"\n{body}\n", _CLOSE]


def _find_tagged(text: str, tools: Sequence[Tool]) -> Found:
    content, blocks = tool_call_blocks(text)
    return Found(content, read_blocks(blocks, tools, _block))


def _block(block: str, tools: Sequence[Tool]) -> tuple[str, str]:
    """One block, whichever of the three ways it is written in."""
    body = block.strip()
    if body.startswith("<function="):
        return _function(body, tools)
    if not body.startswith("{") and ("<arg_key>" in body or _NAME.fullmatch(body)):
        return _keys(body, tools)
    return one_call(body, tools)


HERMES = Dialect("hermes", _write_hermes, _find_tagged)

# ------------------------------------------------------------------ XML, two ways

_NAME = re.compile(r"[A-Za-z_][\w.\-]{0,63}")
_FUNCTION = re.compile(r"<function=([^>\n]*)>\n?(.*?)(?:</function>|\Z)", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>\n]*)>\n?(.*?)\n?</parameter>", re.DOTALL)
_PAIR = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)


def _write_xml(calls: Sequence[ToolCall]) -> list[str]:
    return between([_xml(call) for call in calls], "\n")


def _xml(call: ToolCall) -> list[str]:
    given = _plain(call, "parameter", "function")
    if given is None:
        return _hermes(as_json(call))
    lines = [f"<parameter={key}>\n{written(value)}\n</parameter>" for key, value in given.items()]
    return _hermes("\n".join([f"<function={call.name}>", *lines, "</function>"]))


def _function(body: str, tools: Sequence[Tool]) -> tuple[str, str]:
    found = _FUNCTION.match(body)
    name = found.group(1).strip() if found else ""
    if found is None or not name:
        raise Mistake("<function=...> names no tool")
    inside = found.group(2)
    if _PARAMETER.sub("", inside).strip():
        raise Mistake("broken <parameter=...> block")
    return name, typed(name, cast("list[tuple[str, str]]", _PARAMETER.findall(inside)), tools)


XML = Dialect("xml", _write_xml, _find_tagged)


def _write_glm(calls: Sequence[ToolCall]) -> list[str]:
    return between([_glm(call) for call in calls], "\n")


def _glm(call: ToolCall) -> list[str]:
    given = _plain(call, "arg_key", "arg_value")
    if given is None:
        return _hermes(as_json(call))
    parts: list[str] = [_OPEN, f"{call.name}\n"]
    for key, value in given.items():
        parts += [Mark("<arg_key>"), key, Mark("</arg_key>"), "\n"]
        parts += [Mark("<arg_value>"), written(value), Mark("</arg_value>"), "\n"]
    return [*parts, _CLOSE]


def _plain(call: ToolCall, *tags: str) -> dict[str, Json] | None:
    """The arguments as an object, unless they are none or hold one of the tags around them."""
    given = arguments_of(call)
    texts = [call.name, *given, *map(written, given.values())] if given else []
    closing = [f"</{tag}>" for tag in (*tags, "tool_call")]
    return None if any(tag in text for tag in closing for text in texts) else given


def _keys(body: str, tools: Sequence[Tool]) -> tuple[str, str]:
    name, _, inside = body.partition("<arg_key>")
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise Mistake(f"{short(name)} is no tool's name")
    inside = f"<arg_key>{inside}" if inside else ""
    if _PAIR.sub("", inside).strip():
        raise Mistake("broken <arg_key> and <arg_value> pairs")
    pairs = cast("list[tuple[str, str]]", _PAIR.findall(inside))
    return name, typed(name, [(key.strip(), value) for key, value in pairs], tools)


GLM = Dialect("glm", _write_glm, _find_tagged)

# ------------------------------------------------------------------ bare JSON

_BARE = re.compile(
    r'^[ \t]*(?:<\|python_tag\|>)?\s*[\[{](?=\s*(?:\{\s*)?"(?:name|type)")', re.MULTILINE
)


def _write_llama(calls: Sequence[ToolCall]) -> list[str]:
    return ["; ".join(as_json(call, "parameters") for call in calls)]


def _find_llama(text: str, tools: Sequence[Tool]) -> Found:
    """JSON from the start of a line to the end of the text; `<|python_tag|>` may open it."""
    begun = _BARE.search(text)
    if begun is None:
        return _tagged_code(text, tools)
    content = text[: begun.start()].strip()
    body = text[begun.start() :].strip().removeprefix("<|python_tag|>").strip()
    read = parse_action(body, tools)
    if read.problem:
        raise Mistake(read.problem.removeprefix("error: ").partition(". Tools: ")[0])
    calls = [(call.name, call.arguments) for call in read.message.tool_calls]
    rest = read.message.text.strip()
    return Found("\n".join(part for part in (content, rest) if part), calls)


def _tagged_code(text: str, tools: Sequence[Tool]) -> Found:
    """`<|python_tag|>search.call(query="Ada")`, as for the tools that Llama was born with."""
    content, tag, code = text.partition("<|python_tag|>")
    if not tag:
        return Found(text.strip(), ())
    _, calls = read_pythonic(f"[{code.strip()}]", ())
    if not calls:
        raise Mistake(f"<|python_tag|> is followed by no call, but by {short(code)}")
    return Found(content.strip(), [(name.removesuffix(".call"), given) for name, given in calls])


LLAMA = Dialect("llama", _write_llama, _find_llama)

# ------------------------------------------------------------------ DeepSeek's markers

_CALLS, _CALLS_END = Mark("<｜tool▁calls▁begin｜>"), Mark("<｜tool▁calls▁end｜>")
_CALL, _CALL_END = Mark("<｜tool▁call▁begin｜>"), Mark("<｜tool▁call▁end｜>")
_SEPARATOR = Mark("<｜tool▁sep｜>")
_DEEP = re.compile(f"{_CALL}(.*?)(?:{_CALL_END}|\\Z)", re.DOTALL)
_FENCED = re.compile(r"\s*(\S+)\s*```(?:json)?\s*(.*?)\s*(?:```\s*)?\Z", re.DOTALL)


def _write_deepseek(calls: Sequence[ToolCall]) -> list[str]:
    parts = [
        [_CALL, "function", _SEPARATOR, f"{call.name}\n```json\n{object_of(call)}\n```", _CALL_END]
        for call in calls
    ]
    return [_CALLS, *between(parts, "\n"), _CALLS_END]


def _find_deepseek(text: str, tools: Sequence[Tool]) -> Found:
    content, _, rest = text.partition(_CALLS)
    if not rest and _CALL in content:
        content, rest = content.split(_CALL, 1)[0], content[content.index(_CALL) :]
    calls = read_blocks(_DEEP.findall(rest), tools, _deep)
    if rest and not calls:
        raise Mistake("the tool calls begin, but there is none")
    after = _DEEP.sub("", rest).replace(_CALLS_END, "", 1)
    return Found("\n".join(filter(None, (content.strip(), after.strip()))), calls)


def _deep(block: str, tools: Sequence[Tool]) -> tuple[str, str]:
    """`function`, separator, name and fenced arguments; or name, separator, arguments."""
    head, separator, rest = block.partition(_SEPARATOR)
    if not separator:
        return one_call(block, tools)
    fenced = _FENCED.match(rest)
    if fenced and head.strip() not in ("function", ""):
        raise Mistake(f"it begins with {short(head)}, not with function")
    name, arguments = fenced.groups() if fenced else (head.strip(), rest.strip())
    if not name:
        raise Mistake("it names no tool")
    read_object(arguments, name)
    return name, arguments


DEEPSEEK = Dialect("deepseek", _write_deepseek, _find_deepseek)

# ------------------------------------------------------------------ a JSON list between marks

_LIST, _LIST_END = Mark("<|tool_call|>"), Mark("<|/tool_call|>")


def _write_list(calls: Sequence[ToolCall]) -> list[str]:
    body = ", ".join(as_json(call) for call in calls)
    return [_LIST, f"[{body}]", _LIST_END]


def _find_list(text: str, tools: Sequence[Tool]) -> Found:
    calls: list[tuple[str, str]] = []
    content, blocks = tool_call_blocks(text, _LIST, _LIST_END)
    for block in blocks:
        read = parse_action(block, tools)
        if read.problem or not read.message.tool_calls:
            why = read.problem.removeprefix("error: ").partition(". Tools: ")[0]
            raise Mistake(why or "the tool call names no tool")
        calls += [(call.name, call.arguments) for call in read.message.tool_calls]
    return Found(content, calls)


LISTED = Dialect("listed", _write_list, _find_list)

# ------------------------------------------------------------------ Python


def _write_python(calls: Sequence[ToolCall]) -> list[str]:
    return [write_pythonic(calls)]


def _find_python(text: str, tools: Sequence[Tool]) -> Found:
    return Found(*read_pythonic(text, tool_names(tools)))


PYTHONIC = Dialect("pythonic", _write_python, _find_python)
