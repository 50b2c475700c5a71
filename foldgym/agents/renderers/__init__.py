"""Messages to token ids and back. A renderer only ever appends: it never rewrites an id it emitted.

Only control tokens that a renderer places itself frame a message. Text, whoever wrote it, is
encoded by `Tokenizer.encode`, which never yields a control id, so a role marker inside tool
output stays text.
"""

from __future__ import annotations

import json
from typing import Any

from foldgym.agents.renderers.base import (
    Piece,
    Plain,
    Renderer,
    Seam,
    Tokenizer,
    When,
    byte_spans,
    weave,
)
from foldgym.agents.renderers.chatml import ChatMLRenderer
from foldgym.agents.renderers.compact import CompactRenderer
from foldgym.agents.renderers.deepseek import DeepSeekRenderer
from foldgym.agents.renderers.gemma import GemmaRenderer
from foldgym.agents.renderers.glm import Glm4Renderer
from foldgym.agents.renderers.gpt_oss import GptOssRenderer
from foldgym.agents.renderers.llama import Llama3Renderer
from foldgym.agents.renderers.phi import PhiRenderer
from foldgym.agents.renderers.qwen import Qwen3Renderer, Qwen25Renderer
from foldgym.config import bind
from foldgym.errors import ConfigError, UnknownName

RENDERERS = {
    "compact": CompactRenderer,
    "chatml": ChatMLRenderer,
    "qwen2.5": Qwen25Renderer,
    "qwen3": Qwen3Renderer,
    "llama3": Llama3Renderer,
    "deepseek": DeepSeekRenderer,
    "glm4": Glm4Renderer,
    "gpt-oss": GptOssRenderer,
    "gemma": GemmaRenderer,
    "phi": PhiRenderer,
}


def make_renderer(name: str, tokenizer: Tokenizer, **options: Any) -> Renderer:
    """A renderer by its short name, with options behind it: `"qwen3:thinking=off"`.

    Raises `UserError` for a name or option that there is not, or a vocabulary without the family's
    control tokens.
    """
    family, written = split_options(name)
    if family not in RENDERERS:
        raise UnknownName("renderer", family, RENDERERS)
    make = bind("renderer", RENDERERS[family], {**written, **options}, filled=("tokenizer",))
    return make(tokenizer)


def split_options(name: str) -> tuple[str, dict[str, Any]]:
    """`"qwen3:thinking=off"` as `("qwen3", {"thinking": "off"})`; values are JSON if they can."""
    family, _, rest = name.partition(":")
    options: dict[str, Any] = {}
    for pair in rest.split(",") if rest else ():
        key, given, value = pair.partition("=")
        if not given:
            raise ConfigError(f"renderer {name!r}: write options as name:key=value,key=value")
        try:
            options[key.strip()] = json.loads(value)
        except ValueError:
            options[key.strip()] = value.strip()
    return family, options


__all__ = [
    "RENDERERS",
    "ChatMLRenderer",
    "CompactRenderer",
    "DeepSeekRenderer",
    "GemmaRenderer",
    "Glm4Renderer",
    "GptOssRenderer",
    "Llama3Renderer",
    "PhiRenderer",
    "Piece",
    "Plain",
    "Qwen3Renderer",
    "Qwen25Renderer",
    "Renderer",
    "Seam",
    "Tokenizer",
    "When",
    "byte_spans",
    "make_renderer",
    "split_options",
    "weave",
]
