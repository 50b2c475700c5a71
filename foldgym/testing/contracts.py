"""What every environment promises, checked: run it on yours before you train on it."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from gymnasium.envs.registration import EnvSpec as GymnasiumSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env as gymnasium_check_env

from foldgym.envs.base import Env
from foldgym.envs.registry import maker, register_with_gymnasium
from foldgym.errors import UserError
from foldgym.seeding import derive_seed, generator
from foldgym.testing.fuzz import fuzz_messages
from foldgym.tools import format_call, parse_action, random_call
from foldgym.types import Action, Evidence, Message, Step

__all__ = ["Finding", "check_env", "fuzz_messages"]

_LONGEST = 200
"""Steps after which a checked episode is left alone."""


@dataclass(frozen=True, slots=True)
class Finding:
    """`Finding("measure", "no 'success' among its keys")`: a promise that was broken."""

    check: str
    problem: str

    def __str__(self) -> str:
        return f"{self.check}: {self.problem}"


Make = Callable[[], Env]


def check_env(
    target: str | Make, seeds: Sequence[int] = (0, 1, 2), hostile: int = 300
) -> list[Finding]:
    """Every promise that an environment breaks; an empty list means that it keeps them all.

    `target` is a name, `"path/to/file.py:Class"` or a function that makes the environment.
    Gymnasium's own checker runs too, and each of its warnings is a finding. `hostile` is the number
    of hostile messages sent. What the environment raises becomes a finding; only an environment
    that cannot be named (`UserError`) is an exception.
    """
    make = maker(target) if isinstance(target, str) else target
    make().close()  # a UserError here is the caller's
    findings: list[Finding] = []
    for name, check in _CHECKS.items():
        for seed in seeds if name in _PER_SEED else seeds[:1]:
            made: list[Env] = []
            try:
                problems = list(check(lambda made=made: _kept(make(), made), seed, hostile))
            except Exception as problem:
                said = " ".join(str(problem).split())
                problems = [f"raised {type(problem).__name__}: {said[:300]}"]
            for env in made:  # a check that found something may have left its box or page open
                with suppress(Exception):
                    env.close()
            for problem in problems:
                finding = Finding(name, problem)
                if finding not in findings:
                    findings.append(finding)
    return findings


def _kept(env: Env, made: list[Env]) -> Env:
    made.append(env)
    return env


# ---------------------------------------------------------------- the promises


def _gymnasium(make: Make, seed: int, hostile: int) -> Iterator[str]:
    """Gymnasium's checker, as if the environment came from `gymnasium.make`."""
    register_with_gymnasium()

    def build(render_mode: str | None = None, **kwargs: Any) -> Any:
        env: Any = make().unwrapped
        env.render_mode = render_mode
        return env

    spec = GymnasiumSpec("foldgym/Checked-v0", entry_point=build)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = spec.make().unwrapped
        gymnasium_check_env(env)
        env.close()
    for warning in caught:
        yield re.sub(r"\x1b\[\d+m", "", str(warning.message)).removeprefix("WARN: ")


def _determinism(make: Make, seed: int, hostile: int) -> Iterator[str]:
    first, second = (_trace(make, seed) for _ in range(2))
    for turn, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            yield f"seed {seed}: turn {turn} differs between two runs: {left!r:.200} {right!r:.200}"
            return
    if len(first) != len(second):
        yield f"seed {seed}: {len(first)} turns in one run, {len(second)} in the other"


def _trace(make: Make, seed: int) -> list[Any]:
    env = make()
    _began(env, seed)
    env.action_space.seed(seed)
    trace: list[Any] = [_attribute(env, "task"), _attribute(env, "tools")]
    trace += _play(env, (env.action_space.sample() for _ in range(_LONGEST)))
    trace.append(_attribute(env, "measure")())
    env.close()
    return trace


