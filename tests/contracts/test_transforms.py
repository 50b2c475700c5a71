"""Every transform keeps its promises, and every world inside one keeps its own."""

from __future__ import annotations

from typing import Any

import pytest

from foldgym.envs.registry import maker
from foldgym.envs.transforms import TRANSFORMS
from foldgym.seeding import generator
from foldgym.testing.contracts import check_env
from foldgym.testing.transforms import Bounded, check_transform

FICTIONAL, ARITHMETIC = "foldgym/FictionalSearch-v0", "foldgym/Arithmetic-v0"
KEYS, SUM, GUESS = "foldgym/KeyDoor-v0", "foldgym/RunningSum-v0", "foldgym/GuessNumber-v0"
EACH = {"form": "each"}


def reader(env: Any, seed: int) -> bool:
    """Plays well, and once interrupted answers with what it has read last."""
    env.reset(seed=seed)
    while True:
        stopped = not env.off and env.now.come
        style = "hasty:1.0" if stopped else "optimal"
        step = env.step(env.expert(style, generator(seed)))
        if step.terminated or step.truncated:
            return bool(env.measure()["success"])


SURE = Bounded(0, 0, 0)
CASES: list[tuple[str, str, dict[str, Any], Any]] = [
    ("objectives", FICTIONAL, {}, None),
    ("objectives", ARITHMETIC, EACH, None),
    ("objectives", KEYS, EACH, None),
    ("chain", FICTIONAL, {}, None),
    ("chain", ARITHMETIC, {}, None),
    ("chain", FICTIONAL, EACH, None),
    ("prefill", FICTIONAL, {}, None),
    ("prefill", SUM, {}, None),
    ("prefill", KEYS, {}, None),
    ("masks", FICTIONAL, {}, None),
    ("interrupt", FICTIONAL, {}, reader),
    ("distractors", FICTIONAL, {"source": "world"}, None),
    ("distractors", KEYS, {"place": "before"}, None),
    ("distractors", SUM, {}, None),
    ("faults", FICTIONAL, {"sticky": 3}, Bounded(per_turn=0.1)),
    ("faults", KEYS, {"kinds": ["timeout"]}, Bounded(per_turn=0.1)),
    ("faults", SUM, {}, Bounded(per_turn=0.1)),
    ("toolset", FICTIONAL, {}, None),
    ("toolset", KEYS, {}, None),
    ("toolset", ARITHMETIC, {}, None),
    ("canary", FICTIONAL, {}, Bounded(per_tool=0)),
    ("canary", KEYS, {}, Bounded(per_tool=0)),
    ("canary", SUM, {}, Bounded(per_tool=0)),
]
IDS = [f"{use}-{world.partition('/')[2]}-{len(options)}" for use, world, options, _ in CASES]


@pytest.mark.parametrize(("use", "world", "options", "player"), CASES, ids=IDS)
def test_promises_of_transforms(use: str, world: str, options: Any, player: Any) -> None:
    most = 8 if use == "objectives" else 24  # objectives go up to 16 tasks an episode
    assert check_transform(use, world, range(most), player, **options) == []


def test_every_transform_is_checked() -> None:
    assert {use for use, *_ in CASES} == set(TRANSFORMS)


WORLDS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "objectives": [(FICTIONAL, {"k": 3}), (KEYS, {"k": 2, **EACH}), (SUM, {"k": 2, **EACH})],
    "chain": [(FICTIONAL, {"n": 3}), (ARITHMETIC, {"n": 3}), (FICTIONAL, {"n": 3, **EACH})],
    "prefill": [(FICTIONAL, {"left": 2}), (KEYS, {"fraction": 0.5}), (SUM, {"fraction": 0.2})],
    "masks": [
        (FICTIONAL, {"k": 3}),
        (FICTIONAL, {"k": 4, "score": "f1"}),
        ("foldgym/PyDocsSearch-v0", {"k": 1}),
    ],
    "interrupt": [
        (FICTIONAL, {"mode": "update"}),
        (ARITHMETIC, {"fraction": 0.0}),
        (GUESS, {"mode": "soft", "fraction": 0.3}),
    ],
    "distractors": [(FICTIONAL, {"source": "world"}), (KEYS, {"place": "before"}), (SUM, {})],
    "faults": [(FICTIONAL, {"p": 0.5}), (KEYS, {"p": 0.3, "sticky": 3}), (SUM, {"p": 0.4})],
    "toolset": [(FICTIONAL, {"n": 30, "hidden": True}), (KEYS, {"n": 40}), (SUM, {"n": 20})],
    "canary": [(FICTIONAL, {}), (KEYS, {"reach": 1}), (SUM, {})],
}
PAIRS = [(use, world, options) for use, cases in WORLDS.items() for world, options in cases]


@pytest.mark.parametrize(("use", "world", "options"), PAIRS)
def test_worlds_keep_their_promises_inside(use: str, world: str, options: Any) -> None:
    make = maker(world, [{"use": use, **options}])
    assert check_env(make, seeds=(0, 1), hostile=120) == []


@pytest.mark.slow
@pytest.mark.parametrize(("use", "world", "options"), PAIRS)
def test_gold_solves_200_of_200(use: str, world: str, options: Any) -> None:
    env = maker(world, [{"use": use, **options}])()
    assert [seed for seed in range(200) if not SURE(env, seed)] == []


# ---------------------------------------------------------------- the checks bite

LAX = """
from foldgym.envs.transforms.base import Knob, Play, Transform

class Lax(Transform):
    knob = Knob("n", (0, 1, 2), 0, 2, "nothing gets harder")
    play_type = Play

    def __init__(self, env, n: int = 1):
        super().__init__(env, n=n)

    def begin(self, now):
        self.env.reset(seed=now.seed, options=now.options)
        return self.env.task


class Leaky(Lax):
    def __init__(self, env, n: int = 1):
        super().__init__(env, n=n)
        self.off = False

    def facts(self, now, inner):
        return {"leak": 1}


class Deadly(Lax):
    def facts(self, now, inner):
        return {"success": False}
"""


@pytest.mark.parametrize(
    ("name", "check", "said"),
    [
        ("Lax", "knob", "success is the same at both ends"),
        ("Leaky", "identity", "seed 0: n = 0 is not the bare world"),
        ("Deadly", "gold", "level 1: the expert solves 0% of 6 seeds"),
    ],
)
def test_broken_promises_are_found(tmp_path: Any, name: str, check: str, said: str) -> None:
    file = tmp_path / "lax.py"
    file.write_text(LAX)
    findings = check_transform(f"{file}:{name}", KEYS, range(6))
    assert any(each.check == check and said in each.problem for each in findings), findings


def test_a_world_that_will_not_do_is_a_finding() -> None:
    (first, *_) = check_transform("masks", KEYS, range(2))
    assert first.check == "gold"
    assert "documents()" in first.problem
