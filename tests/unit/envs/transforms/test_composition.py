"""Transforms by name: in Python, in run files, on the command line, in other processes."""

from __future__ import annotations

import asyncio
import json
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import foldgym
from foldgym.cli.main import main
from foldgym.envs.registry import make, maker, register_with_gymnasium
from foldgym.envs.transforms import TRANSFORMS, class_of
from foldgym.envs.transforms.base import Knob, Transform
from foldgym.envs.worker import open_worker
from foldgym.errors import ConfigError, UnknownName, UserError
from foldgym.seeding import generator
from foldgym.types import Message

FICTIONAL = "foldgym/FictionalSearch-v0"
STACK: list[Any] = [{"use": "objectives", "k": 2}, "faults"]

SHOUT = '''
from foldgym.envs.wrappers import Wrapper

class Shout(Wrapper):
    """Says what the world says, `times` times."""

    def __init__(self, env, times: int = 2):
        if times > 9:
            raise ValueError("nobody can shout that often")
        super().__init__(env, times=times)
        self.times = times

    def step(self, action):
        observation, *rest = self.env.step(action)
        return (observation * self.times, *rest)

number = 3
'''


def test_the_first_transform_stands_nearest_to_the_world() -> None:
    env: Any = make(FICTIONAL, transforms=STACK)
    assert [type(env).__name__, type(env.env).__name__] == ["Faults", "Objectives"]
    assert (env.p, env.env.k if hasattr(env.env, "k") else env.env.count) == (0.1, 2)


def test_every_name_is_a_transform_with_a_sound_knob() -> None:
    for name in TRANSFORMS:
        made = class_of(name)
        assert issubclass(made, Transform)
        knob: Knob = made.knob
        assert knob.claim
        assert list(knob.levels) in (sorted(knob.levels), sorted(knob.levels, reverse=True))
        for level in knob.levels:
            knob.check(level)
        with pytest.raises(UserError, match=f"{knob.option} must be from"):
            knob.check(knob.most + 1)


def test_gymnasium_makes_them_too() -> None:
    register_with_gymnasium()
    env = gymnasium.make(FICTIONAL, transforms=[{"use": "objectives", "k": 2}])
    observation, _ = env.reset(seed=1)
    ours, _ = make(FICTIONAL, transforms=[{"use": "objectives", "k": 2}]).reset(seed=1)
    assert observation == ours
    vector = gymnasium.make_vec(FICTIONAL, num_envs=2, transforms=["canary"])
    vector.close()


