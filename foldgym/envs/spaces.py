"""Gymnasium spaces for language: whatever a model can emit is inside, and samples are playable."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from gymnasium.spaces import Space, Text

from foldgym.tools import format_call, random_call
from foldgym.types import Action, Message, Observation, Tool

_WORDS = ("yes", "no", "look", "42", "north", "the", "key", "Ünïcödé", "{", '"', "\n", "<|end|>")


class MessageSpace(Space[Action]):
    """Any text, and any assistant `Message`.

    With `tools`, most samples are calls that fit a tool's schema, so that a random player plays.
    """

    def __init__(self, tools: Sequence[Tool] = (), seed: int | None = None) -> None:
        self.tools = tuple(
            Tool(each.name, each.description, each.parameters, None, each.concurrent)
            for each in tools
        )
        super().__init__(seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: text has no fixed size."""
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> Action:
        """Four in five samples are tool calls if there are tools; half of all are plain text."""
        rng = _random(self)
        words = _words(rng)
        if not self.tools or rng.random() < 0.2:
            text = " ".join(words)
            return text if rng.random() < 0.5 else Message("assistant", text)
        call = random_call(self.tools, words, rng)
        if rng.random() < 0.5:
            return format_call(call, self.tools)
        return Message("assistant", tool_calls=(call,))

    def contains(self, x: Any) -> bool:
        """Whether `x` is text or an assistant's message."""
        return isinstance(x, str) or (isinstance(x, Message) and x.role == "assistant")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MessageSpace) and other.tools == self.tools

    __hash__ = None  # pyright: ignore[reportAssignmentType]  # like Gymnasium's own spaces

    def __repr__(self) -> str:
        return f"MessageSpace({', '.join(each.name for each in self.tools)})"


class ObservationSpace(Space[Observation]):
    """Tuples of messages: what is new since the last action."""

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: text has no fixed size."""
        return False

    def sample(self, mask: Any = None, probability: Any = None) -> Observation:
        """One to three messages of users and tools."""
        rng = _random(self)
        return tuple(
            Message(rng.choice(("user", "tool")), " ".join(_words(rng)))
            for _ in range(rng.randint(1, 3))
        )

    def contains(self, x: Any) -> bool:
        """Whether `x` is a tuple of messages."""
        return isinstance(x, tuple) and all(isinstance(each, Message) for each in x)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObservationSpace)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return "ObservationSpace()"


class AnyText(Text):
    """Gymnasium's `Text` for libraries that ask for one, without its limits on length and letters.

    Samples come from `Text`'s letters and digits.
    """

    def __init__(self, seed: int | None = None) -> None:
        super().__init__(max_length=64, min_length=0, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """False: text has no fixed size."""
        return False

    def contains(self, x: Any) -> bool:
        """Whether `x` is text."""
        return isinstance(x, str)

    def __repr__(self) -> str:
        return "AnyText()"


def _random(space: Space[Any]) -> random.Random:
    return random.Random(int(space.np_random.integers(2**62)))


def _words(rng: random.Random) -> list[str]:
    return [rng.choice(_WORDS) for _ in range(rng.randint(1, 4))]
