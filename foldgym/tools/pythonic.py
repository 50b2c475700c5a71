"""Calls written as Python: `[search(query="Ada", limit=3), stop()]`. Read, never evaluated."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Sequence
from keyword import iskeyword

from foldgym.tools.arguments import MAX_ARGUMENTS, MAX_DEPTH, Mistake, one_line, read_object, short
from foldgym.types import Json, Tool, ToolCall

_BEGIN = re.compile(r"^[ \t]*\[?[ \t]*[A-Za-z_][\w.]*[ \t]*\(", re.MULTILINE)
_FENCE = re.compile(r"\A```(?:tool_code|python)?\s*\n(.*?)\n?```\Z", re.DOTALL)
_WORDS = {"true": True, "false": False, "null": None}


def write_pythonic(calls: Sequence[ToolCall]) -> str:
    """One list of all calls; arguments that are no object are written as they are."""
    return f"[{', '.join(_written(call) for call in calls)}]"


def _written(call: ToolCall) -> str:
    try:
        given = read_object(call.arguments, call.name)
    except Mistake:
        return f"{call.name}({call.arguments})"
    plain = all(key.isascii() and key.isidentifier() and not iskeyword(key) for key in given)
    inside = (
        ", ".join(f"{key}={_literal(value)}" for key, value in given.items())
        if plain
        else f"**{_literal(given)}"
    )
    return f"{call.name}({inside})"


def _literal(value: Json) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(key)}: {_literal(value[key])}' for key in value)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_literal(each) for each in value)}]"
    if value is None or isinstance(value, bool):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)


def read_pythonic(text: str, names: Sequence[str]) -> tuple[str, list[tuple[str, str]]]:
    """Content before the calls, and names with arguments as JSON. Raises `Mistake`.

    A list of calls may begin in any line; a bare call counts if one of `names` is called.
    """
    fenced = _FENCE.match(text.strip())
    text = fenced.group(1) if fenced else text
    for begun in _BEGIN.finditer(text):
        head = begun.group().strip()
        if not head.startswith("[") and head[:-1].strip() not in names:
            continue
        return text[: begun.start()].strip(), _calls(text[begun.start() :].strip())
    return text.strip(), []


def _calls(code: str) -> list[tuple[str, str]]:
    if len(code) > 2 * MAX_ARGUMENTS:
        raise Mistake(f"calls of {len(code)} characters are too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a model's odd escapes are nobody's business
            tree = ast.parse(code, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        said = problem.msg if isinstance(problem, SyntaxError) else str(problem)
        raise Mistake(f"the calls are no Python list of calls: {one_line(said)}") from None
    body = tree.body
    nodes = body.elts if isinstance(body, ast.List | ast.Tuple) else [body]
    return [_call(node) for node in nodes]


def _call(node: ast.expr) -> tuple[str, str]:
    if not isinstance(node, ast.Call):
        raise Mistake("what stands in the list is no call")
    name = ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""
    if not name:
        raise Mistake("a call names no tool")
    if node.args:
        raise Mistake(f"{name}: give arguments by name, such as {name}(key=value)")
    given: dict[str, Json] = {}
    for word in node.keywords:
        value = _value(word.value)
        if word.arg is not None:
            given[word.arg] = value
        elif isinstance(value, dict):
            given |= value
        else:
            raise Mistake(f"{name}: ** must be followed by an object, not {short(value)}")
    return name, json.dumps(given, ensure_ascii=False)


def _value(node: ast.expr, depth: int = 1) -> Json:
    """A literal; raises `Mistake` for anything that would have to be evaluated."""
    if depth > MAX_DEPTH:
        raise Mistake(f"the arguments are nested too deeply, at most {MAX_DEPTH}")
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(each, depth + 1) for each in node.elts]
    if isinstance(node, ast.Dict):
        keys = [_value(key, depth + 1) if key else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise Mistake("the keys of an object must be text")
        values = [_value(value, depth + 1) for value in node.values]
        return dict(zip(keys, values, strict=True))
    if isinstance(node, ast.Name) and node.id in _WORDS:
        return _WORDS[node.id]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand, depth + 1)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return -value
    if isinstance(node, ast.Constant) and (
        node.value is None or isinstance(node.value, str | int | float)
    ):
        return node.value
    raise Mistake(f"a value is no literal: {one_line(type(node).__name__)}")


def tool_names(tools: Sequence[Tool]) -> tuple[str, ...]:
    """What can be called."""
    return tuple(tool.name for tool in tools)
