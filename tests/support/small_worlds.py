"""A tokenizer, a world and a policy that cost next to nothing: for thousands of episodes."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from foldgym.memory.schemas import SHAPES, Shape
from foldgym.seeding import generator
from foldgym.testing.doubles import ByteTokenizer, HashPolicy
from foldgym.tools import random_call
from foldgym.types import (
    Action,
    Ids,
    Message,
    Opening,
    Prompt,
    Step,
    Task,
    Tool,
    ToolCall,
)

MARKER = "<fold>"
WORDS = ("red", "key", "door", "left", "well", "box", "3", "7")
TEXT: Mapping[str, Any] = {"type": "string"}
TOOLS = tuple(
    Tool(name, "", {"type": "object", "properties": {"at": TEXT}, "required": ["at"]})
    for name in ("look", "take")
)
_PIECE = re.compile(r"<fold>|\s*\w+|\s+|[^\w\s]")


class WordTokenizer(ByteTokenizer):
    """One id a word with the space before it; random ids below 264 still are bytes and controls."""

    def __init__(self) -> None:
        super().__init__()
        self._codes: dict[str, int] = {}
        self._words: dict[int, str] = {}

    def encode(self, text: str) -> Ids:
        return tuple([self._codes.get(x) or self._code(x) for x in _PIECE.findall(text)])

    def _code(self, piece: str) -> int:
        digest = blake2b(piece.encode("utf-8", "replace"), digest_size=5).digest()
        self._codes[piece] = code = 1000 + int.from_bytes(digest, "big")
        self._words[code] = piece
        return code

    def decode(self, ids: Sequence[int]) -> str:
        parts: list[str] = []
        rest: list[int] = []
        for i in ids:
            if i < 1000:
                rest.append(i)
                continue
            parts += [super().decode(rest), self._words[i]] if rest else [self._words[i]]
            rest.clear()
        return "".join(parts) + (super().decode(rest) if rest else "")


class Babble:
    """Answers anything with a few words, sometimes twice, sometimes with an error; then it ends."""

    def __init__(self) -> None:
        self.left = 0

    async def reset(self, seed: int, options: Mapping[str, Any]) -> Opening:
        self.rng = generator(seed, "babble")
        self.left = self.rng.randint(6, 12)
        return Opening(Task(f"babble:{seed}", (Message("user", self.some()),)), TOOLS)

    async def step(self, action: Message) -> Step:
        self.left -= 1
        heard = [Message("tool", self.some()) for _ in range(self.rng.choice((1, 1, 1, 2)))]
        if self.rng.random() < 0.2:
            heard = [Message("user", "error: " + self.some())]
        return Step(tuple(heard), 0.0, self.left <= 0, False, {})

    async def expert(self, style: str, seed: int) -> Action:
        return "look left"

    async def measure(self) -> dict[str, Any]:
        return {"score": float(self.rng.random() < 0.5), "success": self.rng.random() < 0.5}

    async def close(self) -> None:
        pass

    def some(self) -> str:
        return " ".join(self.rng.choice(WORDS) for _ in range(self.rng.randint(1, 6)))


class Writer(HashPolicy):
    """A `HashPolicy` that can do what memories hope for: schemas, sheets, markers, subgoals.

    `purposes` stand beside `calls`.
    """

    def __init__(self, renderer: Any) -> None:
        super().__init__(renderer)
        self.purposes: list[str] = []

    def say(self, prompt: Prompt, rng: random.Random) -> Ids:
        self.purposes.append(prompt.purpose)
        if rng.random() < self.garbage:
            return super().say(prompt, rng)
        return self.renderer.say(self._message(prompt, rng), prompt.tools)

    def _message(self, prompt: Prompt, rng: random.Random) -> Message:
        if prompt.purpose == "act":
            kind = rng.randrange(8)
            if kind == 0:
                return Message(
                    "assistant", f"Subgoal: {rng.choice(WORDS)}\nlook {rng.choice(WORDS)}"
                )
            if kind == 1:
                return Message("assistant", f"{rng.choice(WORDS)} {MARKER} {rng.choice(WORDS)}")
            if kind == 2:
                return Message("assistant", " ".join(rng.choice(WORDS) for _ in range(30)))
            return Message("assistant", tool_calls=(self._call(prompt, rng),))
        if prompt.purpose in ("fold", "repair") and rng.random() < 0.7:
            return Message("assistant", json.dumps(_made(SHAPES[rng.choice(list(SHAPES))], rng)))
        if prompt.purpose in ("curate", "synthesise") and rng.random() < 0.8:
            lines = [rng.choice(WORDS) for _ in range(rng.randint(0, 3))]
            return Message("assistant", "\n".join(["<cheatsheet>", *lines, "</cheatsheet>"]))
        return Message("assistant", " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 9))))

    def _call(self, prompt: Prompt, rng: random.Random) -> ToolCall:
        labels = [*WORDS, "1", "2", "3"]
        return random_call(prompt.tools, labels, rng)


def _made(shape: Shape, rng: random.Random) -> Any:
    if isinstance(shape, dict):
        return {key: _made(inner, rng) for key, inner in shape.items()}
    if isinstance(shape, list):
        return [_made(shape[0], rng) for _ in range(rng.randint(0, 1))]
    if isinstance(shape, tuple):
        return rng.choice([0, 0.5, 1])
    return rng.choice(sorted(shape) if isinstance(shape, frozenset) else WORDS)
