"""Families of chat models without their weights: the tokens they add, over a small vocabulary.

A renderer can be tried on them, and a model of random weights trained, with nothing downloaded.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from foldgym.agents.renderers import Renderer, make_renderer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend

_CORPUS = (
    "The user asks where Ada is. I may call search with a query, or look at the map again.\n"
    '{"name": "search", "arguments": {"query": "who rules Ada", "limit": 3}}\n\n'
    "<tool_response>\nnothing found.\n</tool_response>\nfunction name type object string\n"
)


@dataclass(frozen=True, slots=True)
class Family:
    """A family of chat models.

    `specials` are control tokens, `words` added tokens that plain text may hold; `template` is the
    name of its published chat template in TRL's `chat_templates` (there is none for some),
    `options` are the renderer's and `kwargs` what the template is told for the same.
    """

    renderer: str
    specials: tuple[str, ...]
    words: tuple[str, ...] = ()
    template: str = ""
    bos: str = ""
    eos: str = ""
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    kwargs: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def make(self) -> Renderer:
        """The renderer over a small byte-level BPE with the family's tokens."""
        from foldgym.agents.engines.tokenizer import Tokenizer

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
    "qwen3-opened": Family(
        "qwen3", QWEN, (*CALLS, *RESULTS, *THINK), options={"thinking": "opened"}
    ),
    "qwen3-xml": Family("qwen3", QWEN, (*CALLS, *RESULTS, *THINK), options={"xml": True}),
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
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

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


def backend(family: Family) -> Backend:
    """A byte-level BPE of some 420 ids, and the family's tokens behind them."""
    import tokenizers

    made = tokenizers.Tokenizer.from_str(_trained())
    made.add_special_tokens(list(family.specials))
    made.add_tokens(list(family.words))
    return made
