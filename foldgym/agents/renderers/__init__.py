"""Messages to token ids and back. A renderer only ever appends: it never rewrites an id it emitted.

Only control tokens that a renderer places itself frame a message. Text, whoever wrote it, is
encoded by `Tokenizer.encode`, which never yields a control id, so a role marker inside tool
output stays text.
"""

from __future__ import annotations

from foldgym.agents.renderers.base import Renderer, Tokenizer, byte_spans
from foldgym.agents.renderers.chatml import ChatMLRenderer
from foldgym.agents.renderers.compact import CompactRenderer
from foldgym.errors import UnknownName

RENDERERS = {"compact": CompactRenderer, "chatml": ChatMLRenderer}


def make_renderer(name: str, tokenizer: Tokenizer, **options: bool) -> Renderer:
    """A renderer by its short name."""
    if name not in RENDERERS:
        raise UnknownName("renderer", name, RENDERERS)
    return RENDERERS[name](tokenizer, **options)


__all__ = [
    "RENDERERS",
    "ChatMLRenderer",
    "CompactRenderer",
    "Renderer",
    "Tokenizer",
    "byte_spans",
    "make_renderer",
]
