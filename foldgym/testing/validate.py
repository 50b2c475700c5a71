"""How hard is an environment? The scores of its experts, of a random player and of nobody."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from foldgym.envs.base import Env
from foldgym.envs.registry import maker
from foldgym.seeding import derive_seed, generator
from foldgym.tools import random_call
from foldgym.types import Action, Message, Observation, Step

_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """`Standing("optimal", 100, 1.0, 1.0, 5.4)`: means over the episodes of one player."""

    player: str
    episodes: int
    score: float
    success: float
    turns: float


def validate(target: str | Callable[[], Env], episodes: int = 50, seed: int = 0) -> list[Standing]:
    """Let each expert style, a random player and a silent one play the same episodes.

    An environment worth training on gives its optimal expert 1 and the other two about 0. Episodes
    without an end are stopped, and measured, after 200 turns.
    """
    env = (maker(target) if isinstance(target, str) else target)()
    try:
        players = (*env.get_wrapper_attr("experts"), "random", "nobody")
        return [_standing(env, player, episodes, seed) for player in players]
    finally:
        env.close()


def _standing(env: Env, player: str, episodes: int, seed: int) -> Standing:
    facts: list[dict[str, float]] = []
    for episode in range(episodes):
        observation, _ = env.reset(seed=derive_seed(seed, "validate", episode))
        rng = generator(seed, player, episode)
        words: list[str] = []
        for _ in range(_LONGEST):
            step = Step(*env.step(_act(env, player, observation, words, rng)))
            observation = step.observation
            if step.terminated or step.truncated:
                break
        facts.append(env.get_wrapper_attr("measure")())
    score, success, turns = (
        sum(float(each[key]) for each in facts) / episodes for key in ("score", "success", "turns")
    )
    return Standing(player, episodes, score, success, turns)


def _act(
    env: Env, player: str, observation: Observation, words: list[str], rng: random.Random
) -> Action:
    """The player's next action; `words` collects what has been shown so far."""
    tools = env.get_wrapper_attr("tools")
    if player == "nobody" or (player == "random" and not tools):
        return Message("assistant")
    if player == "random":
        words += [word.strip(".,?:;") for each in observation for word in each.text.split()]
        return Message("assistant", tool_calls=(random_call(tools, words, rng),))
    return env.get_wrapper_attr("expert")(player, rng)