def _observations(make: Make, seed: int, hostile: int) -> Iterator[str]:
    env = make()
    observation, _ = env.reset(seed=seed)
    if observation != _attribute(env, "task").prompt:
        yield "the first observation is not task.prompt"
    if not observation:
        yield "reset returned no message"
    env.action_space.seed(seed)
    for _ in range(20):
        action = env.action_space.sample()
        step = _step(env, action)
        if step.observation not in env.observation_space or not step.observation:
            yield f"step returned {step.observation!r:.100}, not a tuple of messages"
        if not math.isfinite(float(step.reward)):
            yield f"step returned the reward {step.reward!r}"
        if isinstance(action, Message):
            answered = [each.tool_call_id for each in step.observation if each.role == "tool"]
            asked = [each.id for each in action.tool_calls]
            if asked and answered != asked:
                yield f"tool calls {asked} were answered by {answered}"
        if step.terminated or step.truncated:
            break
    env.close()


def _tools(make: Make, seed: int, hostile: int) -> Iterator[str]:
    env = make()
    _began(env, seed)
    tools = _attribute(env, "tools")
    names = [each.name for each in tools]
    if len(set(names)) < len(names):
        yield f"two tools have one name among {names}"
    rng = generator(seed, "tools")
    for each in tools:
        schema = each.parameters
        json.dumps(schema)
        if not re.fullmatch(r"[A-Za-z_][\w-]{0,63}", each.name, re.ASCII):
            yield f"tool name {each.name!r} must be letters, digits, _ or -, at most 64"
        if not each.description.strip():
            yield f"tool {each.name} has no description"
        if schema.get("type") != "object" or not isinstance(schema.get("properties", {}), dict):
            yield f"parameters of tool {each.name} are not the schema of an object"
            continue
        missing = set(schema.get("required", ())) - set(schema.get("properties", {}))
        if missing:
            yield f"tool {each.name} requires {sorted(missing)}, which it does not describe"
        call = random_call([each], (), rng)
        text = format_call(call, tools)
        if [read.name for read in parse_action(text, tools).message.tool_calls] != [each.name]:
            yield f"a call of {each.name} is not read back from {text!r:.100}"
    env.close()


def _hostile(make: Make, seed: int, hostile: int) -> Iterator[str]:
    env = make()
    _began(env, seed)
    for index, action in enumerate(fuzz_messages(seed, hostile, _attribute(env, "tools"))):
        try:
            step = _step(env, action)
        except Exception as problem:
            what = f"{type(problem).__name__}: {problem!s:.200}"
            yield f"raised {what} on the message {action!r:.200}"
            return
        if not step.observation or step.observation not in env.observation_space:
            yield f"no observation answers the message {action!r:.200}"
        for message in step.observation:
            message.text.encode()  # text that no UTF-8 file could hold raises
        if step.terminated or step.truncated:
            _began(env, derive_seed(seed, index))
    env.close()


def _measure(make: Make, seed: int, hostile: int) -> Iterator[str]:
    env = make()
    _began(env, seed)
    env.action_space.seed(seed)
    turns, over = 0, False
    while True:
        facts = _attribute(env, "measure")()
        for key, kind in (("score", float), ("success", bool), ("turns", int)):
            if not isinstance(facts.get(key), kind):
                yield f"{key!r} must be a {kind.__name__}, not {facts.get(key)!r}"
        if facts.get("turns") != turns:
            yield f"'turns' is {facts.get('turns')!r} after {turns} turns"
        if not math.isfinite(float(facts.get("score", 0.0))):
            yield f"'score' is {facts['score']!r}"
        json.dumps(facts)
        if over or turns == _LONGEST:
            break
        step = _step(env, env.action_space.sample())
        over, turns = bool(step.terminated or step.truncated), turns + 1
    env.close()


