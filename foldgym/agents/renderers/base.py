"""What a tokenizer and a renderer promise: the border between messages and ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from foldgym.tools import Parsed
from foldgym.types import Ids, Message, Role, Tool


class Tokenizer(Protocol):
    """Text to ids. `encode` must never yield an id that `control` returns."""

    @property
    def vocab_size(self) -> int:
        """How many ids there are, control ids included."""
        ...

    def encode(self, text: str) -> Ids:
        """Ids of plain text."""
        ...

    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """Per id of `encode(text)`, the characters `text[start:end]` that it stands for."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; control ids appear by their name."""
        ...

    def control(self, name: str) -> int:
        """The id of the control token `name`; raises `UserError` if the vocabulary lacks it."""
        ...


def byte_spans(text: str) -> tuple[tuple[int, int], ...]:
    """`Tokenizer.spans` of a tokenizer whose ids are UTF-8 bytes."""
    sizes = [len(character.encode("utf-8", errors="replace")) for character in text]
    return tuple((place, place + 1) for place, size in enumerate(sizes) for _ in range(size))


class Renderer(Protocol):
    """The border between messages and ids."""

    tokenizer: Tokenizer
    stop_ids: Ids

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """The first prompt: what the task says and which tools there are."""
        ...

    def encode(self, message: Message) -> Ids:
        """One message nobody sampled, with its frame."""
        ...

    def frame(self, role: Role) -> tuple[Ids, Ids]:
        """What stands before and after the text of a message of `role`."""
        ...

    def header(self) -> Ids:
        """Opens an assistant turn: the last ids before sampling."""
        ...

    def seal(self, ids: Ids) -> Ids:
        """What must follow sampled `ids` to close their turn; may be empty."""
        ...

    def write(self, message: Message, tools: Sequence[Tool]) -> str:
        """The text with which a policy would say `message`."""
        ...

    def say(self, message: Message, tools: Sequence[Tool]) -> Ids:
        """The ids of `write`, and one end token: what a policy would sample to say `message`."""
        ...

    def parse(self, ids: Ids, tools: Sequence[Tool]) -> Parsed:
        """Sampled ids to a message; never raises, a failure is `Parsed.problem`."""
        ...


def body(ids: Ids, stop_ids: Ids) -> Ids:
    """Sampled ids without the id that ended them."""
    return ids[:-1] if ids and ids[-1] in stop_ids else ids
