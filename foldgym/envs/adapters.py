"""Bridges to plain Gymnasium: its text games as foldgym worlds, foldgym worlds as text games.

foldgym.register("me/FrozenLake-v0", "foldgym.envs.adapters:FromGymnasium",
                 kwargs={"env": "FrozenLake-v1", "actions": ("left", "down", "right", "up")})
text_env = AsTextEnv("foldgym/GuessNumber-v0")      # str in, str out
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import gymnasium
from gymnasium.spaces import Discrete, Text

from foldgym.envs.base import Env, ToolEnv
from foldgym.envs.registry import make
from foldgym.envs.spaces import AnyText
from foldgym.envs.wrappers import text_of
from foldgym.errors import UserError
from foldgym.tools import tool, usage
from foldgym.types import Action, Json, Message, Tool


class FromGymnasium(ToolEnv):
    """A Gymnasium environment with Text or Discrete actions, played through the tool `act`.

    `env` is a Gymnasium id or a function that makes the environment. `actions` names the discrete
    actions (default: their numbers); `describe` turns an observation into text (default: `str`);
    `question` is said before the first observation. A message without a tool call is the action
    itself. Each step pays what the game pays; the score is their sum, and an episode is a success
    from `solved` on. There is no expert.
    """

    shared = ("inner", "names")

    def __init__(
        self,
        env: str | Callable[[], gymnasium.Env[Any, Any]],
        actions: Sequence[str] = (),
        question: str = "",
        describe: Callable[[Any], str] = str,
        solved: float = 1.0,
        max_turns: int | None = None,
        *,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(render_mode=render_mode)
        self.inner = gymnasium.make(env) if isinstance(env, str) else env()
        space = self.inner.action_space
        if not isinstance(space, Text | Discrete):
            raise UserError(f"FromGymnasium plays Text and Discrete actions, not {space!r}")
        self.names = tuple(actions)
        if isinstance(space, Discrete):
            numbers = range(int(space.start), int(space.start + space.n))
            self.names = self.names or tuple(str(number) for number in numbers)
            if len(self.names) != len(numbers):
                raise UserError(f"{len(self.names)} names for {len(numbers)} actions")
        elif self.names:
            raise UserError("names of actions have no effect on an environment with Text actions")
        self.question, self.describe = question, describe
        self.solved, self.max_turns = solved, max_turns

    def setup(self, rng: random.Random) -> str:
        """Reset the game with a seed from `rng`."""
        observation, _ = self.inner.reset(seed=rng.getrandbits(31))
        self.total = 0.0
        choices = f"Actions: {', '.join(self.names)}." if self.names else ""
        return "\n".join(filter(None, (self.question, choices, self.describe(observation))))

    @tool
    def act(self, action: str) -> str:
        """Do something in the game.

        Args:
            action: what to do
        """
        space = self.inner.action_space
        chosen: Any = action
        if isinstance(space, Discrete):
            if action.strip() not in self.names:
                return f"error: no action {action[:40]!r}. Actions: {', '.join(self.names)}."
            chosen = space.start + self.names.index(action.strip())
        elif not space.contains(action):
            return f"error: the game does not take {action[:40]!r}."
        observation, reward, terminated, truncated, _ = self.inner.step(chosen)
        self.total += float(reward)
        if terminated or truncated:
            done = self.total >= self.solved
            cut = bool(truncated and not terminated)
            self.finish(self.total, reward=float(reward), truncated=cut, success=done)
        else:
            self.reward(float(reward))
        return self.describe(observation)

    def respond(self, message: Message) -> str:
        """Plain text is an action."""
        return cast("str", self.act(message.text.strip()))

    def grade(self) -> float:
        """What the game has paid so far."""
        return self.total

    def snapshot(self) -> dict[str, Any]:
        """Not possible: the game keeps its own state."""
        raise UserError("a Gymnasium game cannot be forked")

    def close(self) -> None:
        """Close the game."""
        self.inner.close()


class AsTextEnv(gymnasium.Env[str, str]):
    """A foldgym world as a plain text game: `str` in, `str` out, nothing else to know.

    The first observation ends with the tools and how to call them; `infos["facts"]` of the last
    step holds what the world measured.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012

    def __init__(self, env: str | Env, *, render_mode: str | None = None, **kwargs: Any) -> None:
        self.inner = make(env, **kwargs) if isinstance(env, str) else env
        self.action_space = AnyText()
        self.observation_space = AnyText()
        self.render_mode = render_mode
        self._shown = ""

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Json] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """The question and the tools."""
        super().reset(seed=seed)
        given = int(self.np_random.integers(2**62)) if seed is None else seed
        observation, info = self.inner.reset(seed=given, options=dict(options or {}))
        tools = cast("tuple[Tool, ...]", self.inner.get_wrapper_attr("tools"))
        offered = "\n".join(f"{usage(each)} - {each.description}" for each in tools)
        self._shown = "\n".join(filter(None, (text_of(observation), offered)))
        return self._shown, info

    def step(self, action: Action) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """What the world says to a text."""
        observation, reward, terminated, truncated, info = self.inner.step(action)
        if terminated or truncated:
            info = {**info, "facts": self.inner.get_wrapper_attr("measure")()}
        self._shown = text_of(observation)
        return self._shown, float(reward), terminated, truncated, info

    def render(self) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What was last shown, if made with `render_mode="ansi"`."""
        return None if self.render_mode is None else self._shown

    def close(self) -> None:
        """Close the world."""
        self.inner.close()
