"""Policies without weights: experts, a random player, a silent one, any function.

They speak in messages; the transcript turns those into the ids a model would have sampled.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from foldgym.errors import UnknownName
from foldgym.memory.reseek import JUDGE
from foldgym.seeding import derive_seed, generator
from foldgym.tools import random_call
from foldgym.types import Completion, EnvHandle, Message, Prompt, Sampling, Session

Speak = Callable[[Prompt, random.Random], "Message | str"]


@dataclass(slots=True)
class _FunctionSession:
    speak: Speak
    rng: random.Random

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        said = self.speak(prompt, self.rng)
        return Completion(message=Message("assistant", said) if isinstance(said, str) else said)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class FunctionPolicy:
    """`FunctionPolicy(lambda prompt, rng: "answer 42")`: any function of the conversation."""

    speak: Speak
    version: int = field(default=0, init=False)

    def open(self, seed: int, env: EnvHandle) -> Session:
        """A session with its own random stream."""
        return _FunctionSession(self.speak, generator(seed, "scripted"))


def random_policy() -> FunctionPolicy:
    """Calls a random tool with random arguments, taken from the conversation where text is due."""

    def speak(prompt: Prompt, rng: random.Random) -> Message:
        words = [word for message in prompt.messages for word in message.text.split()]
        if not prompt.tools:
            return Message("assistant", rng.choice(words or ["?"]))
        return Message("assistant", tool_calls=(random_call(prompt.tools, words, rng),))

    return FunctionPolicy(speak)


def silent_policy() -> FunctionPolicy:
    """Never does anything: the floor that every environment's score is read against."""
    return FunctionPolicy(lambda prompt, rng: "")


@dataclass(slots=True)
class _ExpertSession:
    env: EnvHandle
    style: str
    seed: int
    one_at_a_time: asyncio.Lock = field(default_factory=asyncio.Lock)

    def branch(self, seed: int) -> Session:
        return _ExpertSession(self.env, self.style, seed, self.one_at_a_time)

    def expect(self, busy: int) -> None:
        """An expert waits for nobody."""

    async def sample(self, prompt: Prompt, sampling: Sampling) -> Completion:
        style = self.style if prompt.purpose == "act" else prompt.purpose
        if _to_judge(prompt):
            style = JUDGE.name
        async with self.one_at_a_time:  # lineages ask together, a world answers one by one
            said = await self.env.expert(style, derive_seed(self.seed, prompt.turn))
        return Completion(message=Message("assistant", said) if isinstance(said, str) else said)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(slots=True)
class ExpertPolicy:
    """The environment's own scripted player, who may look behind the curtain.

    Who asks for notes gets the expert style of that purpose (`"fold"`), a memory that wants
    searches judged (`reseek`) the style `"judge"` after each.
    """

    style: str = "optimal"
    version: int = field(default=0, init=False)

    def open(self, seed: int, env: EnvHandle) -> Session:
        """A session bound to the episode's environment."""
        return _ExpertSession(env, self.style, seed)


def _to_judge(prompt: Prompt) -> bool:
    """Whether the last thing shown is a search result that a memory wants judged."""
    offered = any(tool is JUDGE for tool in prompt.tools)
    if not offered or prompt.purpose != "act" or not prompt.messages:
        return False
    last = prompt.messages[-1]
    return last.role == "tool" and last.name == "search" and not last.text.startswith("error:")


SCRIPTED = ("expert:STYLE", "random", "silent")


def scripted_policy(name: str) -> FunctionPolicy | ExpertPolicy:
    """`expert` or `expert:STYLE`, `random`, `silent`."""
    kind, _, style = name.partition(":")
    if kind == "expert":
        return ExpertPolicy(style or "optimal")
    if name == "random":
        return random_policy()
    if name == "silent":
        return silent_policy()
    raise UnknownName("scripted policy", name, SCRIPTED)
