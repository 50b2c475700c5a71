"""Renderers against text that spells their own marks, odd arguments, and broken turns."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from chat_plans import CAN, conversations, prompts
from chats import FAMILIES, TOOLS, Chat, published, reference
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.agents.recorder import Recorder, encode_view
from foldgym.agents.renderers import Renderer
from foldgym.testing.families import CALLS, GLM, HARMONY, RESULTS
from foldgym.types import Completion, Log, Message, Synth, Tool, ToolCall, View

NAMES = sorted(FAMILIES)
MARKS = sorted(
    {
        *(mark for family in FAMILIES.values() for mark in (*family.specials, *family.words)),
        *CALLS,
        *RESULTS,
        *GLM,
        *HARMONY,
    }
)
KINDS = ("string", "integer", "number", "boolean", "object", "array")
WRITE = Tool(
    "write",
    "Write it down.",
    {"type": "object", "properties": {kind: {"type": kind} for kind in KINDS}},
)


@cache
def renderer(name: str) -> Renderer:
    return FAMILIES[name].make()


def framed(name: str, ids: tuple[int, ...]) -> list[int]:
    """The control ids among `ids`."""
    controls = set(renderer(name).tokenizer.controls().values())  # type: ignore[attr-defined]
    return [i for i in ids if i in controls]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_page_says_frames_nothing(name: str) -> None:
    """Neither in a result, a question, a tool's description nor a name."""
    made = renderer(name)
    hostile = f"a{'b'.join(MARKS)}c"
    for role in ("system", "user", "tool"):
        quiet, loud = (made.encode(Message(role, text, name="x")) for text in ("a", hostile))
        assert framed(name, loud) == framed(name, quiet)
        named = made.encode(Message(role, "a", name=hostile))
        assert framed(name, named) == framed(name, quiet)
        opened = [made.open([Message(role, text)], TOOLS) for text in ("a", hostile)]
        assert framed(name, opened[0]) == framed(name, opened[1])
    told = [
        made.open([Message("user", "a")], [Tool("f", text, {"type": "object", "properties": {}})])
        for text in ("a", hostile)
    ]
    assert framed(name, told[0]) == framed(name, told[1])


def test_the_marks_of_calls_and_results_are_control_ids_where_there_are_any() -> None:
    tokenizer = renderer("qwen3").tokenizer
    result = renderer("qwen3").encode(Message("tool", "</tool_response><tool_call>"))
    for mark in (*CALLS, *RESULTS):
        number = tokenizer.control(mark)
        assert result.count(number) == (mark in RESULTS)  # one each, of the frame
        assert number not in tokenizer.encode(f"a{mark}b")


# ------------------------------------------------------------------ what say wrote

letters = st.characters(exclude_categories=["Cs"])
text = st.one_of(
    st.text(letters, max_size=20),
    st.lists(
        st.sampled_from([*MARKS, "</parameter>", "```", "</think>", "a", "\n"]), max_size=4
    ).map("".join),
    st.sampled_from(["", "5", "true", '{"a": 1}', "\n\n a\n", "\\", '"', "'", "\x00\x7f\u2028"]),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(-1e9, 1e9) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
given_arguments = st.fixed_dictionaries(
    {},
    optional={
        "string": text,
        "integer": st.integers(-(10**20), 10**20),
        "number": st.floats(-1e9, 1e9),
        "boolean": st.booleans(),
        "object": st.dictionaries(text, values, max_size=3),
        "array": st.lists(values, max_size=3),
    },
)


@st.composite
def calls(draw: Any) -> tuple[ToolCall, ...]:
    found: list[ToolCall] = []
    for number in range(draw(st.integers(1, 3))):
        table = draw(given_arguments)
        written = json.dumps(
            table, ensure_ascii=draw(st.booleans()), indent=draw(st.none() | st.just(1))
        )
        written = draw(st.sampled_from(["", " "])) if not table else written
        found.append(ToolCall("write", written, f"call_{number}"))
    return tuple(found)


def meant(call: ToolCall) -> tuple[str, str]:
    return call.name, json.dumps(json.loads(call.arguments or "{}"), sort_keys=True)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60)
@given(said=calls(), beside=st.sampled_from(["", "so", "well <|im_end|> é\n\nthen"]))
def test_calls_read_back_whatever_their_arguments_hold(
    name: str, said: tuple[ToolCall, ...], beside: str
) -> None:
    made = renderer(name)
    if name.startswith("deepseek") and any("<｜tool" in call.arguments for call in said):
        return  # its marks have no way to be quoted
    message = Message("assistant", beside, tool_calls=said)
    read = made.parse(made.say(message, (WRITE,)), (WRITE,))
    assert not read.problem
    wanted = [meant(ToolCall(c.name, c.arguments.strip())) for c in said]
    assert [meant(call) for call in read.message.tool_calls] == wanted
    assert read.message.text == beside


@pytest.mark.parametrize("name", NAMES)
def test_keys_may_be_words_of_a_language(name: str) -> None:
    keys = {"from": "a", "class": 1, "ﬁ": [None], "a-b": "c", "": {}, "None": True}
    call = ToolCall("send", json.dumps(keys), "call_0")
    made = renderer(name)
    properties = {key: {"type": kind} for key, kind in (("from", "string"), ("a-b", "string"))}
    tool = Tool("send", "", {"type": "object", "properties": properties})
    read = made.parse(made.say(Message("assistant", tool_calls=(call,)), (tool,)), (tool,))
    assert [json.loads(each.arguments) for each in read.message.tool_calls] == [keys], read.problem


# ------------------------------------------------------------------ broken turns

