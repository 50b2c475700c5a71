from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from itertools import combinations, pairwise

import pytest

from foldgym.envs.fictional import FictionalSearch
from foldgym.envs.fictional_world import RELATIONS, SPLITS, Size, build, names, paths
from foldgym.errors import UnknownName, UserError
from foldgym.seeding import generator
from foldgym.types import Message


def play(env: FictionalSearch, seed: int, style: str = "optimal") -> list[str]:
    """Every text of the episode that a scripted player makes."""
    env.reset(seed=seed)
    rng = generator("player", seed)
    texts = [env.task.prompt[0].text]
    while True:
        action = env.expert(style, rng)
        observation, _, terminated, truncated, _ = env.step(action)
        texts += [action.tool_calls[0].arguments, *(message.text for message in observation)]
        if terminated or truncated:
            return texts


def test_names_of_the_splits_are_disjoint_and_plenty() -> None:
    sizes = {split: len(names(split)) for split in SPLITS}
    assert sum(sizes.values()) == 96 * 96
    assert sizes["train"] > 6000
    assert min(sizes.values()) > 1000
    for one, other in combinations(SPLITS, 2):
        assert not set(names(one)) & set(names(other))


def test_no_relation_ties_a_type_to_itself() -> None:
    assert all(subject != value for subject, value in RELATIONS.values())


def test_paths_fit_by_type_and_repeat_nothing() -> None:
    assert {hops: len(found) for hops, found in paths().items()} == {
        1: 7, 2: 9, 3: 11, 4: 14, 5: 8, 6: 2,
    }  # fmt: skip
    for found in paths().values():
        for path in found:
            assert len(set(path)) == len(path)
            for here, there in pairwise(path):
                assert RELATIONS[here][1] == RELATIONS[there][0]


def test_a_world_has_every_fact_once() -> None:
    world = build("train", Size(), 5, generator("world"))
    # 32 people x 3, 12 seats, 8 halls, 14 regions, 8 rulers, and 5 distractors
    assert len(world.facts) == 32 * 3 + 12 + 8 + 14 + 8
    assert len(world.index.documents) == len(world.facts) + 5
    assert sum(d.text.startswith("visit of ") for d in world.index.documents) == 5


@pytest.mark.parametrize("split", SPLITS)
def test_optimal_player_is_always_right(split: str) -> None:
    env = FictionalSearch(split, hops=(1,) * 6, distractors=10)
    for seed in range(200):
        play(env, seed)
        facts = env.measure()
        assert facts["score"] == 1.0
        assert facts["read"] == facts["hops"]
        assert facts["turns"] <= facts["hops"] + 1  # a search may bring up two facts at once


def test_hasty_player_is_right_as_often_as_it_walks_to_the_end() -> None:
    env = FictionalSearch(hops=3, stop=0.5)
    scores = []
    for seed in range(400):
        play(env, seed, "hasty")
        scores.append(env.measure()["score"])
    # two chances to stop: 0.5 ** 2 = 0.25, standard deviation 0.022
    assert 0.16 < sum(scores) / 400 < 0.34
    play(env, 0, "hasty:0")
    assert env.measure()["success"] is True


def test_doing_nothing_scores_nothing() -> None:
    env = FictionalSearch(max_turns=2)
    env.reset(seed=0)
    assert env.measure()["score"] == 0.0
    assert not env.step(Message("assistant", "")).truncated
    assert env.step(Message("assistant", "")).truncated
    assert env.measure()["score"] == 0.0


def test_questions_have_the_hops_asked_for() -> None:
    env = FictionalSearch(hops=5)
    env.reset(seed=3)
    assert env.measure()["hops"] == 5
    assert env.task.prompt[0].text.count(" of ") == 5


def test_the_task_makes_its_episode_again() -> None:
    env, other = FictionalSearch(), FictionalSearch()
    env.reset(seed=11)
    other.reset(seed=12, options={"task": env.task})
    assert other.chain == env.chain
    with pytest.raises(UserError, match="was not made by"):
        FictionalSearch("val").reset(options={"task": env.task})


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'train'"):
        FictionalSearch("trian")
    for wrong in ({"hops": 0}, {"hops": 7}, {"hops": ()}, {"hops": (0, 0)}, {"top_k": 0}):
        with pytest.raises(UserError):
            FictionalSearch(**wrong)  # pyright: ignore[reportArgumentType]
    env = FictionalSearch()
    env.reset(seed=0)
    with pytest.raises(UnknownName, match="optimal"):
        env.expert("clever", generator())


def test_another_process_makes_the_same_episodes() -> None:
    program = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
    program += "import test_fictional; print(test_fictional.digest())"
    for seed in ("1", "2"):
        environ = {**os.environ, "PYTHONHASHSEED": seed}
        made = subprocess.check_output([sys.executable, "-c", program], env=environ, text=True)
        assert made.strip() == digest()


def digest() -> str:
    """A fingerprint of twenty episodes of each split."""
    texts = [play(FictionalSearch(split), seed) for split in SPLITS for seed in range(20)]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
