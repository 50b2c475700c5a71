"""How hard is an environment? The scores of its experts, of a random player and of nobody.

And whether it repeats itself: the same seeds in a new process with another PYTHONHASHSEED.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from foldgym.envs.base import Env
from foldgym.envs.registry import Maker, maker
from foldgym.errors import UserError
from foldgym.seeding import derive_seed, generator
from foldgym.tools import random_call
from foldgym.types import Action, Message, Observation, Step

_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """`Standing("optimal", 100, 1.0, 1.0, 5.4)`: means over the episodes of one player.

    `digest` is a hash of all that was shown, paid and measured in the first few of them.
    """

    player: str
    episodes: int
    score: float
    success: float
    turns: float
    digest: str = field(default="", compare=False)


def validate(
    target: str | Callable[[], Env], episodes: int = 50, seed: int = 0, digested: int = 0
) -> list[Standing]:
    """Let each expert style, a random player and a silent one play the same episodes.

    An environment worth training on gives its optimal expert 1 and the other two about 0. Episodes
    without an end are stopped, and measured, after 200 turns. The first `digested` are hashed.
    """
    env = (maker(target) if isinstance(target, str) else target)()
    try:
        players = (*env.get_wrapper_attr("experts"), "random", "nobody")
        return [_standing(env, player, episodes, seed, digested) for player in players]
    finally:
        env.close()


def _standing(env: Env, player: str, episodes: int, seed: int, digested: int) -> Standing:
    facts: list[dict[str, float]] = []
    digest = blake2b(digest_size=16)

    def show(*seen: object) -> None:
        if episode < digested:
            digest.update(repr(seen).encode("utf-8", "surrogatepass"))

    for episode in range(episodes):
        observation, _ = env.reset(seed=derive_seed(seed, "validate", episode))
        tools = [replace(each, run=None) for each in env.get_wrapper_attr("tools")]
        show(env.get_wrapper_attr("task"), tools, observation)
        rng = generator(seed, player, episode)
        words: list[str] = []
        for _ in range(_LONGEST):
            step = Step(*env.step(_act(env, player, observation, words, rng)))
            observation = step.observation
            show(step)
            if step.terminated or step.truncated:
                break
        facts.append(env.get_wrapper_attr("measure")())
        show(facts[-1])
    score, success, turns = (
        sum(float(each[key]) for each in facts) / episodes for key in ("score", "success", "turns")
    )
    return Standing(player, episodes, score, success, turns, digest.hexdigest() if digested else "")


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


# ---------------------------------------------------------------- in a new process

_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from foldgym.testing.validate import answer; answer()"
)


def digests_elsewhere(
    makers: Mapping[str, Maker], episodes: int, seed: int = 0
) -> dict[str, list[str]]:
    """Digests of `episodes` of every player, by name, from a new process with another hash seed.

    Raises `UserError` when that process fails, with its last words.
    """
    other = "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"
    paths = json.dumps([path or os.getcwd() for path in sys.path])
    try:
        order = pickle.dumps((dict(makers), episodes, seed))
    except Exception as problem:
        raise UserError(
            f"only environments that can be named play again in a new process: {problem}"
        ) from None
    done = subprocess.run(
        [sys.executable, "-c", _START, paths],
        input=order,
        capture_output=True,
        env={**os.environ, "PYTHONHASHSEED": other},
        check=False,
    )
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"the process that plays the episodes again failed: {' '.join(last)}")
    return json.loads(done.stdout)


def answer() -> None:
    """The other process: makers on stdin, digests on stdout, whatever environments print."""
    result = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    makers, episodes, seed = pickle.loads(sys.stdin.buffer.read())
    found = {
        name: [each.digest for each in validate(make, episodes, seed, episodes)]
        for name, make in makers.items()
    }
    with result:
        json.dump(found, result)
