"""What a transform promises, checked: no change at the first level, solvable, harder by level."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from foldgym.envs.base import Env
from foldgym.envs.registry import maker
from foldgym.envs.transforms import class_of
from foldgym.envs.transforms.base import Knob
from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.testing.contracts import Finding
from foldgym.types import Json, Observation, Step, Tool

_LONGEST = 400

Player = Callable[[Env, int], bool]
"""Plays the episode of a seed and says whether it succeeded."""


@dataclass(frozen=True, slots=True)
class Bounded:
    """A solver of bounded ability: the world's best expert, who may lose the thread.

    It does so with the chance `per_turn` at every turn, `per_word` for every word it is shown and
    `per_tool` for every tool it is offered, and then says nothing more. The dice of a turn depend
    on nothing but the seed and the turn, so that a harder level fails wherever an easier one does.
    """

    per_turn: float = 0.04
    per_word: float = 0.0004
    per_tool: float = 0.0002

    def __call__(self, env: Env, seed: int) -> bool:
        """Whether the episode is a success."""
        shown, _ = env.reset(seed=seed)
        for turn in range(_LONGEST):
            if generator(seed, "bounded", turn).random() >= self._sure(env, shown):
                break
            step = _advised(env, seed, turn)
            shown = step.observation
            if step.terminated or step.truncated:
                break
        return bool(env.get_wrapper_attr("measure")()["success"])

    def _sure(self, env: Env, shown: Observation) -> float:
        words = sum(len(each.text.split()) for each in shown)
        tools = len(env.get_wrapper_attr("tools"))
        kept = (1 - self.per_word) ** words * (1 - self.per_tool) ** tools
        return (1 - self.per_turn) * kept


def success_by_level(
    use: str,
    world: str,
    seeds: Sequence[int],
    player: Player | None = None,
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> dict[float, float]:
    """The share of episodes that `player` (default `Bounded()`) solves at each level of the knob.

    `kwargs` go to the world, `options` to the transform.
    """
    play = player or Bounded()
    knob: Knob = class_of(use).knob
    found: dict[float, float] = {}
    for level in knob.levels:
        layer = {"use": use, **options, knob.option: level}
        env = maker(world, [layer], **(kwargs or {}))()
        found[level] = sum(play(env, seed) for seed in seeds) / len(seeds)
        env.close()
    return found


def check_transform(
    use: str,
    world: str,
    seeds: Sequence[int] = tuple(range(40)),
    player: Player | None = None,
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> list[Finding]:
    """Every promise that a transform breaks on a world; an empty list means that it keeps them.

    At the first level of its knob it changes nothing, the world's best expert succeeds at every
    level on every seed, and the success of `player` never rises from level to level and falls in
    all (the other way round for a knob that makes things easier).
    """
    findings: list[Finding] = []
    checks = {"identity": _identity, "gold": _gold, "knob": _knob}
    for name, check in checks.items():
        try:
            problems = list(check(use, world, seeds, player, dict(kwargs or {}), options))
        except UserError as problem:
            problems = [f"raised {type(problem).__name__}: {problem}"]
        findings += [Finding(name, problem) for problem in problems]
    return findings


Options = Mapping[str, Any]


def _identity(
    use: str,
    world: str,
    seeds: Sequence[int],
    player: Player | None,
    kwargs: Options,
    more: Options,
) -> Iterator[str]:
    knob: Knob = class_of(use).knob
    bare = maker(world, **kwargs)()
    same = maker(world, [{"use": use, **more, knob.option: knob.levels[0]}], **kwargs)()
    for seed in seeds[:5]:
        if _trace(bare, seed) != _trace(same, seed):
            yield f"seed {seed}: {knob.option} = {knob.levels[0]:g} is not the bare world"


def _gold(
    use: str,
    world: str,
    seeds: Sequence[int],
    player: Player | None,
    kwargs: Options,
    more: Options,
) -> Iterator[str]:
    sure = Bounded(0.0, 0.0, 0.0)
    for level, share in success_by_level(use, world, seeds, sure, kwargs, **more).items():
        if share < 1.0:
            yield f"level {level:g}: the expert solves {share:.0%} of {len(seeds)} seeds"


def _knob(
    use: str,
    world: str,
    seeds: Sequence[int],
    player: Player | None,
    kwargs: Options,
    more: Options,
) -> Iterator[str]:
    knob: Knob = class_of(use).knob
    found = success_by_level(use, world, seeds, player, kwargs, **more)
    told = ", ".join(f"{level:g}: {share:.3f}" for level, share in found.items())
    shares = list(found.values())[knob.since :]
    if knob.effect == "none":
        if len(set(shares)) > 1:
            yield f"success changes ({told})"
        return
    shares = shares[::-1] if knob.effect == "easier" else shares
    if any(later > earlier for earlier, later in pairwise(shares)):
        yield f"success does not move one way ({told})"
    if shares[-1] >= shares[0]:
        yield f"success is the same at both ends ({told})"


def _trace(env: Env, seed: int) -> str:
    """All that an episode says, with random messages and an expert's in turn."""
    said: list[Any] = [env.reset(seed=seed, options={"episode": 3})]
    env.action_space.seed(seed)
    said.append(env.get_wrapper_attr("task"))
    tools: Sequence[Tool] = env.get_wrapper_attr("tools")
    said += [(each.name, each.description, each.parameters, each.concurrent) for each in tools]
    for turn in range(12):
        step = (
            _advised(env, seed, turn)
            if turn % 2 and env.get_wrapper_attr("experts")
            else Step(*env.step(env.action_space.sample()))
        )
        said.append(step)
        if step.terminated or step.truncated:
            break
    facts: dict[str, Json] = env.get_wrapper_attr("measure")()
    return repr([*said, facts])


def _advised(env: Env, seed: int, turn: int) -> Step:
    style = env.get_wrapper_attr("experts")[0]
    action = env.get_wrapper_attr("expert")(style, generator(seed, "expert", turn))
    return Step(*env.step(action))
