"""Policy folders as other programs read them: our renderers as chat templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from foldgym.agents.engines.models import init_model, write_policy
from foldgym.agents.engines.templates import folder_settings, renderer_in
from foldgym.agents.engines.tokenizer import CHATML_CONTROLS, CONTROLS, Tokenizer, train_tokenizer
from foldgym.agents.renderers import Renderer, make_renderer
from foldgym.types import Message, Tool, ToolCall

GUESS = Tool(
    "guess",
    "Guess the secret number – once.",
    {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
)
CONTROLS_OF = {"compact": CONTROLS, "chatml": (CONTROLS[0], *CHATML_CONTROLS)}
TEXTS = ["guess my number", '<tool_call>\n{"name": "guess"}\n</tool_call>', "user\nhi"]


@pytest.fixture(scope="module", params=["compact", "chatml"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = train_tokenizer(TEXTS * 9, 320, CONTROLS_OF[request.param])
    model = init_model(vocab_size=tokenizer.vocab_size, hidden=16, layers=1, heads=2)
    path = tmp_path_factory.mktemp("policy") / request.param
    write_policy(path, model, tokenizer, request.param)
    return path


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def ours(folder: Path) -> Renderer:
    import tokenizers

    backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return make_renderer(folder.name, Tokenizer(backend))


def shown(message: Message) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.thinking:
        said["reasoning_content"] = message.thinking
    if message.tool_calls:
        said["tool_calls"] = [
            {"type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    return said


def schema(tool: Tool) -> dict[str, Any]:
    inner = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": inner}


def test_the_folder_loads_as_any_hugging_face_folder(folder: Path, theirs: Any) -> None:
    assert AutoModelForCausalLM.from_pretrained(folder).config.hidden_size == 16
    assert theirs.pad_token == "<|pad|>"
    assert theirs.eos_token == {"compact": "<|end|>", "chatml": "<|im_end|>"}[folder.name]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "tool"]), st.text(max_size=30)),
        min_size=1,
        max_size=4,
    )
)
def test_the_template_writes_the_ids_of_the_renderer(
    theirs: Any, ours: Renderer, said: list[tuple[Any, str]]
) -> None:
    messages = [Message(role, text.replace("<|", "<")) for role, text in said]
    expected = [i for message in messages for i in ours.encode(message)] + [*ours.header()]
    conversation = [shown(message) for message in messages]
    assert (
        theirs.apply_chat_template(conversation, add_generation_prompt=True, return_dict=False)
        == expected
    )


@pytest.mark.parametrize("system", [True, False])
@pytest.mark.parametrize("folder", ["chatml"], indirect=True)
def test_tools_and_calls_have_the_same_ids_too(theirs: Any, ours: Renderer, system: bool) -> None:
    opening = [Message("user", "guess my number")]
    if system:
        opening.insert(0, Message("system", "be brief"))
    call = ToolCall("guess", '{"number": 50}')
    said = Message("assistant", "a try", thinking="hm", tool_calls=(call, call))
    reply = Message("tool", "higher\nor not")
    ids = ours.say(said, [GUESS])
    expected = (*ours.open(opening, [GUESS]), *ours.header(), *ids, *ours.seal(ids))
    expected += (*ours.encode(reply), *ours.header())
    conversation = [shown(message) for message in (*opening, said, reply)]
    written = theirs.apply_chat_template(
        conversation, tools=[schema(GUESS)], add_generation_prompt=True, return_dict=False
    )
    assert tuple(written) == expected


@pytest.mark.parametrize("folder", ["chatml"], indirect=True)
def test_transformers_reads_calls_back(theirs: Any, ours: Renderer) -> None:
    before = [*ours.open([Message("user", "guess")], [GUESS]), *ours.header()]
    call = ToolCall("guess", '{"number": 50}')
    ids = ours.say(Message("assistant", "a try", thinking="hm", tool_calls=(call,)), [GUESS])
    read = theirs.parse_response([*ids], prefix=before)
    assert read["reasoning_content"].strip() == "hm"
    assert read["content"].strip() == "a try"
    function = {"name": "guess", "arguments": {"number": 50}}
    assert read["tool_calls"] == [{"type": "function", "function": function}]


def test_nothing_is_said_of_a_renderer_that_is_not_ours() -> None:
    tokenizer = train_tokenizer(TEXTS * 9, 320)
    assert folder_settings("my_module:Mine", tokenizer) == {}


@pytest.mark.parametrize("name", ["compact", "chatml"])
def test_a_template_says_whose_it_is(name: str) -> None:
    tokenizer = train_tokenizer(TEXTS * 9, 320, CONTROLS_OF[name])
    assert renderer_in(folder_settings(name, tokenizer)["chat_template"]) == name
    assert renderer_in("{{ messages }}") == ""
