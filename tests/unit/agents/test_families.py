"""Renderers of published chat templates against the templates themselves, as TRL ships them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from chat_plans import CAN, Can, as_query, conversations, plain, prompts, said
from chats import FAMILIES, TOOLS, Chat, published, reference
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.agents.kit import RendererKit
from foldgym.agents.recorder import Recorder
from foldgym.agents.renderers import Renderer
from foldgym.memory import MEMORIES, DropThinking
from foldgym.testing.agents import check_memory
from foldgym.types import Budget, Completion, Ids, Message, Ref, Tool, ToolCall

NAMES = sorted(name for name, family in FAMILIES.items() if family.template)


@cache
def renderer(name: str) -> Renderer:
    return FAMILIES[name].make()


@cache
def template(name: str) -> Any:
    return reference(FAMILIES[name])


def compare(name: str, messages: list[Message], tools: Sequence[Tool], dropping: bool) -> None:
    family, made = FAMILIES[name], renderer(name)
    for n in prompts(messages):
        told = () if family.renderer == "deepseek" else tools  # its template shows none
        chat = Chat(made, told, DropThinking() if dropping else None)
        chat.play(messages[:n], RendererKit(Budget(), made))
        wanted = published(template(name), family, messages[:n], told)
        if name == "deepseek-v3":
            wanted = wanted.removesuffix("<think>\n")
        assert made.tokenizer.decode(chat.shown()) == wanted


APPENDS = [name for name in NAMES if name in CAN and name != "deepseek-r1"]


@pytest.mark.parametrize("name", APPENDS)
@settings(max_examples=25)
@given(data=st.data())
def test_prompts_are_what_the_published_template_renders(name: str, data: st.DataObject) -> None:
    tools = TOOLS if CAN[name].rounds and data.draw(st.booleans()) else ()
    questions = 1 if name == "gpt-oss" else 3
    messages = data.draw(conversations(CAN[name], bool(tools), False, questions))
    compare(name, messages, tools, dropping=False)


DROPS = ["qwen3", "deepseek-r1", "glm4", "gpt-oss"]


@pytest.mark.parametrize("name", DROPS)
@settings(max_examples=25)
@given(data=st.data())
def test_dropping_thoughts_is_what_the_published_template_does(
    name: str, data: st.DataObject
) -> None:
    tools = TOOLS if CAN[name].rounds and data.draw(st.booleans()) else ()
    messages = data.draw(conversations(CAN[name], bool(tools), True))
    compare(name, messages, tools, dropping=True)


# the template without a prompt behind it ends as a policy would have ended its turn
ENDS = ["qwen2.5", "qwen3", "qwen3-2507", "llama3", "llama3.1", "gemma", "gemma3", "gpt-oss"]


@pytest.mark.parametrize("name", ENDS)
@settings(max_examples=15)
@given(data=st.data())
def test_what_is_said_is_what_the_published_template_has_said(
    name: str, data: st.DataObject
) -> None:
    family, made, can = FAMILIES[name], renderer(name), CAN[name]
    tools = TOOLS if can.rounds and data.draw(st.booleans()) else ()
    messages = data.draw(conversations(can, bool(tools), False, 1))
    thinking = data.draw(said.filter(bool)) if can.thinks else ""
    messages = [*messages, Message("user", "and?"), Message("assistant", "so", thinking)]
    if messages[-3].role == "user":  # nobody answered
        messages.pop(-2)
    if name == "gpt-oss":  # with a thought only where no answer stands before it
        messages = [messages[0], *messages[-2:]]
    chat = Chat(made, tools, DropThinking())
    chat.play(messages, RendererKit(Budget(), made))
    shown = (*chat.contexts[-1], *chat.sampled[-1])
    if name != "gpt-oss":
        shown += made.seal(chat.sampled[-1])
    assert made.tokenizer.decode(shown) == published(
        template(name), family, messages, tools, prompt=False
    )


def test_deepseek_keeps_marks_that_its_template_forgets() -> None:
    made = renderer("deepseek-v3")
    call = Message("assistant", tool_calls=(ToolCall("stop", "{}"),))
    messages = [Message("user", "go"), call, Message("tool", "a"), call, Message("tool", "b")]
    chat = Chat(made, ())
    chat.play(messages)
    ours = made.tokenizer.decode(chat.shown())
    theirs = published(template("deepseek-v3"), FAMILIES["deepseek-v3"], messages, ())
    mark = "<｜tool▁calls▁begin｜>"
    assert (ours.count(mark), theirs.count(mark)) == (2, 1)
    assert ours.startswith(theirs[: theirs.index("a<｜tool▁output▁end｜>")])


# ------------------------------------------------------------------ appending


@st.composite
def episodes(draw: Any, name: str) -> tuple[list[Message], list[Ids | None]]:
    """A conversation, and for some turns the ids that were sampled instead of a sentence."""
    size = renderer(name).tokenizer.vocab_size
    ids = st.lists(st.integers(0, size - 1), max_size=12).map(tuple)
    stops = st.sampled_from(renderer(name).stop_ids)
    ended = st.tuples(ids, stops).map(lambda both: (*both[0], both[1]))
    messages = draw(conversations(Can(thinks=True), True, True))
    turns = [message for message in messages if message.role == "assistant"]
    return messages, [draw(st.none() | ids | ended) for _ in turns]


@pytest.mark.parametrize("name", sorted(FAMILIES))
@settings(max_examples=20)
@given(data=st.data())
def test_whatever_is_sampled_stays_as_it_was_sampled(name: str, data: st.DataObject) -> None:
    made = renderer(name)
    messages, sampled = data.draw(episodes(name))
    chat, recorder, turn = Chat(made, TOOLS), Recorder(), 0
    first = next((n for n, m in enumerate(messages) if m.role == "assistant"), len(messages))
    chat.open(messages[:first])
    for message in messages[first:]:
        if message.role == "assistant":
            chat.say(message, sampled[turn])
            ids = chat.sampled[-1]
            said = Completion(ids, (-1.0,) * len(ids))
            recorder.call(chat.contexts[-1], said, turn, may_rewrite=False)
            turn += 1
        else:
            chat.hear(message)
    segments = recorder.freeze()
    assert len(segments) == min(turn, 1)
    for segment in segments:
        for number, ids in enumerate(chat.sampled):
            mine = [
                i
                for i, owner in zip(segment.token_ids, segment.turn_ids, strict=True)
                if owner == number
            ]
            assert tuple(mine) == ids
        assert segment.token_ids == (*chat.contexts[-1], *chat.sampled[-1])


@pytest.mark.parametrize("name", sorted(FAMILIES))
@settings(max_examples=20)
@given(data=st.data())
def test_dropping_thoughts_drops_those_and_encodes_nothing_again(
    name: str, data: st.DataObject
) -> None:
    made = renderer(name)
    messages, _ = data.draw(episodes(name))
    messages = [
        replace(each, thinking=f"zq{n}qz") if each.role == "assistant" else each
        for n, each in enumerate(messages)
    ]
    chat = Chat(made, TOOLS, DropThinking())
    chat.play(messages, RendererKit(Budget(), made))
    items = chat.memory.view(chat.log, chat.state).items
    assert all(isinstance(item, Ref) for item in items)  # recorded ids, and nothing else
    shown = made.tokenizer.decode(chat.shown())
    asked = max(n for n, message in enumerate(messages) if message.role == "user")
    keeps = name in ("qwen2.5", "qwen3-2507", "glm4-off")  # they know no thoughts
    for n, message in enumerate(messages):
        if message.thinking:
            past = n < asked or name.startswith("deepseek")
            written = message.thinking in made.write(message, TOOLS)
            assert (message.thinking in shown) == (written and (keeps or not past))


@pytest.mark.parametrize("name", sorted(FAMILIES))
@settings(max_examples=30)
@given(data=st.data())
def test_parsing_never_raises(name: str, data: st.DataObject) -> None:
    made = renderer(name)
    size = made.tokenizer.vocab_size
    control = st.sampled_from([made.tokenizer.control(each) for each in FAMILIES[name].specials])
    ids = data.draw(st.lists(st.one_of(st.integers(0, size - 1), control), max_size=60))
    read = made.parse(tuple(ids), TOOLS)
    assert read.message.role == "assistant"
    assert not (read.problem and read.message.tool_calls)


@pytest.mark.parametrize("name", sorted(FAMILIES))
@settings(max_examples=20)
@given(data=st.data())
def test_what_is_said_reads_back(name: str, data: st.DataObject) -> None:
    made = renderer(name)
    word = st.text("abcé東 .", max_size=8)
    arguments = st.builds(as_query, word, st.just({"limit": 2}))
    calls = data.draw(st.lists(arguments, max_size=3))
    message = Message(
        "assistant",
        data.draw(word.map(str.strip)),
        data.draw(word.map(str.strip)),
        tuple(ToolCall("search", each, f"call_{n}") for n, each in enumerate(calls)),
    )
    ids = made.say(message, TOOLS)
    assert ids[-1] in made.stop_ids
    read = made.parse(ids, TOOLS)
    assert not read.problem
    assert read.message.text == message.text
    assert read.message.thinking == message.thinking or name == "glm4-off"
    got = [(call.name, json.loads(call.arguments)) for call in read.message.tool_calls]
    assert got == [(call.name, json.loads(call.arguments)) for call in message.tool_calls]
    spans, text = made.spans(message, TOOLS), made.write(message, TOOLS)
    assert len(spans) == len(ids) - 1
    covered = {place for first, last in spans for place in range(first, last)}
    assert covered == set(range(len(text)))


@pytest.mark.parametrize("name", sorted(FAMILIES))
@given(text=plain)
def test_text_never_becomes_a_control_token(name: str, text: str) -> None:
    made, family = renderer(name), FAMILIES[name]
    controls = [made.tokenizer.control(each) for each in family.specials]
    hostile = text.join(family.specials)
    for role in ("system", "user", "tool"):
        quiet, loud = (made.encode(Message(role, each)) for each in ("a", hostile))
        count = [sum(i in controls for i in ids) for ids in (quiet, loud)]
        assert count[0] == count[1]
    calls = (ToolCall("search", json.dumps({"query": hostile}, ensure_ascii=False)),)
    plainly = (ToolCall("search", '{"query": "a"}'),)
    said = [
        made.say(Message("assistant", "a", tool_calls=each), TOOLS) for each in (plainly, calls)
    ]
    assert len({sum(i in controls for i in ids) for ids in said}) == 1


@pytest.mark.parametrize("name", sorted(FAMILIES))
@pytest.mark.parametrize("memory", ["full", "drop_thinking", "omit", "summarise", "delethink"])
def test_memories_keep_their_contract_with_every_family(name: str, memory: str) -> None:
    assert check_memory(MEMORIES[memory], range(1), renderer=renderer(name)) == []