def _ending(make: Make, seed: int, hostile: int) -> Iterator[str]:
    env = make()
    _began(env, seed)
    env.action_space.seed(seed)
    over, rng = False, generator(seed, "ending")
    for _ in range(_LONGEST):
        experts = _attribute(env, "experts")  # they come to an end sooner than chance does
        action = (
            _attribute(env, "expert")(experts[0], rng) if experts else env.action_space.sample()
        )
        step = _step(env, action)
        over = bool(step.terminated or step.truncated)
        if over:
            break
    action = env.action_space.sample()
    if over:
        try:
            env.step(action)
            yield "step after the end of an episode must raise gymnasium.error.ResetNeeded"
        except ResetNeeded:
            pass
    _began(env, seed)
    env.step(action)
    _began(env, seed)  # in the middle of an episode
    env.close()
    env.close()


def _experts(make: Make, seed: int, hostile: int) -> Iterator[str]:
    env = make()
    for style in _attribute(env, "experts"):
        _began(env, seed)
        for turn in range(_LONGEST):
            rng = generator(derive_seed(seed, style, turn), "expert")
            before = _attribute(env, "measure")()
            action = _attribute(env, "expert")(style, rng)
            if before != _attribute(env, "measure")():
                yield f"asking expert {style!r} changed what is measured"
            if action not in env.action_space:
                yield f"expert {style!r} said {action!r:.100}, not text or an assistant Message"
                break
            step = _step(env, action)
            said = [each.text for each in step.observation if each.text.startswith("error:")]
            if said and not step.info.get("faults"):  # else the world says that they are its own
                yield f"expert {style!r} was told {said[0]!r:.200}"
                break
            if step.terminated or step.truncated:
                break
        else:
            yield f"expert {style!r} came to no end in {_LONGEST} turns"
    env.close()


def _evidence(make: Make, seed: int, hostile: int) -> Iterator[str]:
    env = make()
    _began(env, seed)
    env.action_space.seed(seed)
    for _ in range(20):
        before = _attribute(env, "measure")()
        for each in _attribute(env, "evidence")():
            if not isinstance(each, Evidence) or not each.text.strip():
                yield f"{each!r:.200} is no Evidence with a text"
            elif bool(each.question) != bool(each.answer):
                yield f"a question needs an answer, and an answer a question: {each!r:.200}"
        if before != _attribute(env, "measure")():
            yield "asking for evidence changed what is measured"
        step = _step(env, env.action_space.sample())
        if step.terminated or step.truncated:
            break
    env.close()


def _forks(make: Make, seed: int, hostile: int) -> Iterator[str]:
    env = make()
    _began(env, seed)
    if not env.has_wrapper_attr("snapshot"):
        return
    env.action_space.seed(seed)
    actions = [env.action_space.sample() for _ in range(12)]
    steps = _play(env, actions[:3])
    if steps[-1].terminated or steps[-1].truncated:
        _began(env, seed)
    try:
        snapshot = _attribute(env, "snapshot")()
    except UserError:
        return  # it says that it cannot be forked
    runs: list[list[Any]] = []
    for _ in range(3):
        _attribute(env, "restore")(snapshot)
        runs.append([*_play(env, actions[3:]), _attribute(env, "measure")()])
    if not runs[0] == runs[1] == runs[2]:
        yield "an episode restored from a snapshot went on differently"
    env.close()


_CHECKS: dict[str, Callable[[Make, int, int], Iterator[str]]] = {
    "gymnasium": _gymnasium,
    "determinism": _determinism,
    "observations": _observations,
    "tools": _tools,
    "hostile messages": _hostile,
    "measure": _measure,
    "ending": _ending,
    "experts": _experts,
    "evidence": _evidence,
    "snapshots": _forks,
}
_PER_SEED = frozenset(
    ("determinism", "observations", "measure", "experts", "evidence", "snapshots")
)


def _attribute(env: Env, name: str) -> Any:
    return env.get_wrapper_attr(name)


def _began(env: Env, seed: int) -> None:
    env.reset(seed=seed)


def _step(env: Env, action: Action) -> Step:
    return Step(*env.step(action))  # a Gymnasium wrapper returns a plain tuple


def _play(env: Env, actions: Iterable[Action]) -> list[Step]:
    steps: list[Step] = []
    for action in actions:
        steps.append(_step(env, action))
        if steps[-1].terminated or steps[-1].truncated:
            break
    return steps
