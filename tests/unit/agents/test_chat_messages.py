"""Messages to requests of a chat API and back, and how its episodes are written down."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldgym.agents.engines.chat_messages import (
    Wording,
    read_message,
    read_text,
    write_messages,
)
from foldgym.agents.engines.chat_renderer import ChatRenderer, PieceTokenizer
from foldgym.tools import tool
from foldgym.types import Image, Message, ToolCall


@tool
def search(query: str) -> str:
    """Find documents."""
    return query


ASK = Message("user", "who rules Ada ?")
CALL = Message(
    "assistant", "let me see", tool_calls=(ToolCall("search", '{"query":  "Ada"}', "x1"),)
)
FOUND = Message("tool", "Bo rules Ada", tool_call_id="x1", name="search")


def test_native_calls_keep_ids_and_the_exact_text_of_arguments() -> None:
    written = write_messages([ASK, CALL, FOUND], [search], Wording())
    assert written == [
        {"role": "user", "content": "who rules Ada ?"},
        {
            "role": "assistant",
            "content": "let me see",
            "tool_calls": [
                {
                    "id": "x1",
                    "type": "function",
                    "function": {"name": "search", "arguments": '{"query":  "Ada"}'},
                }
            ],
        },
        {"role": "tool", "content": "Bo rules Ada", "tool_call_id": "x1"},
    ]
    assert read_message(written[1]) == CALL


def test_thinking_is_sent_only_if_asked_for_and_read_under_all_its_names() -> None:
    thought = Message("assistant", "hm", "because")
    assert "reasoning_content" not in write_messages([thought], [], Wording())[0]
    sent = write_messages([thought], [], Wording(send_thinking=True))[0]
    assert sent["reasoning_content"] == "because"
    for table in (
        {"content": "hm", "reasoning_content": "because"},
        {"content": "hm", "reasoning": "because"},
        {"content": "<think>\nbecause\n</think>\nhm"},
    ):
        assert read_message(table) == thought


def test_results_without_calls_and_calls_without_results_are_made_good() -> None:
    orphan = Message("tool", "old news", tool_call_id="gone", name="search")
    world = Message("user", "the door is locked")
    again = Message("assistant", tool_calls=(ToolCall("search", "{}", "x1"),))
    result = Message("tool", "nothing", tool_call_id="x1", name="search")
    written = write_messages([ASK, orphan, CALL, world, again, result], [search], Wording())
    assert [entry["role"] for entry in written] == [
        *("user", "user", "assistant", "tool", "user", "assistant", "tool")
    ]
    assert written[1]["content"] == "[result of search]\nold news"
    assert written[3] == {"role": "tool", "tool_call_id": "x1", "content": "(see what follows)"}
    assert written[5]["tool_calls"][0]["id"] == written[6]["tool_call_id"] == "call_1"
    assert written[6]["content"] == "nothing"


def test_results_follow_their_calls_at_once_whatever_came_between() -> None:
    two = Message("assistant", tool_calls=(ToolCall("a", "{}", "1"), ToolCall("b", "{}", "2")))
    replies = [
        Message("user", "a notice"),
        Message("tool", "of b", tool_call_id="2"),
        Message("tool", "of a", tool_call_id="1"),
    ]
    written = write_messages([two, *replies], [], Wording())
    assert [entry["content"] for entry in written] == [None, "of a", "of b", "a notice"]


def test_pictures_travel_as_data_urls() -> None:
    picture = Image(b"\x01\x02", "image/jpeg")
    url = {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,AQI="}}
    shown = Message("user", ("look:", picture))
    assert write_messages([shown], [], Wording())[0]["content"] == [
        {"type": "text", "text": "look:"},
        url,
    ]
    result = Message("tool", ("a page", picture), tool_call_id="x1", name="open")
    inline = write_messages([CALL, result], [], Wording())
    assert inline[1]["content"] == [{"type": "text", "text": "a page"}, url]
    after = write_messages([CALL, result], [], Wording(tool_images="after"))
    assert after[1] == {"role": "tool", "tool_call_id": "x1", "content": "a page"}
    assert after[2]["role"] == "user"
    assert after[2]["content"][1] == url
    text = write_messages([CALL, result], [], Wording("text"))
    assert [entry["role"] for entry in text] == ["assistant", "user"]
    assert text[1]["content"][2] == url


def test_the_text_protocol_needs_no_roles_but_three_and_no_two_users_in_a_row() -> None:
    start = [Message("system", "Be brief."), ASK, CALL, FOUND, Message("user", "well ?")]
    written = write_messages(start, [search], Wording("text"))
    assert [entry["role"] for entry in written] == ["system", "user", "assistant", "user"]
    system = written[0]["content"]
    assert system.startswith("Be brief.\n\nYou can use tools.")
    assert json.loads(system.splitlines()[-1])["name"] == "search"
    said = (
        'let me see\n<tool_call>\n{"name": "search", "arguments": {"query":  "Ada"}}\n</tool_call>'
    )
    assert written[2]["content"] == said
    assert written[3]["content"] == "<tool_response>\nBo rules Ada\n</tool_response>\n\nwell ?"
    read = read_text(said, [search])
    assert read.problem == ""
    assert read.message.content == "let me see"
    assert json.loads(read.message.tool_calls[0].arguments) == {"query": "Ada"}


@pytest.mark.parametrize(
    ("text", "calls", "problem"),
    [
        ("search Ada", 1, ""),
        ("I would search Ada", 0, ""),
        ('<tool_call>{"name": "search", "arguments": {"query": "a"}}', 1, ""),
        ("<tool_call>search Ada</tool_call>\n<tool_call>search Bo</tool_call>", 2, ""),
        ('<tool_call>{"name": "search", </tool_call>', 0, "error: tool call 1 of 1: broken JSON"),
        ("<tool_call>search a</tool_call>" * 33, 0, "error: more than 32 tool calls"),
    ],
)
def test_text_is_read_with_patience(text: str, calls: int, problem: str) -> None:
    read = read_text(text, [search])
    assert len(read.message.tool_calls) == calls
    assert read.problem.startswith(problem)
    assert bool(read.problem) == bool(problem)


def test_odd_answers_are_read_as_far_as_they_go() -> None:
    calls = [
        {"id": 7, "function": {"name": "search", "arguments": {"query": "Ada"}}},
        {"function": {"name": None, "arguments": None}},
    ]
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    read = read_message({"content": parts, "tool_calls": calls})
    assert read.text == "ab"
    assert read.tool_calls == (ToolCall("search", '{"query": "Ada"}', "7"), ToolCall("", "{}", ""))
    assert read_message({"content": None, "refusal": "no"}).text == "no"


@given(st.text())
def test_pieces_hold_any_text(text: str) -> None:
    tokenizer = PieceTokenizer()
    ids = tokenizer.encode(text)
    clean = text.encode("utf-8", "replace").decode()
    assert tokenizer.decode(ids) == clean
    assert len(tokenizer.spans(text)) == len(ids)
    assert all(256 <= piece < tokenizer.vocab_size for piece in ids)
    assert len(ids) <= len(text)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
calls = st.builds(ToolCall, texts, texts, texts)


@given(texts, texts, st.lists(calls, max_size=3))
def test_a_native_message_is_written_down_exactly(
    content: str, thinking: str, calls: list[ToolCall]
) -> None:
    renderer = ChatRenderer()
    message = Message("assistant", content, thinking, tuple(calls))
    assert renderer.parse(renderer.say(message, ()), ()) == (message, "")


def test_the_text_protocol_reads_calls_out_of_what_was_written_down() -> None:
    renderer = ChatRenderer("text")
    ids = renderer.say(Message("assistant", "search Ada", "why not"), ())
    read = renderer.parse(ids, [search]).message
    assert read.thinking == "why not"
    assert read.tool_calls == (ToolCall("search", '{"query": "Ada"}', "call_0"),)


def test_too_many_native_calls_are_a_problem_not_a_crash() -> None:
    renderer = ChatRenderer()
    many = Message("assistant", tool_calls=(ToolCall("search"),) * 33)
    assert renderer.parse(renderer.say(many, ()), ()).problem.startswith("error: more than 32")
