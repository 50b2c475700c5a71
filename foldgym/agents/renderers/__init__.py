"""Messages to token ids and back. A renderer only ever appends: it never rewrites an id it emitted.

Only control tokens that a renderer places itself frame a message. Text, whoever wrote it, is
encoded by `Tokenizer.encode`, which never yields a control id, so a role marker inside tool
output stays text.
"""

from __future__ import annotations

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
from foldgym.errors import UnknownName

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
    """A renderer by its short name.

    Raises `UserError` for a name that there is not, or a vocabulary without the family's controls.
    """
    if name not in RENDERERS:
        raise UnknownName("renderer", name, RENDERERS)
    make: Any = RENDERERS[name]
    return make(tokenizer, **options)


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
    "weave",
]
