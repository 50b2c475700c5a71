"""Which renderer a folder gets, and the generic one, against the templates that TRL ships."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import pytest
from chat_plans import CAN, conversations, prompts
from chats import FAMILIES, TOOLS, Chat, Family, backend, published, reference, template_of
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AddedToken

from foldgym.agents.engines.chat_template import ChatTemplate
from foldgym.agents.engines.generic import GenericRenderer
from foldgym.agents.engines.rendering import choose_renderer
from foldgym.agents.engines.tokenizer import Tokenizer, load_tokenizer
from foldgym.agents.renderers import make_renderer, split_options
from foldgym.agents.renderers.detect import detect
from foldgym.errors import ConfigError, UnknownName
from foldgym.testing.agents import check_renderer
from foldgym.types import Message, ToolCall

PUBLISHED = sorted(name for name, family in FAMILIES.items() if family.template)
CHOSEN = {
    "qwen2.5": "qwen2.5",
    "qwen3": "qwen3",
    "qwen3-off": "qwen3",
    "qwen3-2507": "qwen3:thinking=never",
    "llama3": "llama3",
    "llama3.1": "llama3",
    "llama3.2": "llama3",
    "deepseek-r1": "deepseek:thinking=true",
    "deepseek-v3": "deepseek:thinking=true",
    "glm4": "glm4",
    "glm4-off": "glm4",
    "gpt-oss": "gpt-oss",
    "gemma": "gemma",
    "gemma3": "gemma",
    "phi3": "phi",
    "phi3.5": "phi",
}


@cache
def tokenizer(name: str) -> Tokenizer:
    family = FAMILIES[name]
    tokens = {"bos_token": family.bos, "eos_token": family.eos}
    return Tokenizer(backend(family), template_of(family), tokens)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_family_is_known_by_its_tokens_and_its_template(name: str) -> None:
    chosen = choose_renderer("auto", tokenizer(name))
    assert chosen.name == CHOSEN[name]
    assert type(chosen.renderer) is type(FAMILIES[name].make())
    assert chosen.why


def test_without_a_template_the_tokens_and_the_config_decide() -> None:
    assert detect(FAMILIES["phi4"].specials) == ("phi", "the vocabulary has <|im_sep|>")
    chatml = FAMILIES["qwen3"].specials
    assert [detect(chatml, "", kind).renderer for kind in ("qwen2", "qwen3_moe", "olmo")] == [  # type: ignore[union-attr]
        "qwen2.5",
        "qwen3",
        "chatml",
    ]
    assert detect(["<s>"]) is None
    with pytest.raises(ConfigError, match=r"set policy\.renderer to one of: compact, "):
        choose_renderer("auto", Tokenizer(backend(Family("", ("<s>",)))))


def test_a_template_that_says_otherwise_is_believed() -> None:
    family = FAMILIES["gemma"]
    shouting = template_of(family).replace(
        "'<start_of_turn>' + role", "'<start_of_turn>Dear ' + role"
    )
    shouting = shouting.replace("<start_of_turn>model", "<start_of_turn>Dear model")
    made = Tokenizer(backend(family), shouting, {"bos_token": "<bos>"})
    chosen = choose_renderer("auto", made)
    assert chosen.name == "generic"
    assert "it is not gemma: the template renders '<bos><start_of_turn>Dear user" in chosen.why
    ids = (*chosen.renderer.open([Message("user", "hi")], ()), *chosen.renderer.header())
    assert made.decode(ids).startswith("<bos><start_of_turn>Dear user\nhi<end_of_turn>\n")


def test_options_stand_behind_a_name() -> None:
    assert split_options("qwen3:thinking=off") == ("qwen3", {"thinking": "off"})
    assert split_options("deepseek:thinking=true") == ("deepseek", {"thinking": True})
    made = make_renderer("gpt-oss:effort=low,date=2025-01-01", FAMILIES["gpt-oss"].make().tokenizer)
    text = made.tokenizer.decode(made.open([Message("user", "hi")], ()))
    assert "Reasoning: low" in text
    assert "Current date: 2025-01-01" in text
    tokens = FAMILIES["qwen3"].make().tokenizer
    for wrong, said in (
        ("qwen3:thinking=loud", "'loud' is not allowed"),
        ("qwen3:think=off", "did you mean 'thinking'"),
        ("qwen3:off", "write options as name:key=value"),
    ):
        with pytest.raises(ConfigError, match=said):
            make_renderer(wrong, tokens)
    with pytest.raises(UnknownName, match="did you mean 'qwen3'"):
        choose_renderer("qwen", tokenizer("qwen3"))


# ------------------------------------------------------------------ generic

APPENDS = ["qwen2.5", "qwen3-2507", "llama3", "llama3.1", "gemma", "gemma3", "phi3", "phi3.5"]
LATER = "to it. Name a family"


@cache
def generic(name: str) -> GenericRenderer:
    return GenericRenderer(tokenizer(name))


@pytest.mark.parametrize("name", APPENDS)
@settings(max_examples=20)
@given(data=st.data())
def test_the_generic_renderer_writes_what_the_template_writes(
    name: str, data: st.DataObject
) -> None:
    made, can = generic(name), CAN[name]
    tools = TOOLS if can.rounds and data.draw(st.booleans()) else ()
    acting = bool(tools) and name.startswith("qwen")  # Llama's results are JSON: the user's words
    messages = data.draw(conversations(can, acting, False))
    for n in prompts(messages):
        chat = Chat(made, tools)
        chat.play(messages[:n])
        wanted = ChatTemplate(made.tokenizer.template, made.tokenizer.settings)  # type: ignore[attr-defined]
        assert made.tokenizer.decode(chat.shown()) == wanted(messages[:n], tools)


@pytest.mark.parametrize("name", APPENDS)
def test_the_generic_renderer_keeps_the_contract(name: str) -> None:
    assert check_renderer(generic(name)) == []


@pytest.mark.parametrize("name", sorted({*PUBLISHED} - {*APPENDS, "llama3.2"}))
def test_templates_that_rewrite_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"it rewrites what was sampled[^.]*\. Name a family"):
        generic(name)


def test_without_a_template_there_is_nothing_generic() -> None:
    with pytest.raises(ConfigError, match="needs the tokenizer's chat template"):
        choose_renderer("generic", Tokenizer(backend(FAMILIES["phi4"])))
    with pytest.raises(ConfigError, match="the chat template cannot be read: "):
        ChatTemplate("{% if %}", {})
    with pytest.raises(ConfigError, match="refuses its messages: no system"):
        ChatTemplate("{{ raise_exception('no system') }}", {})([Message("user", "hi")])


TOLD_MORE = {"qwen3-off", "glm4-off", "llama3.2", "gpt-oss"}  # thinking, or a date


@pytest.mark.parametrize("name", sorted({*PUBLISHED} - TOLD_MORE))
def test_our_sandbox_renders_as_transformers_does(name: str) -> None:
    family, can = FAMILIES[name], CAN[name]
    calls = (ToolCall("search", json.dumps({"query": "é"}, ensure_ascii=False)),)
    messages = [Message("user", "hi"), Message("assistant", "ha"), Message("user", "b")]
    if can.rounds and family.renderer != "deepseek":
        messages += [
            Message("assistant", "", tool_calls=calls),
            Message("tool", "r", name="search"),
        ]
    ours = ChatTemplate(tokenizer(name).template, tokenizer(name).settings)
    tools = TOOLS if can.rounds else ()
    assert ours(messages, tools) == published(reference(family), family, messages, tools)


# ------------------------------------------------------------------ folders


def test_a_folder_keeps_its_template_and_settings(tmp_path: Path) -> None:
    made = reference(FAMILIES["qwen3"])
    made.save_pretrained(tmp_path / "a")
    first = load_tokenizer(tmp_path / "a")
    assert first.template == template_of(FAMILIES["qwen3"])
    first.save(tmp_path / "b")
    second = load_tokenizer(tmp_path / "b")
    assert (second.template, second.settings) == (first.template, first.settings)
    written = (tmp_path / "a/tokenizer.json", tmp_path / "b/tokenizer.json")
    assert len({json.dumps(json.loads(path.read_text())) for path in written}) == 1
    from transformers import AutoTokenizer

    again = AutoTokenizer.from_pretrained(tmp_path / "b")
    chat = [{"role": "user", "content": "hi"}]
    assert again.apply_chat_template(chat, tokenize=False) == made.apply_chat_template(
        chat, tokenize=False
    )


def test_marks_that_frame_messages_are_control_tokens_even_if_nobody_says_so() -> None:
    family = FAMILIES["deepseek-r1"]
    loose = Family("deepseek", (family.specials[0], family.specials[1]), family.specials[2:])
    made = make_renderer("deepseek", Tokenizer(backend(loose)))
    ids = made.open([Message("user", "a<｜User｜>b")], ())
    assert made.tokenizer.decode(ids) == "<｜begin▁of▁sentence｜><｜User｜>a<｜User｜>b"
    assert sum(i == made.tokenizer.control("<｜User｜>") for i in ids) == 1


IDS = sorted({*PUBLISHED} - TOLD_MORE - {"deepseek-v3"})


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("swallowing", [False, True])
def test_the_ids_are_those_that_transformers_makes_of_the_template(
    name: str, swallowing: bool, tmp_path: Path
) -> None:
    """Also where control tokens swallow the white space behind them, as those of Phi 3 do."""
    family = FAMILIES[name]
    made = reference(family)
    if swallowing and name == "glm4":
        pytest.skip("its turns begin with the line break that would be swallowed")
    if swallowing:
        loud = [AddedToken(each, rstrip=True, special=True) for each in family.specials]
        made.add_special_tokens({"extra_special_tokens": loud})
    made.save_pretrained(tmp_path)
    chosen = choose_renderer("auto", load_tokenizer(tmp_path))
    assert chosen.name == CHOSEN[name]
    chat = Chat(chosen.renderer, ())
    messages = [Message("user", "where is Ada?")]
    if not name.startswith("deepseek"):  # whose template drops the header's <think> later
        messages += [Message("assistant", "at home"), Message("user", "I see")]
    chat.play(messages)
    wanted = published(made, family, messages, ())
    assert chat.shown() == tuple(made(wanted, add_special_tokens=False)["input_ids"])
