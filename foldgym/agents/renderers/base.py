"""What a tokenizer and a renderer promise: the border between messages and ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

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


@dataclass(frozen=True, slots=True)
class Seam:
    """Where a message of `left` meets one of `right`, `close` and `open` give way to `instead`.

    So several tool results become one block, as templates that look at their neighbours write
    them. Where `left` may have been sampled, `instead` begins with `close`: nothing said changes.
    """

    left: Role
    right: Role
    close: Ids
    open: Ids
    instead: Ids


class Piece(NamedTuple):
    """Ids, and the roles of the first and last message in them; None for a part of a message."""

    ids: Ids
    first: Role | None
    last: Role | None


def weave(pieces: Iterable[Piece], seams: Sequence[Seam]) -> Ids:
    """All pieces after each other, with the seams between them closed.

    An opening whose role is not known counts as an assistant's: an unfinished turn is one.
    """
    ids: list[int] = []
    last: Role | None = None
    for piece in pieces:
        first = piece.first or "assistant"
        for seam in seams:
            size = len(seam.close)
            meet = (seam.left, seam.right) == (last, first)
            closes = tuple(ids[len(ids) - size :]) == seam.close
            if meet and closes and piece.ids[: len(seam.open)] == seam.open:
                ids[len(ids) - size :] = seam.instead
                ids += piece.ids[len(seam.open) :]
                break
        else:
            ids += piece.ids
        last = piece.last
    return tuple(ids)


class Renderer(Protocol):
    """The border between messages and ids."""

    tokenizer: Tokenizer
    stop_ids: Ids
    seams: Sequence[Seam]

    def open(self, messages: Sequence[Message], tools: Sequence[Tool]) -> Ids:
        """The first prompt: what the task says and which tools there are."""
        ...

    def encode(self, message: Message) -> Ids:
        """One message nobody sampled, with its frame."""
        ...

    def frame(self, role: Role) -> tuple[Ids, Ids]:
        """What stands before and after the text of a message of `role`."""
        ...

    def header(self, cut: Ids = ()) -> Ids:
        """Opens an assistant turn: the last ids before sampling.

        `cut` are ids at its start that are not shown again; with them goes what they belong to,
        such as a thought that the header itself opens.
        """
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

    def spans(self, message: Message, tools: Sequence[Tool]) -> tuple[tuple[int, int], ...]:
        """Per id of `say` but the end token, the characters of `write` that it stands for."""
        ...

    def thoughts(self, ids: Ids, when: When) -> tuple[tuple[int, int], ...]:
        """The stretches of a turn's sampled `ids` that the family's own template leaves out.

        Of a turn before the latest user message they are "past", in the same round of tool calls
        "recent". Empty for a template that only appends.
        """
        ...

    def parse(self, ids: Ids, tools: Sequence[Tool]) -> Parsed:
        """Sampled ids to a message; never raises, a failure is `Parsed.problem`."""
        ...


When = Literal["past", "recent"]


class Plain:
    """What holds for a template whose messages know nothing of each other."""

    tokenizer: Tokenizer
    seams: Sequence[Seam] = ()

    def write(self, message: Message, tools: Sequence[Tool]) -> str:
        """The text with which a policy would say `message`."""
        raise NotImplementedError

    def spans(self, message: Message, tools: Sequence[Tool]) -> tuple[tuple[int, int], ...]:
        """Those of plain text."""
        return self.tokenizer.spans(self.write(message, tools))

    def thoughts(self, ids: Ids, when: When) -> tuple[tuple[int, int], ...]:
        """None is left out."""
        return ()


def body(ids: Ids, stop_ids: Ids) -> Ids:
    """Sampled ids without the id that ended them."""
    return ids[:-1] if ids and ids[-1] in stop_ids else ids