@pytest.mark.parametrize(
    ("transforms", "kind", "said"),
    [
        (["objektives"], UnknownName, "did you mean 'objectives'"),
        ([{"use": "objectives", "q": 3}], ConfigError, "transforms.0.q: unknown option"),
        ([{"use": "objectives", "k": "3"}], ConfigError, "transforms.0.k: '3' is not allowed"),
        ([{"k": 3}], ConfigError, "transforms.0.use: is required"),
        (["faults", 7], ConfigError, "transforms.1: 7 is no name"),
        ("faults", ConfigError, "must stand in a list"),
        ({"use": "faults"}, ConfigError, "must stand in a list"),
        ([{"use": "objectives", "env": 3}], ConfigError, "transforms.0.env: unknown option"),
        (["math:pi"], ConfigError, "not a class that wraps an environment"),
    ],
)
def test_mistakes_are_one_sentence(transforms: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        make(FICTIONAL, transforms=transforms)


def test_an_own_wrapper_by_its_file(tmp_path: Path) -> None:
    file = tmp_path / "shout.py"
    file.write_text(SHOUT)
    make_it = maker(FICTIONAL, [{"use": f"{file}:Shout", "times": 3}, "canary"])
    env = pickle.loads(pickle.dumps(make_it))()
    env.reset(seed=0)
    assert len(env.step("search home").observation) == 3
    louder = replace(make_it, kwargs={"Shout.times": 4})()
    louder.reset(seed=0)
    assert len(louder.step("search home").observation) == 4
    with pytest.raises(UserError, match="transform Shout: nobody can shout that often"):
        make(FICTIONAL, transforms=[{"use": f"{file}:Shout", "times": 10}])
    with pytest.raises(ConfigError, match="number' is 3, not a class"):
        make(FICTIONAL, transforms=[f"{file}:number"])


def test_a_keyword_with_a_dot_sets_a_transforms_option() -> None:
    """So a curriculum turns the knob of a transform as it does the world's own."""
    base = maker(FICTIONAL, STACK, hops=1)
    harder: Any = replace(base, kwargs={**base.kwargs, "objectives.k": 3, "hops": 2})()
    assert harder.env.count == 3
    assert harder.unwrapped.mix == (0.0, 1.0)
    with pytest.raises(UnknownName, match=r"unknown transform of .* 'chain'"):
        replace(base, kwargs={"chain.n": 3})()
    with pytest.raises(ConfigError, match=r"objectives\.j: unknown option"):
        replace(base, kwargs={"objectives.j": 3})()
    with pytest.raises(UnknownName, match="unknown transform"):
        make(FICTIONAL, **{"objectives.k": 3})


def test_limits_on_turns_grow_with_the_transforms() -> None:
    assert maker(FICTIONAL).turns(32) == 12
    assert maker(FICTIONAL, [{"use": "objectives", "k": 3}]).turns(32) == 36
    assert maker(FICTIONAL, [{"use": "objectives", "k": 1}]).turns(32) == 12
    assert maker("foldgym/RunningSum-v0", [{"use": "chain", "n": 1}]).turns(32) == 32
    stacked = [{"use": "objectives", "k": 2}, {"use": "faults", "p": 0.5}]
    assert maker(FICTIONAL, stacked).turns(32) == 24 + 2 * 24 + 1


def test_experts_write_notes_only_about_the_task_that_is_played() -> None:
    for use, styles in (("faults", ("fold",)), ("objectives", ()), ("chain", ()), ("masks", ())):
        env: Any = make(FICTIONAL, transforms=[use])
        assert env.note_styles == styles
    assert make(FICTIONAL, transforms=[{"use": "masks", "k": 0}]).note_styles == ("fold",)


# ---------------------------------------------------------------- workers and processes


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_workers_play_them(isolation: Any) -> None:
    async def play() -> tuple[Any, ...]:
        handle = open_worker(maker(FICTIONAL, [*STACK, "toolset"]), isolation, 60.0)
        try:
            opening = await handle.reset(5, {"episode": 1})
            seen: list[Any] = [opening.task, opening.tools]
            for turn in range(60):
                action = await handle.expert("optimal", turn)
                assert isinstance(action, Message)
                step = await handle.step(action)
                seen.append(step)
                if step.terminated:
                    break
            return (*seen, await handle.measure(), await handle.evidence())
        finally:
            await handle.close()

    played = asyncio.run(play())
    assert played[-2]["success"]
    inline: Any = maker(FICTIONAL, [*STACK, "toolset"])()
    inline.reset(seed=5, options={"episode": 1})
    assert played[0] == inline.task
    for turn, step in enumerate(played[2:-2]):
        assert step == inline.step(inline.expert("optimal", generator(turn, "expert")))
    assert played[-2] == inline.measure()


TRACE = """
import hashlib
from foldgym.envs.registry import make
from foldgym.seeding import generator

WORLD = "foldgym/FictionalSearch-v0"
for use, options in {
    "objectives": {"k": 3}, "chain": {"n": 3}, "prefill": {"fraction": 0.5}, "masks": {"k": 3},
    "interrupt": {"mode": "update"}, "distractors": {"source": "world"}, "faults": {"p": 0.5},
    "toolset": {"n": 200}, "canary": {},
}.items():
    env = make(WORLD, transforms=[{"use": use, **options}])
    seen = hashlib.blake2b()
    for seed in range(3):
        seen.update(repr(env.reset(seed=seed, options={"episode": 1})).encode())
        seen.update(repr((env.task, [(t.name, t.parameters) for t in env.tools])).encode())
        env.action_space.seed(seed)
        for turn in range(10):
            said = env.action_space.sample()
            step = env.step(env.expert("hasty", generator(seed, turn)) if turn % 2 else said)
            seen.update(repr(step).encode())
            if step.terminated or step.truncated:
                break
        seen.update(repr((env.measure(), env.evidence())).encode())
    print(use, seen.hexdigest())
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
    assert [line.split()[0] for line in lines.splitlines()] == list(TRANSFORMS)


# ---------------------------------------------------------------- the command line


def said_by(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    assert main([*words, "--json"]) == code, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def test_eval_with_transforms(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["eval", "--policy", "expert:optimal", "--env", FICTIONAL, "--episodes", "4"]
    stack = ["--transform", "objectives", "k=3", "--transform", "faults", "p=0.3", "sticky=2"]
    (found,) = said_by(capsys, *words, *stack)["envs"].values()
    assert found["success"]["mean"] == 1.0
    assert found["turns"]["mean"] > 4


def test_envs_with_transforms(capsys: pytest.CaptureFixture[str]) -> None:
    chain = ["--transform", "chain", "n=3"]
    sheet = said_by(capsys, "envs", "show", FICTIONAL, *chain)
    assert sheet["max_turns"] == 36
    assert sheet["prompt"][0]["content"].startswith("3 questions.")
    assert said_by(capsys, "envs", "check", FICTIONAL, *chain) == {FICTIONAL: []}
    words = ["envs", "validate", FICTIONAL, *chain, "--episodes", "4"]
    best = said_by(capsys, *words)[FICTIONAL]["players"][0]
    assert (best["player"], best["success"]) == ("optimal", 1.0)
    played = said_by(capsys, "envs", "play", FICTIONAL, *chain, "--policy", "expert:optimal")
    assert played["facts"]["all"]
    table = said_by(capsys, "envs", "transforms")
    assert list(table) == list(TRANSFORMS)
    assert table["faults"]["knob"]["option"] == "p"
    assert table["canary"]["trains"] is False
    assert main(["envs", "transforms"]) == 0
    assert "calls have to be repeated" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--transform", "objectives", "k"], "--transform objectives 'k': write it as key=value"),
        (["--transform", "objectives", "k=99"], "k must be from 1 to 64, not 99"),
        (["--transform", "objectivs"], "did you mean 'objectives'"),
        (["--set", "transforms=5"], "must stand in a list"),
        (["--set", "faults.p=5"], "write it as key=value"),
    ],
)
def test_wrong_words_are_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (
        ["eval", "--policy", "random", "--env", FICTIONAL],
        ["envs", "show", FICTIONAL],
        ["envs", "validate", FICTIONAL],
        ["envs", "play", FICTIONAL, "--policy", "random"],
    ):
        assert main([*command, *words]) == 2
        captured = capsys.readouterr().err.strip().splitlines()
        assert captured[-1].startswith("error: ")
        assert said in captured[-1]


def test_the_package_stays_light() -> None:
    """Neither the registry nor the names of transforms import gymnasium or pydantic."""
    code = (
        "import sys, foldgym.envs.transforms; print({'gymnasium', 'pydantic'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
    assert foldgym.__name__ == "foldgym"
