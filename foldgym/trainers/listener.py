"""A tokenizer that only listens: it hears every text that a tokenizer will have to encode."""

from __future__ import annotations

from collections.abc import Sequence

from foldgym.agents.renderers import byte_spans
from foldgym.types import Ids

_BYTES = 256


class Listener:
    """Encodes text as bytes and keeps it in `heard`; control ids are made up as they are asked for.

    Played with instead of a real tokenizer, it collects exactly what the renderer encodes.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._names: list[str] = []

    @property
    def vocab_size(self) -> int:
        """Bytes, and the control tokens asked for so far."""
        return _BYTES + len(self._names)

    def encode(self, text: str) -> Ids:
        """Its bytes."""
        self.heard.append(text)
        return tuple(text.encode("utf-8", errors="replace"))

    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """One per byte: the character it belongs to."""
        return byte_spans(text)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of bytes; a control id ends nothing and shows nothing."""
        return bytes(i for i in ids if i < _BYTES).decode("utf-8", errors="replace")

    def control(self, name: str) -> int:
        """An id above the bytes."""
        if name not in self._names:
            self._names.append(name)
        return _BYTES + self._names.index(name)
