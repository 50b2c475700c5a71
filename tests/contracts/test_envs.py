"""Every registered environment keeps every promise, and the checks notice those that do not."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env

from foldgym import Message, ToolEnv, tool
from foldgym.envs.registry import make, register_with_gymnasium, specs
from foldgym.testing.contracts import Finding, check_env, fuzz_messages
from foldgym.types import Step, Tool

NAMES = [each.name for each in specs(ready=True)]
SLOW = {each.name for each in specs() if each.sandbox or each.extra == "browser"}
HOSTILE = 20_000


@pytest.mark.parametrize("name", NAMES)
def test_gymnasiums_checker_has_nothing_to_say(name: str) -> None:
    register_with_gymnasium()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make(name)
        gymnasium_check_env(env.unwrapped)
        env.reset(seed=0)
        env.close()


@pytest.mark.parametrize("name", NAMES)
def test_promises_are_kept(name: str) -> None:
    assert check_env(name, hostile=60 if name in SLOW else 300) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.slow
def test_hostile_messages(name: str) -> None:
    """20,000 of them, 300 where each takes a box, a page or a picture: each becomes an observation
    that can be written as UTF-8. Episodes are of 60 tasks, whose worlds stay in their caches.
    """
    count = 300 if name in SLOW else HOSTILE
    env = make(name)
    env.reset(seed=0)
    answered = episodes = 0
    for action in fuzz_messages(1, count, env.tools):
        step = env.step(action)
        assert step.observation
        assert step.observation in env.observation_space
        for message in step.observation:
            message.text.encode()
            answered += 1
        if step.terminated or step.truncated:
            env.measure()
            episodes += 1
            env.reset(seed=episodes % 60)
    env.close()
    assert answered >= count
    assert episodes > count / 100


TRACE = """
import hashlib, sys
from foldgym.envs.registry import make, specs
from foldgym.seeding import generator

for spec in specs(ready=True):
    env = make(spec.name)
    seen = hashlib.blake2b()
    for seed in range(2):
        observation, info = env.reset(seed=seed, options={"episode": 1})
        env.action_space.seed(seed)
        for turn in range(8):
            seen.update(repr((observation, info, env.task)).encode())
            observation, *rest, info = env.step(
                env.expert(env.experts[-1], generator(seed, turn)) if env.experts and turn < 3
                else env.action_space.sample()
            )
            if rest[1] or rest[2]:
                break
        seen.update(repr(env.measure()).encode())
    print(spec.name, seen.hexdigest())
