"""Doubles for tests: a byte tokenizer, and a policy whose log-probs prove which prefix it saw."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from foldgym.agents.renderers import Renderer, byte_spans
from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.tools import random_call
from foldgym.types import (
    Completion,
    EnvHandle,
    Finish,
    Ids,
    Message,
    Prompt,
    Sampling,
    Session,
    Trajectory,
)

CONTROLS = (
    "<|pad|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|end|>",
    "<|im_start|>",
    "<|im_end|>",
)


class ByteTokenizer:
    """One id per UTF-8 byte, control ids above them: no training, nothing to download."""

    def __init__(self, controls: Sequence[str] = CONTROLS) -> None:
        self._names = tuple(controls)
        self.vocab_size = 256 + len(self._names)

    def encode(self, text: str) -> Ids:
        """Bytes; lone surrogates survive as question marks."""
        return tuple(text.encode("utf-8", errors="replace"))

    def spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """One per byte: the character it belongs to."""
        return byte_spans(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Text; control ids by name, broken UTF-8 replaced."""
        out, run = list[str](), bytearray()
        for i in ids:
            if i < 256:
                run.append(i)
                continue
            out += (run.decode("utf-8", errors="replace"), self._names[i - 256])
            run.clear()
        return "".join(out) + run.decode("utf-8", errors="replace")

    def control(self, name: str) -> int:
        """256 and up."""
        if name not in self._names:
            raise UserError(f"no control token {name!r}; there are {', '.join(self._names)}")
        return 256 + self._names.index(name)


class PrefixHash:
    """Log-probs in [-1, 0) that depend on every id so far and on nothing else."""

    def __init__(self, ids: Sequence[int] = ()) -> None:
        self._hash = blake2b(digest_size=6)
        self.show(ids)

    def show(self, ids: Sequence[int]) -> None:
        """Appends ids that nobody sampled."""
        self._hash.update(array("q", ids).tobytes())

    def push(self, token: int) -> float:
        """Appends one id and returns its log-prob."""
        self.show((token,))
        return -(int.from_bytes(self._hash.digest(), "big") + 1) / 2.0**48


@dataclass(slots=True)
class _HashSession:
    policy: HashPolicy
    rng: random.Random

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        renderer, rng = self.policy.renderer, self.rng
        ids = self.policy.say(prompt, rng)[: sampling.max_tokens]
        finish = Finish.STOP if ids[-1] in renderer.stop_ids else Finish.LENGTH
        prefix = PrefixHash(prompt.ids)
        logprobs = tuple(prefix.push(i) for i in ids)
        self.policy.calls.append((prompt.ids, ids))
        return Completion(ids, logprobs, self.policy.version, finish)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class HashPolicy:
    """Says random readable calls, random text and plain garbage; each log-prob hashes its prefix.

    `calls` keeps every (context, sampled ids) pair, so that a test can prove what `witness` checks:
    each sampled id was recorded exactly once, in the context in which it was sampled.
    """

    renderer: Renderer
    garbage: float = 0.15
    version: int = 0
    calls: list[tuple[Ids, Ids]] = field(default_factory=list[tuple[Ids, Ids]])

    def open(self, seed: int, env: EnvHandle) -> Session:
        """A session with its own random stream."""
        return _HashSession(self, generator(seed, "hash policy"))

    def logprobs(self, prompt: Ids, target: Ids) -> tuple[float, ...]:
        """Those that it gives when it says `target` after `prompt`."""
        prefix = PrefixHash(prompt)
        return tuple(prefix.push(token) for token in target)

    def say(self, prompt: Prompt, rng: random.Random) -> Ids:
        """Ids of one message, at least one."""
        if rng.random() < self.garbage:
            size = self.renderer.tokenizer.vocab_size
            junk = tuple(rng.randrange(size) for _ in range(rng.randint(1, 12)))
            stops = [i for i, token in enumerate(junk) if token in self.renderer.stop_ids]
            return junk[: stops[0] + 1] if stops else junk
        words = [word for message in prompt.messages for word in message.text.split()] or ["x"]
        if prompt.purpose != "act" or not prompt.tools:
            text = " ".join(rng.choice(words) for _ in range(rng.randint(1, 4)))
            return self.renderer.say(Message("assistant", text), prompt.tools)
        call = random_call(prompt.tools, words, rng)
        return self.renderer.say(Message("assistant", tool_calls=(call,)), prompt.tools)


def witness(trajectory: Trajectory) -> int:
    """Checks that every trained id stands behind the prefix it was sampled from.

    Only for trajectories of a `HashPolicy`. Returns how many ids were checked; raises
    `AssertionError` at the first that is out of place.
    """
    checked = 0
    for number, segment in enumerate(trajectory.segments):
        prefix, hashed = PrefixHash(), 0
        for position, turn in enumerate(segment.turn_ids):
            logprob = segment.logprobs[position]
            if turn < 0:
                assert logprob == 0.0, f"segment {number}, position {position}: context with logp"
                continue
            prefix.show(segment.token_ids[hashed:position])
            hashed = position + 1
            assert logprob == prefix.push(segment.token_ids[position]), (
                f"segment {number}, position {position}, turn {turn}: sampled in another context"
            )
            checked += 1
    return checked
