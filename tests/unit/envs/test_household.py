"""Generated houses, their players, game files, and episodes of the household."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldgym.envs.household.catalogue import OPENABLE, ROOMS, THINGS
from foldgym.envs.household.env import Household
from foldgym.envs.household.experts import plan, search
from foldgym.envs.household.games import find_games, read_game, write_game, write_problem
from foldgym.envs.household.houses import errands, furnish
from foldgym.envs.household.pddl import Problem, read_problem, read_tree
from foldgym.envs.household.rules import Act, after, won
from foldgym.envs.household.tasks import KINDS
from foldgym.envs.household.world import build
from foldgym.errors import DataError, UnknownName, UserError
from foldgym.seeding import generator
from foldgym.testing.validate import validate

SPLITS = ("train", "val", "test")
LIGHT = "look_at_obj_in_light"


def house(seed: int, receptacles: int = 14, things: int = 18) -> Problem:
    rng = generator(seed, "house")
    kinds = errands(tuple(KINDS), "train")
    return furnish(rng.choice(kinds[list(KINDS)[seed % 6]]), receptacles, things, rng)


# ---------------------------------------------------------------- houses


def test_the_catalogue_agrees_with_itself() -> None:
    kinds = {kind for furniture in ROOMS.values() for kind in furniture}
    assert kinds >= OPENABLE
    for name, thing in THINGS.items():
        assert thing.places <= kinds, name
        for room in thing.rooms:
            assert thing.places & ROOMS[room].keys(), (name, room)


def test_what_can_be_asked_for_belongs_to_one_split() -> None:
    asked = {
        split: {(e.kind, e.thing, e.target) for some in found.values() for e in some}
        for split in SPLITS
        for found in [errands(tuple(KINDS), split)]
    }
    assert not asked["train"] & asked["val"]
    assert not asked["train"] & asked["test"]
    assert not asked["val"] & asked["test"]
    total = sum(len(each) for each in asked.values())
    assert len(asked["val"]) == len(asked["test"]) == 83  # 31 + 2 + 9 + 4 + 6 + 31
    assert total == 867


@given(st.integers(0, 10**6), st.integers(8, 40), st.integers(2, 80))
@settings(max_examples=60)
def test_a_house_has_what_its_task_needs(seed: int, receptacles: int, things: int) -> None:
    problem = house(seed, receptacles, things)
    assert read_problem(write_problem(problem)) == problem
    world = build(problem)
    assert not won(world, world.start)
    acts = plan(world, world.start)
    assert acts is not None
    state = world.start
    for act in acts:
        assert not won(world, state)
        state = after(world, state, act)
    assert won(world, state)
    lying = [each for each, kind in problem.objects.items() if kind == "object"]
    assert len(lying) <= max(things, 3) + 1
    assert receptacles <= len(world.location) + 40  # a room has no more than it has


def test_how_large_a_house_is() -> None:
    for seed in range(30):
        world = build(house(seed, 12, 20))
        assert 9 <= len(world.location) <= 12
    grown = [build(house(seed, 20, 20)) for seed in range(30)]
    assert sum(len(world.location) for world in grown) > 30 * 17


def test_things_of_a_task_lie_neither_where_they_belong_nor_where_they_are_treated() -> None:
    machines = {"clean": "sinkbasin", "heat": "microwave", "cool": "fridge"}
    for seed in range(60):
        rng = generator(seed, "house")
        kind = list(KINDS)[seed % 6]
        errand = rng.choice(errands((kind,), "train")[kind])
        problem = furnish(errand, 14, 18, rng)
        machine = next((m for verb, m in machines.items() if verb in kind), "none")
        wanted = {
            f[1] for f in problem.facts if f[0] == "objecttype" and f[2] == f"{errand.thing}type"
        }
        assert len(wanted) >= KINDS[kind].copies
        types = {f[1]: f[2] for f in problem.facts if f[0] == "receptacletype"}
        for fact in problem.facts:
            if fact[0] == "inreceptacle" and fact[1] in wanted:
                assert types[fact[2]] not in (f"{errand.target}type", f"{machine}type")


# ---------------------------------------------------------------- players


def test_the_oracle_solves_200_of_200() -> None:
    env = Household()
    solved = 0
    for seed in range(200):
        env.reset(seed=seed)
        for turn in range(env.limit):
            step = env.step(env.expert("optimal", generator(seed, turn)))
            if step.terminated or step.truncated:
                break
        solved += env.measure()["success"]
    assert solved == 200


def test_players() -> None:
    optimal, searching, hasty, at_random, nobody = validate(lambda: Household(limit=30), 30)
    assert (searching.player, searching.score) == ("searching", 1.0)
    assert optimal.turns < searching.turns < hasty.turns
    assert hasty.score < 1.0
    assert (at_random.score, nobody.score) == (0.0, 0.0)


def test_the_searching_player_takes_only_what_it_has_seen() -> None:
    longer = 0
    for seed in range(12):
        env = Household()
        env.reset(seed=seed)
        shown = ""
        while not env.measure()["success"]:
            before = plan(env.game.world, env.state)
            action: Any = env.expert("searching", generator(seed))
            said = json.loads(action.tool_calls[0].arguments)["command"]
            if said.startswith("take "):
                assert f"a {said.split(' from ')[0].removeprefix('take ')}" in shown
            shown += env.step(action).observation[0].text
            after_it = plan(env.game.world, env.state)
            assert before is not None
            assert after_it is not None
            longer += len(after_it) >= len(before)
    assert longer > 12  # it does look in vain


def test_search_looks_into_everything() -> None:
    world = build(house(3))
    state, seen = world.start, frozenset[str]()
    acts: list[Act] = []
    while act := search(world, state, seen):
        acts.append(act)
        state = after(world, state, act)
        if act.verb != "go" or act.what not in world.openable:
            seen |= {act.what}
    assert seen == set(world.location)
    assert len(acts) <= 2 * len(seen)


GOALS = {
    "(forall (?r - receptacle) (or (not (openable ?r)) (opened ?r)))": "open",
    "(exists (?o - object) (and (issliced ?o) (iscool ?o) (exists (?a - agent) (holds ?a ?o))))": (
        "slice"
    ),
    "(exists (?r - receptacle) (exists (?o ?p - object) (and (issliced ?o) (inreceptacle ?o ?r) "
    "(receptacletype ?r fridgetype) (inreceptacle ?p ?r) (objecttype ?p mugtype))))": "move",
    "(not (exists (?o - object) (and (objecttype ?o mugtype) (not (isclean ?o)))))": "clean",
}


@pytest.mark.parametrize("goal", GOALS)
def test_goals_beyond_the_six_kinds(goal: str) -> None:
    """The planner reads the formula, so that slices and doors are no special cases."""
    errand = next(
        each
        for each in errands(("pick_cool_then_place_in_recep",), "train")[
            "pick_cool_then_place_in_recep"
        ]
        if each.thing == "apple"
    )
    problem = furnish(errand, 12, 10, generator(5))
    mugs = ("mug_bar_1", "mug_bar_2")
    counter = next(f[1] for f in problem.facts if f[0] == "receptacletype" and "counter" in f[2])
    where = next(f for f in problem.facts if f[0] == "receptacleatlocation" and f[1] == counter)[2]
    extra = [("knife_bar_1", "knifetype"), *((mug, "mugtype") for mug in mugs)]
    facts = list(problem.facts)
    for name, kind in extra:
        facts += [("objecttype", name, kind), ("pickupable", name), ("cleanable", name)]
        facts += [("inreceptacle", name, counter), ("objectatlocation", name, where)]
        facts += [("cancontain", f"{place}type", kind) for place in ("countertop", "fridge")]
    objects = {**problem.objects, **{name: "object" for name, _ in extra}}
    problem = replace(problem, facts=tuple(dict.fromkeys(facts)), objects=objects)
    world = build(replace(problem, goal=read_tree(goal)))
    acts = plan(world, world.start)
    assert acts is not None
    assert GOALS[goal] in {act.verb for act in acts}
    assert (
        plan(
            build(
                replace(
                    problem,
                    goal=read_tree("(isclean apple_bar_x)"),
                    objects={**problem.objects, "apple_bar_x": "object"},
                )
            ),
            world.start,
        )
        is None
    )


# ---------------------------------------------------------------- episodes


def test_an_episode() -> None:
    env = Household(limit=20)
    observation, info = env.reset(seed=1)
    assert observation[0].text.endswith(
        "Your task is to: clean some potato and put it in countertop."
    )
    assert info["admissible"][0] == "go to cabinet 1"
    assert not info["won"]
    step = env.step("sing")
    assert step.observation[0].text == "Nothing happens."
    facts = env.measure()
    assert facts["game"] == "pick_clean_then_place_in_recep-potato-countertop-kitchen"
    assert (facts["path"], facts["steps"], facts["idle"], facts["errors"]) == (0.0, 1, 1, 0)
    paths = [0.0]
    while not (step.terminated or step.truncated):
        assert step.reward == 0.0
        said: Any = env.expert("optimal", generator(1))
        command = json.loads(said.tool_calls[0].arguments)["command"]
        assert command in step.info["admissible"]
        step = env.step(f" {command}\n")  # plain text will do
        paths.append(env.measure()["path"])
    # one step is to clean it, one to take it, one to put it where it belongs
    assert paths == pytest.approx([0, 0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    assert step.reward == 1.0
    assert step.terminated
    assert step.info["won"]
    assert env.measure()["won"]


def test_the_limit_counts_commands() -> None:
    env = Household(limit=3)
    env.reset(seed=1)
    env.step("look")
    step = env.step(
        '[{"name": "act", "arguments": {"command": "look"}}, '
        '{"name": "act", "arguments": {"command": "help"}}, '
        '{"name": "act", "arguments": {"command": "inventory"}}]'
    )
    assert step.truncated
    assert not step.terminated
    assert [each.text for each in step.observation][2] == "error: not run, the episode is over"
    facts = env.measure()
    assert (facts["steps"], facts["turns"], facts["success"]) == (3, 2, False)


def test_options() -> None:
    env = Household(admissible="shown", dialect="put", tasks=[LIGHT], receptacles=10, things=6)
    observation, info = env.reset(seed=4)
    assert observation[0].text.endswith(f"Admissible commands: {', '.join(info['admissible'])}")
    assert "help" not in info["admissible"]
    assert env.step("look").observation[0].text.endswith("inventory, look")
    assert "desklamp" in env.game.task
    assert "admissible" not in Household(admissible="off").reset(seed=4)[1]
    plain, shuffled = Household(), Household(shuffle=True)
    for each in (plain, shuffled):
        each.reset(seed=6)
    assert plain.game.world.location.keys() == shuffled.game.world.location.keys()
    assert plain.game.world.names != shuffled.game.world.names
    assert sorted(plain.game.world.names.values()) == sorted(shuffled.game.world.names.values())


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"tasks": ["clean"]}, UnknownName, "unknown task 'clean'"),
        ({"tasks": []}, UserError, "at least one kind of task"),
        ({"dialect": "take"}, UnknownName, "unknown dialect 'take'"),
        ({"admissible": "yes"}, UnknownName, "unknown value of admissible 'yes'"),
        ({"limit": 0}, UserError, "limit must be at least 1, not 0"),
        ({"receptacles": 4}, UserError, "not 4 and 18"),
        ({"split": "dev"}, UnknownName, "unknown split 'dev'"),
        ({"games": "nowhere"}, DataError, "there is no .tw-pddl game to play in 'nowhere'"),
        ({"games": "nowhere", "things": 3}, UserError, "have no effect on given games"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], error: Any, said: str) -> None:
    with pytest.raises(error, match=said):
        Household(**options)


def test_a_game_can_only_be_chosen_among_games() -> None:
    with pytest.raises(UserError, match="there are none"):
        Household().reset(seed=1, options={"game": 0})


# ---------------------------------------------------------------- files


def test_a_bare_problem_is_played(tmp_path: Path) -> None:
    for seed in (1, 2):
        (tmp_path / f"{seed}.pddl").write_text(write_problem(house(seed)))
    env = Household(str(tmp_path / "2.pddl"))
    observation, _ = env.reset(seed=0)
    assert "Your task is to: put a clean " in observation[0].text  # the third kind of task
    assert env.measure()["game"] == "2.pddl"
    while not env.measure()["success"]:
        env.step(env.expert("optimal", generator(1)))
    assert env.reset(seed=1)[0] == observation
    shuffled = Household(str(tmp_path / "2.pddl"), shuffle=True)
    assert len({shuffled.reset(seed=seed)[0] for seed in range(4)}) > 1


def test_folders_of_games(tmp_path: Path) -> None:
    for folder in ("train/a", "train/b-movable", "train/look-BreadSliced", "valid_seen/c"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "game.tw-pddl").write_text("{}")
    assert [each.parent.name for each in find_games(tmp_path, "train")] == ["a"]
    assert [each.parent.name for each in find_games(tmp_path, "val")] == ["c"]
    with pytest.raises(DataError, match="has no folder 'valid_unseen' of the split 'test'"):
        find_games(tmp_path, "test")
    assert [each.parent.name for each in find_games(tmp_path / "valid_seen")] == ["c"]
    env = Household(str(tmp_path))
    with pytest.raises(UserError, match="game must be from 0 to 0, not 1"):
        env.reset(seed=1, options={"game": 1})


FOREIGN = "(define (domain d) (:action look :parameters (?a - agent) :effect (seen ?a)))"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "must be a JSON object"),
        ('{"pddl_domain": "x"}', "no text under 'grammar'"),
        (json.dumps({"pddl_domain": FOREIGN, "grammar": "", "pddl_problem": ""}), "action 'look'"),
        (
            json.dumps({"pddl_domain": "(define (domain d))", "grammar": "", "pddl_problem": ""}),
            "lacks the action 'cleanobject'; play it with foldgym.envs.textworld",
        ),
    ],
)
def test_what_is_no_game(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "game.tw-pddl"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_game(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the game"):
        read_game(tmp_path / "x.pddl")
    with pytest.raises(DataError, match="the grammar has no line 'Your task is to: UNKNOWN GOAL"):
        write_game(tmp_path / "x", house(0), "", "", "")
