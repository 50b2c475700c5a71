"""The worlds of the comparison with TRL, each in our shape and in TRL's own."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import foldgym
from foldgym.agents.renderers import ChatMLRenderer
from foldgym.tools import call
from foldgym.types import Action, Message, Tool

TURNS = 4  # calls of an episode of `Waits`, before the words that end it


class Bare(ChatMLRenderer):
    """ChatML that does not list the tools: a small model knows them by heart.

    TRL's chat template does not either, so both show the same ids to the model.
    """

    def open(self, messages: Any, tools: Any) -> Any:
        return super().open(messages, ())


class Waits(foldgym.ToolEnv):
    """`reset` and every call take `latency` seconds; the words "done" end the episode."""

    def __init__(self, latency: float = 0.0, trouble: str = "") -> None:
        super().__init__()
        self.latency, self.trouble = latency, trouble

    def setup(self, rng: random.Random) -> str:
        time.sleep(self.latency)
        return "wait four times"

    @foldgym.tool
    def wait(self) -> str:
        """Wait."""
        nuisance(self.trouble)
        time.sleep(self.latency)
        return "waited"

    def respond(self, message: Message) -> str:
        self.finish(1.0)
        return "over"


def nuisance(trouble: str) -> None:
    """Hangs for ever or raises."""
    if trouble == "hang":
        threading.Event().wait()
    if trouble == "raise":
        raise RuntimeError("on purpose")


class TrlWaits:
    """`Waits` as a class for TRL's `environment_factory`, with nothing of foldgym in it.

    `troubles` are taken by the instances in the order in which TRL makes them.
    """

    latency = 0.0
    troubles: tuple[str, ...] = ()
    when = "step"
    made = 0

    def __init__(self) -> None:
        kind, number = type(self), type(self).made
        kind.made += 1
        self._trouble = self.troubles[number] if number < len(self.troubles) else ""
        self._calls = 0

    def reset(self, **row: Any) -> None:
        self._calls = 0
        if self.when == "reset":
            nuisance(self._trouble)
        time.sleep(self.latency)

    def wait(self) -> str:
        """Wait."""
        if self.when == "step":
            nuisance(self._trouble)
        time.sleep(self.latency)
        self._calls += 1
        return "waited"

    def get_reward(self) -> float:
        return 1.0 if self._calls == TURNS else 0.0


CODE = (3, 5, 1)  # what opens the lock
SURE = 0.7  # how often the hasty player turns to the right number on purpose


class Lock(foldgym.ToolEnv):
    """A lock of three rings, turned one after the other; only at the end it opens, or does not.

    The player says "done" then. The hasty player, which is cloned first, knows the code and slips.
    """

    experts = ("hasty",)
    max_turns = 5

    def setup(self, rng: random.Random) -> str:
        self.turned: list[int] = []
        return "open"

    @foldgym.tool
    def turn_to(self, number: int) -> str:
        """Turn the next ring.

        Args:
            number: from 1 to 7
        """
        if len(self.turned) == len(CODE):
            return "over"
        self.turned.append(number)
        return ("second", "third", "over")[len(self.turned) - 1]

    def respond(self, message: Message) -> str:
        self.finish(self.grade())
        return "over"

    def grade(self) -> float:
        return float(tuple(self.turned) == CODE)

    def expert(self, style: str, rng: random.Random) -> Action:
        place = len(self.turned)
        if place == len(CODE):
            return Message("assistant", "done")
        right = rng.random() < SURE
        return call("turn_to", number=CODE[place] if right else rng.randint(1, 7))


class TrlLock:
    """The same world as a class for TRL: it plays `Lock` directly, in TRL's own thread."""

    def reset(self, task_seed: int = 0, **row: Any) -> None:
        self._env = Lock()
        self._env.reset(seed=task_seed)

    def turn_to(self, number: int) -> str:
        """Turn the next ring.

        Args:
            number: from 1 to 7
        """
        return self._env.turn_to(number)

    def get_reward(self) -> float:
        return self._env.grade()


class Vowels(foldgym.ToolEnv):
    """One message; its score is the share of vowels in it, so that there is something to learn."""

    def setup(self, rng: random.Random) -> str:
        return " ".join(rng.choice(["who", "rules", "Ada", "and", "Bo"]) for _ in range(40))

    def respond(self, message: Message) -> str:
        self.finish(vowels(message.text))
        return "thanks"

    @property
    def tools(self) -> tuple[Tool, ...]:
        return ()


def vowels(text: str) -> float:
    """Their share in a text."""
    return sum(letter in "aeiou" for letter in text) / max(1, len(text))
