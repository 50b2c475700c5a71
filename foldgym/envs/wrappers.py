"""Small changes to an environment, each a few lines; they pass everything else through.

A wrapper keeps no copy of what it wraps: tools, task, facts and experts are looked up in the
wrapped environment each time, so they are never those of an earlier episode.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.utils import RecordConstructorArgs

from foldgym.envs.spaces import AnyText
from foldgym.types import Action, Evidence, Json, Message, Observation, Task, Tool


class Wrapper(gymnasium.Wrapper[Any, Any, Observation, Action], RecordConstructorArgs):
    """Base of our wrappers: a `gymnasium.Wrapper` on which the foldgym side still works.

    It may also stand on the outside of what `gymnasium.make` returns.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], **arguments: Any) -> None:
        RecordConstructorArgs.__init__(self, **arguments)
        super().__init__(env)

    def _inner(self, name: str) -> Any:
        return self.env.get_wrapper_attr(name)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The wrapped environment's tools, now."""
        return self._inner("tools")

    @property
    def task(self) -> Task:
        """The wrapped environment's task, now."""
        return self._inner("task")

    @property
    def experts(self) -> tuple[str, ...]:
        """The wrapped environment's expert styles."""
        return self._inner("experts")

    @property
    def note_styles(self) -> tuple[str, ...]:
        """The purposes of a memory for which the wrapped environment's expert writes notes."""
        return self._inner("note_styles")

    def expert(self, style: str, rng: random.Random) -> Action:
        """The wrapped environment's scripted player."""
        return self._inner("expert")(style, rng)

    def measure(self) -> dict[str, Json]:
        """The wrapped environment's facts."""
        return self._inner("measure")()

    def evidence(self) -> Sequence[Evidence]:
        """The wrapped environment's evidence."""
        return self._inner("evidence")()

    def snapshot(self) -> Any:
        """The wrapped environment's state."""
        return self._inner("snapshot")()

    def restore(self, snapshot: Any) -> None:
        """Bring the wrapped environment back to a snapshot."""
        self._inner("restore")(snapshot)


class _Counting(Wrapper):
    """Counts the turns of an episode; forks take the count with them."""

    def __init__(self, env: gymnasium.Env[Any, Any], turns: int) -> None:
        if turns < 1:
            raise ValueError(f"turns must be at least 1, not {turns}")
        super().__init__(env, turns=turns)
        self.turns, self.turn = turns, 0

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Json] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        self.turn = 0
        return self.env.reset(seed=seed, options=dict(options or {}))

    def step(self, action: Action) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.turn += 1
        return self.env.step(action)

    def snapshot(self) -> Any:
        return self.turn, super().snapshot()

    def restore(self, snapshot: Any) -> None:
        self.turn, inner = snapshot
        super().restore(inner)


class MaxTurns(_Counting):
    """Truncates an episode after `turns` turns."""

    def step(self, action: Action) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As inside; truncated at the last turn unless the episode ended with it."""
        observation, reward, terminated, truncated, info = super().step(action)
        truncated = truncated or (self.turn >= self.turns and not terminated)
        return observation, reward, terminated, truncated, info


class TurnsLeft(_Counting):
    """Tells the agent after each turn how many of `turns` are left."""

    def step(self, action: Action) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As inside, with one more message while the episode goes on."""
        observation, reward, terminated, truncated, info = super().step(action)
        if not (terminated or truncated):
            left = max(0, self.turns - self.turn)
            notice = Message("user", f"{left} turn{'' if left == 1 else 's'} left.")
            observation = (*observation, notice)
        return observation, reward, terminated, truncated, info


class TextObservation(Wrapper):
    """Shows observations as one text instead of messages."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = AnyText()

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Json] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """As inside, as text."""
        observation, info = self.env.reset(seed=seed, options=dict(options or {}))
        return text_of(observation), info

    def step(self, action: Action) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As inside, as text."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        return text_of(observation), reward, terminated, truncated, info


class RecordTranscript(Wrapper):
    """Keeps the conversation of the current episode in `transcript`."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.transcript: list[Message] = []

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Json] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """As inside; the transcript begins with the question."""
        observation, info = self.env.reset(seed=seed, options=dict(options or {}))
        self.transcript = list(observation)
        return observation, info

    def step(self, action: Action) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """As inside; the action and what it brought are added to the transcript."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        said = Message("assistant", action) if isinstance(action, str) else action
        self.transcript += [said, *observation]
        return observation, reward, terminated, truncated, info

    def snapshot(self) -> Any:
        """The state together with the transcript so far."""
        return list(self.transcript), super().snapshot()

    def restore(self, snapshot: Any) -> None:
        """Bring back both."""
        transcript, inner = snapshot
        self.transcript = list(transcript)
        super().restore(inner)


def text_of(observation: Observation) -> str:
    """The texts of an observation's messages, one below the other."""
    return "\n".join(message.text for message in observation)