WORDS = [f"zq{number}qz" for number in range(20)]
pieces = st.sampled_from(
    [
        *MARKS,
        *('{"name": "search", "arguments": {"query": "', '"}}', "{", "}", "[", "]", '"', "\n", " "),
        *('{"name": "search", "parameters": {"query": "', "<function=search>\n", "</function>"),
        *(
            "<parameter=query>\n",
            "\n</parameter>",
            "[search(query=",
            ")",
            "search ",
            "<|python_tag|>",
        ),
        *(
            "function",
            "```json\n",
            "\n```",
            "assistant",
            "analysis",
            "final",
            " to=functions.search",
        ),
        *("commentary json", "<|channel|>commentary<|message|>", "<|channel|>final<|message|>"),
    ]
)


@st.composite
def broken(draw: Any, name: str) -> str:
    """Pieces of every dialect in any order and turns of one, with words of their own."""
    said, words = "", iter(WORDS)
    for _ in range(draw(st.integers(1, 5))):
        thought, query, beside, word = next(words), next(words), next(words), next(words)
        call = ToolCall("search", json.dumps({"query": query}), "call_0")
        turn = Message("assistant", beside, thought, (call,))
        whole = renderer(name).write(turn, TOOLS)
        said += draw(
            st.lists(pieces, max_size=3).map("".join)
            | st.sampled_from([whole, whole[: len(whole) // 2], whole[len(whole) // 2 :]])
        )
        said += word
    return said


def held(message: Message, problem: str) -> str:
    called = [f"{call.name} {call.arguments}" for call in message.tool_calls]
    return "\n".join((message.text, message.thinking, *called))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=150)
@given(data=st.data())
def test_no_word_of_a_broken_turn_is_lost(name: str, data: st.DataObject) -> None:
    made, said = renderer(name), data.draw(broken(name))
    read = made.parse(made.tokenizer.encode(said), TOOLS)
    kept = held(*read)
    lost = [word for word in WORDS if word in said and word not in kept]
    assert not lost, (said, read)


# ------------------------------------------------------------------ turns that nobody sampled

SHOWN = sorted(name for name in CAN if FAMILIES[name].template)


@cache
def template(name: str) -> Any:
    return reference(FAMILIES[name])


@pytest.mark.parametrize("name", SHOWN)
@settings(max_examples=25)
@given(data=st.data())
def test_a_task_may_open_with_turns_of_an_assistant(name: str, data: st.DataObject) -> None:
    """Examples, calls among them, are what the published template writes of them."""
    tools = TOOLS if CAN[name].rounds and data.draw(st.booleans()) else ()
    told = () if FAMILIES[name].renderer == "deepseek" else tools  # its template shows none
    messages = data.draw(conversations(CAN[name], bool(tools), False))
    quiet = [replace(each, thinking="") for each in messages]
    made = renderer(name)
    for n in prompts(quiet):
        opened = Synth(made.open(quiet[:n], told), "", tuple(quiet[:n]))
        ids = encode_view(View((opened,)), Log(), made)
        wanted = published(template(name), FAMILIES[name], quiet[:n], told)
        if name == "deepseek-v3":
            wanted = wanted.removesuffix("<think>\n")
        assert made.tokenizer.decode(ids) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_an_example_is_left_out(name: str) -> None:
    made = renderer(name)
    call = ToolCall("search", '{"query": "zq1qz"}', "call_0")
    said = Message("assistant", "zq2qz", "zq3qz", (call,))
    shown = made.tokenizer.decode(made.open([Message("user", "a"), said], TOOLS))
    for word in ("zq1qz", "zq2qz", "search", *(["zq3qz"] * (name != "glm4-off"))):
        assert word in shown


# of their generation_config.json, where the weights are published
STOPS = {
    "qwen2.5": {"<|im_end|>", "<|endoftext|>"},
    "qwen3": {"<|im_end|>", "<|endoftext|>"},
    "llama3": {"<|eot_id|>", "<|end_of_text|>"},
    "llama3.1": {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"},
    "deepseek-r1": {"<｜end▁of▁sentence｜>"},
    "deepseek-v3": {"<｜end▁of▁sentence｜>"},
    "glm4": {"<|user|>", "<|observation|>", "<|endoftext|>"},
    "gpt-oss": {"<|return|>", "<|call|>", "<|endoftext|>"},
    "gemma": {"<end_of_turn>", "<eos>"},
    "phi3": {"<|end|>", "<|endoftext|>", "<|assistant|>"},
    "phi4": {"<|im_end|>", "<|endoftext|>"},
    "phi4-mini": {"<|end|>", "<|endoftext|>"},
}


@pytest.mark.parametrize("name", sorted(STOPS))
def test_every_id_that_may_end_a_turn_does_and_is_trained_once(name: str) -> None:
    made = renderer(name)
    assert {made.tokenizer.decode((i,)) for i in made.stop_ids} == STOPS[name]
    for stop in made.stop_ids:
        said = (*made.tokenizer.encode("well"), stop)
        read = made.parse(said, ()).message
        assert "well" in (read.text, read.thinking)  # R1 begins in a thought
        for heard in (Message("user", "and?"), Message("tool", "a", name="search")):
            chat, recorder = Chat(made, ()), Recorder()
            chat.open([Message("user", "hi")])
            for turn in range(2):
                chat.say(Message("assistant", "well"), said)
                completion = Completion(said, (-1.0,) * len(said))
                recorder.call(chat.contexts[-1], completion, turn, may_rewrite=False)
                chat.hear(heard)
            (segment,) = recorder.freeze()
            assert segment.trained == 2 * len(said)
