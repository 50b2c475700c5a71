"""Families of chat models without their weights: special tokens, templates, conversations."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from foldgym.agents.engines.tokenizer import Tokenizer
from foldgym.agents.recorder import encode_view
from foldgym.agents.renderers import Renderer, make_renderer
from foldgym.memory import FullHistory
from foldgym.tools import tool
from foldgym.types import Ids, Log, Memory, Message, Tool

_CORPUS = (
    "The user asks where Ada is. I may call search with a query, or look at the map again.\n"
    '{"name": "search", "arguments": {"query": "who rules Ada", "limit": 3}}\n\n'
    "<tool_response>\nnothing found.\n</tool_response>\nfunction name type object string\n"
)


@tool
def search(query: str, limit: int = 3) -> str:
    """Find documents.

    Args:
        query: what to look for, as <b>words</b>
        limit: how many
    """
    return query * limit


@tool
def stop() -> str:
    """Stop here."""
    return "stopped"


TOOLS: tuple[Tool, ...] = (search, stop)


@dataclass(frozen=True)
class Family:
    """`specials` are control tokens, `words` added tokens that plain text may hold."""

    renderer: str
    specials: tuple[str, ...]
    words: tuple[str, ...] = ()
    template: str = ""
    bos: str = ""
    eos: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Renderer:
        """The renderer over a small byte-level BPE with the family's tokens."""
        return make_renderer(self.renderer, Tokenizer(backend(self)), **self.options)


QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CALLS = ("<tool_call>", "</tool_call>")
RESULTS = ("<tool_response>", "</tool_response>")
THINK = ("<think>", "</think>")
LLAMA = tuple(
    f"<|{name}|>"
    for name in ("begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id")
)
DEEPSEEK = tuple(
    f"<｜{name}｜>"
    for name in (
        *("begin▁of▁sentence", "end▁of▁sentence", "User", "Assistant"),
        *("tool▁calls▁begin", "tool▁calls▁end", "tool▁call▁begin", "tool▁call▁end", "tool▁sep"),
        *("tool▁outputs▁begin", "tool▁outputs▁end", "tool▁output▁begin", "tool▁output▁end"),
    )
)
GLM = ("<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>")
HARMONY = tuple(
    f"<|{name}|>"
    for name in ("return", "constrain", "channel", "start", "end", "message", "call", "endoftext")
)
PHI = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")

FAMILIES = {
    "qwen2.5": Family("qwen2.5", QWEN, CALLS, "qwen2_5", eos="<|im_end|>"),
    "qwen3": Family("qwen3", QWEN, (*CALLS, *RESULTS, *THINK), "qwen3", eos="<|im_end|>"),
    "qwen3-off": Family(
        "qwen3",
        QWEN,
        (*CALLS, *RESULTS, *THINK),
        "qwen3",
        options={"thinking": "off"},
        kwargs={"enable_thinking": False},
    ),
    "qwen3-2507": Family(
        "qwen3", QWEN, (*CALLS, *RESULTS), "qwen3_instruct_2507", options={"thinking": "never"}
    ),
    "llama3": Family("llama3", LLAMA, (), "llama3", bos=LLAMA[0], eos="<|eot_id|>"),
    "llama3.1": Family(
        "llama3", (*LLAMA, "<|eom_id|>", "<|python_tag|>"), (), "llama3_1", bos=LLAMA[0]
    ),
    "llama3.2": Family(
        "llama3",
        (*LLAMA, "<|eom_id|>", "<|python_tag|>"),
        (),
        "llama3_2",
        bos=LLAMA[0],
        kwargs={"date_string": "26 Jul 2024"},
    ),
    "deepseek-r1": Family(
        "deepseek",
        DEEPSEEK,
        THINK,
        "deepseek_r1_distill",
        bos=DEEPSEEK[0],
        options={"thinking": True},
    ),
    "deepseek-v3": Family("deepseek", DEEPSEEK, THINK, "deepseekv3", bos=DEEPSEEK[0]),
    "glm4": Family(
        "glm4",
        (*GLM, "<|observation|>"),
        (*CALLS, *RESULTS, *THINK, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
        "glm4moe",
    ),
    "glm4-off": Family(
        "glm4",
        (*GLM, "<|observation|>"),
        (*CALLS, *RESULTS, *THINK, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
        "glm4moe",
        options={"thinking": False},
        kwargs={"enable_thinking": False},
    ),
    "gpt-oss": Family("gpt-oss", HARMONY, (), "gptoss"),
    "gemma": Family(
        "gemma", ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), (), "gemma", bos="<bos>"
    ),
    "gemma3": Family(
        "gemma", ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), (), "gemma3", bos="<bos>"
    ),
    "phi3": Family("phi", PHI, (), "phi3", eos="<|endoftext|>"),
    "phi3.5": Family("phi", PHI, (), "phi3_5", eos="<|endoftext|>"),
    "phi4": Family("phi", ("<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>")),
    "phi4-mini": Family("phi", (*PHI, "<|tool|>", "<|/tool|>", "<|tool_call|>", "<|/tool_call|>")),
}


