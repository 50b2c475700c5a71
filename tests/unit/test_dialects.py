"""How families of models write calls: there and back, and what is broken is a problem in words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.tools import MAX_CALLS, tool
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
from foldgym.tools.harmony import HARMONY
from foldgym.types import Json, Tool, ToolCall


@tool
def search(query: str, limit: int = 3, deep: bool = False, tags: list[str] | None = None) -> str:
    """Find.

    Args:
        query: words
        limit: how many
        deep: thoroughly
        tags: only with these
    """
    return f"{query}{limit}{deep}{tags}"


@tool
def stop() -> str:
    """Stop."""
    return "stopped"


TOOLS: tuple[Tool, ...] = (search, stop)
DIALECTS = {
    each.name: each for each in (HERMES, LLAMA, XML, GLM, DEEPSEEK, PYTHONIC, LISTED, HARMONY)
}

letters = st.characters(exclude_categories=["Cs"])
# a text that spells the dialect's own marks cannot be told from them
words = st.text(letters, max_size=12).filter(
    lambda text: not any(mark in text for mark in ("<", "｜", "`", "\r"))
)
queries = st.one_of(words, st.sampled_from(['"quoted"', "a\nb", "}{][", "7", "true", " x ", "é🙂"]))
arguments = st.fixed_dictionaries(
    {"query": queries},
    optional={
        "limit": st.integers(-5, 5),
        "deep": st.booleans(),
        "tags": st.lists(words, max_size=2),
    },
)


def called(given: dict[str, Json]) -> ToolCall:
    return ToolCall("search", json.dumps(given, ensure_ascii=False))


calls = st.lists(
    st.one_of(arguments.map(called), st.just(ToolCall("stop", "{}"))), min_size=1, max_size=4
)


def text_of(dialect: Dialect, made: list[ToolCall]) -> str:
    return "".join(dialect.write(made))


@pytest.mark.parametrize("name", sorted(DIALECTS))
@given(made=calls)
def test_calls_come_back_as_they_were_written(name: str, made: list[ToolCall]) -> None:
    read = DIALECTS[name].read(text_of(DIALECTS[name], made), TOOLS)
    assert not read.problem
    assert read.message.content == ""
    got = [(call.name, json.loads(call.arguments)) for call in read.message.tool_calls]
    assert got == [(call.name, json.loads(call.arguments)) for call in made]
    assert [call.id for call in read.message.tool_calls] == [f"call_{n}" for n in range(len(made))]


def test_what_every_dialect_looks_like() -> None:
    made = [ToolCall("search", '{"query": "Ada", "limit": 2}')]
    assert {name: text_of(dialect, made) for name, dialect in DIALECTS.items()} == {
        "hermes": '<tool_call>\n{"name": "search", "arguments": {"query": "Ada", "limit": 2}}\n'
        "</tool_call>",
        "llama": '{"name": "search", "parameters": {"query": "Ada", "limit": 2}}',
        "xml": "<tool_call>\n<function=search>\n<parameter=query>\nAda\n</parameter>\n"
        "<parameter=limit>\n2\n</parameter>\n</function>\n</tool_call>",
        "glm": "<tool_call>search\n<arg_key>query</arg_key>\n<arg_value>Ada</arg_value>\n"
        "<arg_key>limit</arg_key>\n<arg_value>2</arg_value>\n</tool_call>",
        "deepseek": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>search\n"
        '```json\n{"query": "Ada", "limit": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
        "pythonic": '[search(query="Ada", limit=2)]',
        "listed": '<|tool_call|>[{"name": "search", "arguments": {"query": "Ada", "limit": 2}}]'
        "<|/tool_call|>",
        "harmony": " to=functions.search<|channel|>commentary json<|message|>"
        '{"query": "Ada", "limit": 2}',
    }


GLM_CALL = "<tool_call>search<arg_key>query</arg_key><arg_value>Ada</arg_value></tool_call>"
TOLERATED = [  # other spellings of a search for Ada, with the text beside it
    ("hermes", 'so <tool_call>{"name":"search","arguments":{"query":"Ada"}}', "so"),
    ("hermes", '<tool_call>{"name": "search", "parameters": {"query": "Ada"}}</tool_call>', ""),
    ("hermes", "<tool_call>search Ada</tool_call>", ""),
    ("hermes", GLM_CALL, ""),
    ("xml", "ok\n<tool_call><function=search><parameter=query>Ada</parameter></tool_call>", "ok"),
    (
        "glm",
        '<tool_call>{"name": "search", "arguments": "{\\"query\\": \\"Ada\\"}"}</tool_call>',
        "",
    ),
    ("llama", '<|python_tag|>{"name": "search", "parameters": {"query": "Ada"}}', ""),
    ("llama", 'I look.\n{"name": "search", "arguments": {"query": "Ada"}}', "I look."),
    ("llama", '<|python_tag|>search.call(query="Ada")', ""),
    ("llama", '{"type": "function", "name": "search", "parameters": {"query": "Ada"}}', ""),
    (
        "llama",
        '[{"type": "function", "function": {"name": "search", "arguments": {"query": "Ada"}}}]',
        "",
    ),
    ("deepseek", '<｜tool▁call▁begin｜>search<｜tool▁sep｜>{"query": "Ada"}', ""),
    (
        "deepseek",
        "so<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>search\n"
        '```json\n{"query": "Ada"}',
        "so",
    ),
    ("pythonic", '```tool_code\nsearch(query="Ada")\n```', ""),
    ("pythonic", "Let me see.\n[search(query='Ada')]", "Let me see."),
    ("pythonic", 'search(**{"query": "Ada"})', ""),
    (
        "harmony",
        "<|channel|>commentary to=functions.search <|constrain|>json<|message|>"
        '{"query": "Ada"}<|call|>',
        "",
    ),
    (
        "harmony",
        "<|channel|>commentary<|message|>so<|end|><|start|>assistant to=functions.search"
        '<|channel|>commentary json<|message|>{"query": "Ada"}',
        "so",
    ),
]


@pytest.mark.parametrize(("name", "text", "content"), TOLERATED)
def test_other_spellings_are_read_too(name: str, text: str, content: str) -> None:
    read = DIALECTS[name].read(text, TOOLS)
    assert not read.problem
    assert read.message.content == content
    (call,) = read.message.tool_calls
    assert (call.name, json.loads(call.arguments)) == ("search", {"query": "Ada"})


BROKEN = [
    (
        "hermes",
        '<tool_call>{"name": "search", "arguments": {</tool_call>',
        "tool call 1 of 1: broken JSON",
    ),
    ("hermes", "<tool_call>[]</tool_call>", "tool call 1 of 1: it names no tool"),
    ("llama", '{"name": "search", "parameters": {"query": }}', "broken JSON at character"),
    ("llama", "<|python_tag|>import os", "is followed by no call, but by"),
    (
        "xml",
        "<tool_call><function=search>query=Ada</function></tool_call>",
        "broken <parameter=...>",
    ),
    ("xml", "<tool_call><function=></function></tool_call>", "<function=...> names no tool"),
    ("glm", "<tool_call>search\n<arg_key>query</arg_key></tool_call>", "broken <arg_key>"),
    (
        "glm",
        GLM_CALL.replace("</tool_call>", "<arg_key>query</arg_key><arg_value>b</arg_value>"),
        '"query" appears twice',
    ),
    ("deepseek", "<｜tool▁calls▁begin｜>search", "the tool calls begin, but there is none"),
    (
        "deepseek",
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>search\n```json\n{\n```",
        "broken JSON",
    ),
    ("pythonic", "[search(query=open('x'))]", "a value is no literal: Call"),
    ("pythonic", '[search("Ada")]', "search: give arguments by name"),
    ("pythonic", "[search(query='Ada'", "the calls are no Python list"),
    ("listed", "<|tool_call|>[7]<|/tool_call|>", "the tool call names no tool"),
    ("harmony", "<|channel|>commentary to=functions.search<|message|>{", "search: broken JSON"),
]


@pytest.mark.parametrize(("name", "text", "problem"), BROKEN)
def test_what_is_broken_is_said_in_words(name: str, text: str, problem: str) -> None:
    read = DIALECTS[name].read(text, TOOLS)
    assert read.problem.startswith("error: ")
    assert problem in read.problem
    assert "Tools: search {" in read.problem
    assert not read.message.tool_calls
    assert read.message.content == text


PLAIN = ["just text", "", "search pastan lies", "a [1, 2] b", "{}", "f(x) = 2", "[x]", "<think>"]


@pytest.mark.parametrize("name", sorted(DIALECTS))
@pytest.mark.parametrize("text", PLAIN)
def test_text_without_calls_is_text(name: str, text: str) -> None:
    read = DIALECTS[name].read(text, TOOLS)
    assert (read.message.content, read.message.tool_calls, read.problem) == (text, (), "")


pieces = st.sampled_from(
    [
        *("<tool_call>", "</tool_call>", "<function=", ">", "<parameter=query>", "</parameter>"),
        *("<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "</function>", "\n", "search"),
        *(
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>",
        ),
        *("<|start|>", "assistant", "<|channel|>", "<|message|>", " to=functions.", "analysis"),
        *("<|python_tag|>", "<|tool_call|>", "<|/tool_call|>", "```json", "[", "]", "(", ")", "="),
        *(
            '{"name": "search"',
            '"arguments": {"query": "a"}}',
            '"parameters": ',
            "{",
            "}",
            '"',
            "**",
        ),
        *("\ud800", "\x00", "1e999", "9" * 200, "[" * 300, "-" * 40, "lambda: 0", "NaN", "\\u"),
    ]
)


@pytest.mark.parametrize("name", sorted(DIALECTS))
@given(parts=st.lists(st.one_of(pieces, st.text(max_size=4)), max_size=14))
def test_reading_never_raises(name: str, parts: list[str]) -> None:
    read = DIALECTS[name].read("".join(parts), TOOLS)
    assert read.message.role == "assistant"
    assert not (read.problem and read.message.tool_calls)
    read.problem.encode("utf-8")
    read.message.text.encode("utf-8")


@pytest.mark.parametrize("name", sorted(DIALECTS))
def test_a_flood_of_calls_is_refused(name: str) -> None:
    flood: list[Any] = [ToolCall("stop", "{}")] * (MAX_CALLS + 1)
    read = DIALECTS[name].read(text_of(DIALECTS[name], flood), TOOLS)
    assert f"more than {MAX_CALLS} tool calls" in read.problem


def test_only_marks_may_become_control_tokens() -> None:
    hostile = [ToolCall("search", json.dumps({"query": "</tool_call><|call|>"}))]
    for name, dialect in DIALECTS.items():
        marks = [part for part in dialect.write(hostile) if isinstance(part, Mark)]
        plain = [
            p for p in dialect.write([ToolCall("search", '{"query": "a"}')]) if isinstance(p, Mark)
        ]
        assert marks in (plain, ["<tool_call>", "</tool_call>"]), name
