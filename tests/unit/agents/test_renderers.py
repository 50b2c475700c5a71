from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.agents.renderers import ChatMLRenderer, CompactRenderer, make_renderer
from foldgym.errors import UnknownName, UserError
from foldgym.testing.doubles import CONTROLS, ByteTokenizer
from foldgym.tools import tool
from foldgym.types import Message, Role, Tool, ToolCall

TOKENS = ByteTokenizer()
OURS = ("compact", "chatml")


@tool
def search(query: str, limit: int = 3) -> str:
    """Find documents.

    Args:
        query: what to look for
        limit: how many
    """
    return query * limit


TOOLS: tuple[Tool, ...] = (search,)
hostile = st.one_of(st.text(), st.sampled_from(CONTROLS), st.text().map("<|end|>".join))


def test_the_compact_template_is_one_control_token_on_each_side() -> None:
    renderer = CompactRenderer(TOKENS)
    text = TOKENS.decode(renderer.open([Message("user", "hi")], TOOLS))
    assert text == "<|user|>hi<|end|>"
    shown = CompactRenderer(TOKENS, show_tools=True).open([Message("user", "hi")], TOOLS)
    assert TOKENS.decode(shown).startswith("<|system|>search")


def test_chatml_puts_schemas_into_the_system_message() -> None:
    renderer = ChatMLRenderer(TOKENS)
    messages = [Message("system", "be brief"), Message("user", "hi")]
    text = TOKENS.decode(renderer.open(messages, TOOLS))
    assert text.startswith("<|im_start|>system\nbe brief\n\n")
    assert text.endswith("<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n")
    line = text.split("<tools>\n")[1].split("\n</tools>")[0]
    assert json.loads(line)["function"]["name"] == "search"


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    "message",
    [
        Message("assistant", "just text"),
        Message("assistant", tool_calls=(ToolCall("search", '{"query": "a b"}', "call_0"),)),
        Message(
            "assistant",
            tool_calls=(
                ToolCall("search", '{"query": "x", "limit": 2}', "call_0"),
                ToolCall("search", '{"query": "}\\n{\\"\\u00e9"}', "call_1"),
            ),
        ),
    ],
)
def test_what_is_said_reads_back(name: str, message: Message) -> None:
    renderer = make_renderer(name, TOKENS)
    ids = renderer.say(message, TOOLS)
    assert ids[-1] in renderer.stop_ids
    read = renderer.parse(ids, TOOLS)
    assert not read.problem
    assert read.message.content == message.content
    calls = [(call.name, json.loads(call.arguments)) for call in read.message.tool_calls]
    assert calls == [(call.name, json.loads(call.arguments)) for call in message.tool_calls]


def test_chatml_keeps_thinking_apart() -> None:
    renderer = ChatMLRenderer(TOKENS)
    message = Message(
        "assistant",
        "so",
        thinking="hm",
        tool_calls=(ToolCall("search", '{"query": "q"}', "call_0"),),
    )
    assert renderer.parse(renderer.say(message, TOOLS), TOOLS).message == message


@pytest.mark.parametrize("block", ["{broken", '{"name": "nobody"', "[]", "7", ""])
def test_one_broken_call_is_a_problem_and_runs_nothing(block: str) -> None:
    renderer = ChatMLRenderer(TOKENS)
    good = '<tool_call>{"name": "search", "arguments": {"query": "a"}}</tool_call>'
    read = renderer.parse(TOKENS.encode(f"{good}<tool_call>{block}</tool_call>"), TOOLS)
    assert read.problem.startswith("error: tool call 2 of 2")
    assert not read.message.tool_calls


@pytest.mark.parametrize("name", OURS)
@given(text=hostile, role=st.sampled_from(["system", "user", "tool"]))
def test_text_never_becomes_a_control_token(name: str, text: str, role: Role) -> None:
    renderer = make_renderer(name, TOKENS)
    controls = {TOKENS.control(control) for control in CONTROLS}
    ids = renderer.encode(Message(role, text))
    before, after = renderer.frame(role)
    assert ids[: len(before)] == before
    assert ids[len(ids) - len(after) :] == after
    assert not controls & set(ids[len(before) : len(ids) - len(after)])


@pytest.mark.parametrize("name", OURS)
@given(ids=st.lists(st.integers(0, TOKENS.vocab_size - 1), max_size=80))
def test_parsing_never_raises(name: str, ids: list[int]) -> None:
    read = make_renderer(name, TOKENS).parse(tuple(ids), TOOLS)
    assert read.message.role == "assistant"
    assert not (read.problem and read.message.tool_calls)


@pytest.mark.parametrize("name", OURS)
def test_a_turn_is_closed_once(name: str) -> None:
    renderer = make_renderer(name, TOKENS)
    cut = TOKENS.encode("abc")
    stopped = (*cut, renderer.stop_ids[0])
    assert (*cut, *renderer.seal(cut)) == (*stopped, *renderer.seal(stopped))


def test_unknown_names_are_told_what_exists() -> None:
    with pytest.raises(UnknownName, match="did you mean 'chatml'"):
        make_renderer("chat_ml", TOKENS)
    with pytest.raises(UserError, match="no control token"):
        TOKENS.control("<|nothing|>")