@functools.cache
def _trained() -> str:
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator([_CORPUS] * 4, trainer)
    return made.to_str()


def backend(family: Family) -> tokenizers.Tokenizer:
    """A byte-level BPE of 420 ids, and the family's tokens behind them."""
    made = tokenizers.Tokenizer.from_str(_trained())
    made.add_special_tokens(list(family.specials))
    made.add_tokens(list(family.words))
    return made


def template_of(family: Family) -> str:
    """The published template as TRL ships it; skips without TRL."""
    trl = pytest.importorskip("trl", reason="the published templates come with trl")
    return (Path(trl.__file__).parent / "chat_templates" / f"{family.template}.jinja").read_text()


def reference(family: Family) -> PreTrainedTokenizerFast:
    """The same vocabulary in transformers, with the published template."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend(family), bos_token=family.bos or None, eos_token=family.eos or None
    )
    today = 'strftime_now("%Y-%m-%d")'  # GPT-OSS is told the date
    made.chat_template = template_of(family).replace(today, '"2024-07-26"')
    return made


def as_dicts(messages: Sequence[Message], family: Family) -> list[dict[str, Any]]:
    """Messages as chat templates take them."""
    as_text = family.renderer == "deepseek"  # this template adds arguments to text
    shown: list[dict[str, Any]] = []
    for message in messages:
        entry: dict[str, Any] = {"role": message.role, "content": message.text}
        if message.thinking:
            key = "thinking" if family.renderer == "gpt-oss" else "reasoning_content"
            entry[key] = message.thinking
        if message.tool_calls:
            entry["tool_calls"] = [
                {
                    "type": "function",
                    "function": {
                        "name": call.name,
                        "arguments": call.arguments if as_text else json.loads(call.arguments),
                    },
                }
                for call in message.tool_calls
            ]
        shown.append(entry)
    return shown


def published(
    made: PreTrainedTokenizerFast,
    family: Family,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    prompt: bool = True,
) -> str:
    """What the published template renders."""
    from foldgym.agents.renderers.template import schema

    return made.apply_chat_template(
        as_dicts(messages, family),
        tools=[schema(each) for each in tools] or None,
        tokenize=False,
        add_generation_prompt=prompt,
        **family.kwargs,
    )  # type: ignore[return-value]


class Chat:
    """A conversation as an episode logs it: every message once, in order.

    `sampled` are the ids of every turn, `contexts` what was shown before each.
    """

    def __init__(
        self, renderer: Renderer, tools: Sequence[Tool], memory: Memory | None = None
    ) -> None:
        self.renderer, self.tools = renderer, tuple(tools)
        self.memory = memory or FullHistory()
        self.log = Log()
        self.turn = -1
        self.sampled: list[Ids] = []
        self.contexts: list[Ids] = []

    def open(self, messages: Sequence[Message], kit: Any = None) -> None:
        ids = self.renderer.open(messages, self.tools)
        self.log.append("task", ids, "env", messages=tuple(messages))
        self.state = self.memory.start(self.log, kit)

    def shown(self) -> Ids:
        """The prompt of the next turn."""
        return encode_view(self.memory.view(self.log, self.state), self.log, self.renderer)

    def ended(self) -> Ids:
        """All that happened, the last turn closed and nothing opened."""
        prompt, header = self.shown(), self.renderer.header()
        assert prompt[len(prompt) - len(header) :] == header
        return prompt[: len(prompt) - len(header)]

    def say(self, message: Message, ids: Ids | None = None) -> None:
        self.turn += 1
        ids = self.renderer.say(message, self.tools) if ids is None else ids
        self.contexts.append(self.shown())
        self.sampled.append(ids)
        self.log.append("model", ids, "policy", turn=self.turn, messages=(message,))

    def hear(self, message: Message) -> None:
        ids = self.renderer.encode(message)
        self.log.append("observation", ids, "env", turn=self.turn, messages=(message,))

    def play(self, messages: Sequence[Message], kit: Any = None) -> None:
        """The messages up to the first turn open it, the rest is said and heard."""
        first = next((n for n, each in enumerate(messages) if each.role == "assistant"), None)
        self.open(messages[:first], kit)
        for message in messages[len(messages) if first is None else first :]:
            self.say(message) if message.role == "assistant" else self.hear(message)