"""


def test_the_same_episodes_in_every_process() -> None:
    said = {
        subprocess.run(
            [sys.executable, "-c", TRACE],
            capture_output=True,
            check=True,
            text=True,
            timeout=120,
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for hash_seed in ("1", "2")
    }
    (lines,) = said
    assert [line.split()[0] for line in lines.splitlines()] == NAMES


class TestFuzz:
    def test_is_seeded(self) -> None:
        tools = make("foldgym/KeyDoor-v0").tools
        assert list(fuzz_messages(1, 200, tools)) == list(fuzz_messages(1, 200, tools))
        assert list(fuzz_messages(1, 200, tools)) != list(fuzz_messages(2, 200, tools))

    def test_has_every_kind(self) -> None:
        said = [str(each) for each in fuzz_messages(0, 3000, make("foldgym/KeyDoor-v0").tools)]
        for sign in ("<|im_start|>", "\\ud800", "{" * 1000, '"name"', "__init__"):
            assert any(sign in each or sign in repr(each) for each in said), sign[:20]
        assert max(len(each) for each in said) >= 100_000


# ---------------------------------------------------------------- the checks bite


class Sound(ToolEnv):
    """Keeps every promise; those below break one each."""

    experts: tuple[str, ...] = ("optimal",)
    count = 0

    def setup(self, rng: Any) -> str:
        self.number = rng.randint(1, 9)
        return f"Say {self.number}."

    @tool
    def say(self, number: int) -> str:
        """Say a number."""
        if number == self.number:
            self.finish(1.0)
        return "heard"

    def expert(self, style: str, rng: Any) -> Message:
        return Message("assistant", tool_calls=self._calls(self.number))

    def _calls(self, number: int) -> Any:
        from foldgym.tools import call

        return call("say", number=number).tool_calls


class Warned(Sound):
    metadata = {"render_modes": ["ansi"]}  # noqa: RUF012  # no render_fps


class Clocked(Sound):
    def setup(self, rng: Any) -> str:
        super().setup(rng)
        return f"It is {time.perf_counter_ns()}."


class Remembering(Sound):
    def step(self, action: Any) -> Step:
        step = super().step(action)
        return step._replace(observation=list(step.observation))  # type: ignore[arg-type]


class Fragile(Sound):
    def step(self, action: Any) -> Step:
        if "<|end|>" in str(action):
            raise KeyError("<|end|>")
        return super().step(action)


class Shapeless(Sound):
    @property
    def tools(self) -> tuple[Tool, ...]:
        return (Tool("do it", "", {"type": "object", "required": ["x"]}),)


class Uncounted(Sound):
    def measure(self) -> dict[str, Any]:
        return {"score": float("nan"), "success": 1, "turns": 0}


class Endless(Sound):
    def _playing(self) -> Any:
        return self._started()


class Clumsy(Sound):
    def expert(self, style: str, rng: Any) -> Message:
        return Message("assistant", tool_calls=self._calls("x"))  # type: ignore[arg-type]


class Slow(Sound):
    def expert(self, style: str, rng: Any) -> Message:
        return Message("assistant", tool_calls=self._calls(0))


class Forgetful(Sound):
    shared = ("number",)

    @tool
    def change(self) -> str:
        """Change the number."""
        self.number = self.number % 9 + 1
        return str(self.number)


class Unclosable(Sound):
    closed = False

    def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed twice")
        self.closed = True


class Unaskable(Sound):
    def expert(self, style: str, rng: Any) -> Message:
        self.step("hm")
        return super().expert(style, rng)


class Mute(Sound):
    def step(self, action: Any) -> Step:
        return super().step(action)._replace(observation=())


@pytest.mark.parametrize(
    ("world", "check", "said"),
    [
        (Warned, "gymnasium", "No render fps"),
        (Clocked, "determinism", "turn 0 differs"),
        (Remembering, "observations", "not a tuple of messages"),
        (Mute, "observations", "not a tuple of messages"),
        (Mute, "hostile messages", "no observation answers"),
        (Fragile, "hostile messages", "raised KeyError"),
        (Shapeless, "tools", "requires ['x'], which it does not describe"),
        (Shapeless, "tools", "has no description"),
        (Shapeless, "tools", "tool name 'do it' must be"),
        (Uncounted, "measure", "'success' must be a bool, not 1"),
        (Uncounted, "measure", "'turns' is 0 after 1 turns"),
        (Uncounted, "measure", "'score' is nan"),
        (Endless, "ending", "must raise gymnasium.error.ResetNeeded"),
        (Unclosable, "ending", "raised RuntimeError: closed twice"),
        (Clumsy, "experts", "was told 'error: say: number: input should be"),
        (Slow, "experts", "came to no end in 200 turns"),
        (Unaskable, "experts", "changed what is measured"),
        (Forgetful, "snapshots", "went on differently"),
    ],
)
def test_each_broken_promise_is_found(world: Callable[[], ToolEnv], check: str, said: str) -> None:
    findings = check_env(world, seeds=range(4), hostile=200)
    assert any(each.check == check and said in each.problem for each in findings), findings


class Costly(Fragile):
    open = 0

    def reset(self, **options: Any) -> Any:
        type(self).open += self.count == 0
        self.count = 1
        return super().reset(**options)

    def close(self) -> None:
        type(self).open -= self.count
        self.count = 0


def test_what_a_check_left_open_is_closed() -> None:
    assert any("raised KeyError" in each.problem for each in check_env(Costly))
    assert Costly.open == 0


def test_a_sound_world_has_no_findings() -> None:
    assert check_env(Sound) == []
    assert str(Finding("measure", "no score")) == "measure: no score"
