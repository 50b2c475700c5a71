"""Any stack of transforms on several worlds keeps what each of them promises."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foldgym.envs.registry import maker
from foldgym.envs.transforms.base import hook
from foldgym.errors import UserError
from foldgym.seeding import generator
from foldgym.types import Step

WORLDS: dict[str, dict[str, Any]] = {
    "foldgym/FictionalSearch-v0": {"people": 8},
    "foldgym/Arithmetic-v0": {},
    "foldgym/KeyDoor-v0": {"rooms": 4},
    "foldgym/RunningSum-v0": {"turns": 4},
}


def layer(use: str, **options: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"use": st.just(use), **options})


FORM = st.sampled_from(["joint", "each"])
LAYERS = st.one_of(
    layer("objectives", k=st.integers(1, 3), form=FORM, separator=st.sampled_from([";", "|"])),
    layer("chain", n=st.integers(1, 3), form=FORM, score=st.sampled_from(["all", "last", "mean"])),
    layer("prefill", fraction=st.sampled_from([0.0, 0.3, 0.7, 1.0])),
    layer("masks", k=st.integers(0, 3)),
    layer(
        "interrupt",
        fraction=st.sampled_from([0.0, 0.5, 1.0]),
        mode=st.sampled_from(["soft", "update"]),
    ),
    layer("distractors", words=st.integers(0, 30), place=st.sampled_from(["before", "after"])),
    layer("toolset", n=st.integers(1, 30), hidden=st.booleans()),
    layer("canary", reach=st.integers(0, 2)),
)
FAULTS = layer("faults", p=st.sampled_from([0.0, 0.2, 0.5]), sticky=st.integers(1, 3))


@st.composite
def stacks(draw: Any) -> tuple[str, list[dict[str, Any]]]:
    """Up to three transforms, faults on the outside."""
    world = draw(st.sampled_from(sorted(WORLDS)))
    found = draw(st.lists(LAYERS, min_size=1, max_size=3))
    return world, found + draw(st.lists(FAULTS, max_size=1))


def begun(world: str, stack: list[dict[str, Any]], seed: int) -> Any:
    """An environment after its reset; None for a stack that is refused in a sentence."""
    try:
        env: Any = maker(world, stack, **WORLDS[world])()
        env.reset(seed=seed, options={"episode": 1})
    except UserError:
        return None
    return env


def play(env: Any, seed: int, chance: float) -> list[Any]:
    """An expert who says anything with probability `chance`; all that was seen."""
    seen: list[Any] = [env.task, [each.name for each in env.tools]]
    env.action_space.seed(seed)
    for turn in range(300):
        dice = generator(seed, "play", turn)
        wild = dice.random() < chance
        action = env.action_space.sample() if wild else env.expert(env.experts[0], dice)
        step = Step(*env.step(action))
        seen.append(step)
        assert step.observation
        if step.terminated or step.truncated:
            break
    return [*seen, env.measure()]


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(stacks(), st.integers(0, 10**6))
def test_experts_solve_every_stack(drawn: tuple[str, Any], seed: int) -> None:
    env = begun(*drawn, seed)
    if env is None:
        return
    *_, last, facts = play(env, seed, 0.0)
    assert facts["success"], (drawn, seed, facts)
    assert last.terminated
    env.close()


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(stacks(), st.integers(0, 10**6))
def test_stacks_repeat_themselves_and_can_be_forked(drawn: tuple[str, Any], seed: int) -> None:
    first, second = begun(*drawn, seed), begun(*drawn, seed)
    if first is None:
        assert second is None
        return
    snapshot = first.snapshot()
    played = play(first, seed, 0.5)
    assert played == play(second, seed, 0.5)
    first.restore(snapshot)
    assert played == play(first, seed, 0.5)
    turns = len(played) - 3
    assert played[-1]["turns"] == turns
    assert 0.0 <= played[-1]["score"] <= 1.0
    limit = hook(first, "max_turns")
    assert limit is None or turns <= limit
    for env in (first, second):
        env.close()


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(sorted(WORLDS)), st.integers(0, 10**6), st.permutations(range(8)))
def test_a_stack_of_first_levels_is_the_bare_world(world: str, seed: int, order: Any) -> None:
    zero: list[dict[str, Any]] = [
        {"use": "objectives", "k": 1},
        {"use": "chain", "n": 1},
        {"use": "prefill", "fraction": 1.0},
        {"use": "masks", "k": 0},
        {"use": "interrupt", "fraction": 1.0},
        {"use": "distractors", "words": 0},
        {"use": "faults", "p": 0.0},
        {"use": "canary", "reach": 0},
    ]
    bare = begun(world, [], seed)
    same = begun(world, [zero[place] for place in order], seed)
    assert repr(play(bare, seed, 0.5)) == repr(play(same, seed, 0.5))
    assert bare.action_space == same.action_space


def test_the_property_meets_many_kinds_of_stacks() -> None:
    """Most drawn stacks are played, so that the properties say something."""
    played = refused = 0
    for seed in range(6):
        for world in WORLDS:
            for use in ("objectives", "chain", "masks", "prefill", "toolset"):
                options = {"form": "each"} if use in ("objectives", "chain") else {}
                found = begun(world, [{"use": use, **options}, {"use": "canary"}], seed)
                played, refused = played + (found is not None), refused + (found is None)
    assert played > 3 * refused


@pytest.mark.parametrize("world", sorted(WORLDS))
def test_the_worlds_of_this_page_have_experts(world: str) -> None:
    assert maker(world, **WORLDS[world])().experts
