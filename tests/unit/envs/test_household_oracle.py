"""The household against ALFWorld itself: random walks, every answer equal to that of its engine.

Games are built when the test runs: houses of ours, some made strange, with ALFWorld's own domain
and grammar; rooms with the furniture of ALFRED's floor plans; and, where FOLDGYM_ALFRED names a
folder, the `.tw-pddl` games and `initial_state.pddl` problems in it (the first 30).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oracles import oracle_python

from foldgym.envs.household.games import Game, read_game, write_game
from foldgym.envs.household.houses import errands, furnish
from foldgym.envs.household.pddl import Atom, Problem, read_problem, read_tree
from foldgym.envs.household.rules import after, won
from foldgym.envs.household.tasks import KINDS, formula, sentence
from foldgym.envs.household.texts import NOTHING, admissible, feedback, opening
from foldgym.errors import DataError
from foldgym.seeding import generator

pytestmark = [pytest.mark.oracle, pytest.mark.slow]

SCRIPT = Path(__file__).parents[2] / "support" / "alfworld_replay.py"
SCENES = ("FloorPlan10", "FloorPlan201", "FloorPlan301", "FloorPlan401")
STEPS = 30
NONSENSE = ("", "dance", " look ", "go to nowhere 1", "take mug 1", "GO TO fridge 1")


def ask(question: dict[str, Any], folder: Path) -> Any:
    python = oracle_python("textworld", "alfworld", "fast_downward")
    answer = folder / "answer.json"
    done = subprocess.run(
        [python, str(SCRIPT), str(answer)],
        input=json.dumps(question),
        text=True,
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(answer.read_text())


@pytest.fixture(scope="module")
def alfworld(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """ALFWorld's own domain, grammar, tables and floor plans."""
    return ask({"scenes": list(SCENES)}, tmp_path_factory.mktemp("alfworld"))


def walk(game: Game, rng: random.Random) -> tuple[list[str], list[Any]]:
    """Random commands, most of them admissible, and what our household answers."""
    state, world = game.world.start, game.world
    commands, said = list[str](), list[Any]()
    text = opening(world, game.task)
    while True:
        known = admissible(game.dialect, world, state)
        said.append([text, list(known), int(won(world, state)), won(world, state)])
        if len(commands) == STEPS:
            said[0][2] = 0
            return commands, said
        dull = ("go ", "look", "inventory", "help")
        weights = [1 if each.startswith(dull) else 6 for each in known]
        usual = rng.choices(list(known), weights)[0]
        commands.append(usual if rng.random() < 0.92 else rng.choice(NONSENSE))
        act = known.get(commands[-1].strip())
        text = NOTHING
        if act is not None:
            state = after(world, state, act)
            text = feedback(game.dialect, world, state, act)


def compare(paths: Sequence[Path], folder: Path) -> None:
    """Walk through every game, and let the engine answer the same commands."""
    ours = [walk(read_game(path), generator(path.name, "walk")) for path in paths]
    games = [
        {"path": str(path), "commands": commands}
        for path, (commands, _) in zip(paths, ours, strict=True)
    ]
    theirs = ask({"games": games}, folder)
    changes = 0
    for path, (commands, said), their in zip(paths, ours, theirs, strict=True):
        for step, (own, other) in enumerate(zip(said, their["said"], strict=True)):
            assert own == other, f"{path}, step {step}: {commands[:step]}"
            changes += own[0] != NOTHING
    assert changes > 0.7 * STEPS * len(paths)


def house(seed: int) -> tuple[Problem, str]:
    rng = generator(seed, "oracle")
    kind = list(KINDS)[seed % 6]
    errand = rng.choice(errands((kind,), "train")[kind])
    problem = furnish(errand, rng.randint(8, 20), rng.randint(3, 30), rng)
    return problem, sentence(kind, errand.thing, errand.target, seed % 2)


def old(alfworld: dict[str, Any]) -> tuple[str, str]:
    """Domain and grammar as they were before December 2024."""
    domain, grammar = alfworld["domain"], alfworld["grammar"]
    for now, before in (
        ("You arrive at {r.name}.", "You arrive at {lend.name}."),
        ("move {o} to {r}", "put {o} in/on {r}"),
        ("You move the {o.name} to the {r.name}.", "You put the {o.name} in/on the {r.name}."),
    ):
        assert now in grammar
        grammar = grammar.replace(now, before)
    return domain[: domain.index("(:action help")] + ")", grammar[: grammar.index("action help")]


def test_generated_houses(alfworld: dict[str, Any], tmp_path: Path) -> None:
    """18 houses of all kinds of task, every third in the old dialect."""
    paths: list[Path] = []
    for seed in range(18):
        problem, task = house(seed)
        texts = old(alfworld) if seed % 3 == 2 else (alfworld["domain"], alfworld["grammar"])
        paths.append(tmp_path / f"{seed}.tw-pddl")
        write_game(paths[-1], problem, task, *texts)
    compare(paths, tmp_path)


GOALS = (
    "(and (forall (?r - receptacle) (or (not (openable ?r)) (opened ?r))))",
    "(or (exists (?o - object) (and (issliced ?o) (isclean ?o))) (holdsany agent1))",
    "(exists (?o - object) (and (not (isclean ?o)) (ison ?o) (toggleable ?o)))",
    "(forall (?o - object) (imply (istoggled ?o) (isclean ?o)))",
    "(exists (?a - agent ?l - location ?r - receptacle) (and (atlocation ?a ?l) "
    "(receptacleatlocation ?r ?l) (opened ?r) (exists (?o - object) (inreceptacle ?o ?r))))",
)
TASKS = (
    'Your task is to: put the "blue" mug; then go.',
    "Your task is to: put the mug (hot) where it's due, <b> all of it.",
    "  Your task: café, 50 % off.",
)


def strange(problem: Problem, seed: int) -> Problem:
    """Things in two places, in each other, marked, held; doors open; ids and goals unlike ours."""
    rng = generator(seed, "strange")
    things = [name for name, kind in problem.objects.items() if kind == "object"]
    places = [name for name, kind in problem.objects.items() if kind == "receptacle"]
    facts = list(problem.facts)
    for mark in ("isclean", "ishot", "iscool", "issliced", "istoggled", "ison", "toggleable"):
        facts += [(mark, thing) for thing in rng.sample(things, 2)]
    for ability in ("cleanable", "heatable", "coolable", "sliceable"):
        facts += [(ability, thing) for thing in rng.sample(things, 2)]
    facts += [("inreceptacle", thing, rng.choice(places)) for thing in rng.sample(things, 2)]
    facts += [("inreceptacleobject", thing, rng.choice(things)) for thing in rng.sample(things, 2)]
    facts += [("opened", place) for place in rng.sample(places, 3)]
    if seed % 3 == 0:  # begins in front of something
        here = next(f[2] for f in facts if f[0] == "receptacleatlocation" and f[1] == places[0])
        facts = [f for f in facts if f[0] != "atlocation"] + [("atlocation", "agent1", here)]
    if seed % 4 == 1:  # begins with something in its hands
        facts = [
            f
            for f in facts
            if f[1] != things[0] or f[0] not in ("inreceptacle", "objectatlocation")
        ]
        facts += [("holds", "agent1", things[0]), ("holdsany", "agent1")]
    names: dict[str, str] = {}
    if seed % 4 == 2:  # ids without a place in them
        names = {things[0]: "thing1", places[0]: "chest-2"}
    renamed: list[Atom] = [tuple(names.get(each, each) for each in fact) for fact in facts]
    return replace(
        problem,
        objects={names.get(name, name): kind for name, kind in problem.objects.items()},
        facts=tuple(dict.fromkeys(renamed)),
        goal=read_tree(GOALS[seed % len(GOALS)]) if seed % 2 else problem.goal,
    )


def test_strange_houses(alfworld: dict[str, Any], tmp_path: Path) -> None:
    paths: list[Path] = []
    for seed in range(10):
        problem, _ = house(100 + seed)
        texts = old(alfworld) if seed % 3 == 2 else (alfworld["domain"], alfworld["grammar"])
        paths.append(tmp_path / f"{seed}.tw-pddl")
        write_game(paths[-1], strange(problem, seed), TASKS[seed % 3], *texts)
    compare(paths, tmp_path)


def scene(name: str, alfworld: dict[str, Any]) -> tuple[Problem, str]:
    """A floor plan's own furniture, with things that it has strewn about by ALFRED's own tables."""
    rng = generator(name, "scene")
    plan = alfworld["scenes"][name]
    fits: dict[str, list[str]] = alfworld["fits"]
    objects: dict[str, str] = {"agent1": "agent"}
    facts: list[Atom] = [("atlocation", "agent1", "loc_bar_99_bar_99_bar_0_bar_0")]
    objects[facts[0][2]] = "location"
    kinds: dict[str, str] = {}

    def identifier(text: str) -> str:
        for sign, word in (("-", "minus"), ("|", "bar"), ("+", "plus"), (".", "dot")):
            text = text.replace(sign, f"_{word}_")
        return text.lower()

    for raw, (x, z, turn, tilt) in plan["openable"].items():
        kind = raw.split("|")[-1] if "Basin" in raw else raw.split("|")[0]
        each = identifier(raw)
        place = identifier(f"loc|{int(x * 4)}|{int(z * 4)}|{int(turn) // 90}|{int(tilt)}")
        objects |= {each: "receptacle", place: "location"}
        kinds[each] = kind
        facts += [
            ("receptacletype", each, f"{kind}type".lower()),
            ("receptacleatlocation", each, place),
        ]
        if kind in alfworld["openable"]:
            facts.append(("openable", each))
    at = {f[1]: f[2] for f in facts if f[0] == "receptacleatlocation"}
    lying = sorted(
        {each for each in plan["objects"] if any(each in fits.get(k, ()) for k in kinds.values())}
    )
    for kind in lying:
        for number in range(rng.randint(1, 2)):
            where = rng.choice([r for r, k in kinds.items() if kind in fits.get(k, ())])
            x, y, z = (f"{rng.uniform(-3, 3):+06.2f}" for _ in range(3))
            each = identifier(f"{kind}|{x}|{y}|{z}")
            objects[each] = "object"
            facts += [("objecttype", each, f"{kind}type".lower()), ("pickupable", each)]
            facts += [("inreceptacle", each, where), ("objectatlocation", each, at[where])]
            for name_, able in (
                ("cleanable", "Cleanable"),
                ("heatable", "Heatable"),
                ("coolable", "Coolable"),
                ("sliceable", "Sliceable"),
                ("toggleable", "Toggleable"),
            ):
                if kind in alfworld["able"][able]:
                    facts.append((name_, each))
            if kind in alfworld["vessels"] and number == 0:
                facts.append(("isreceptacleobject", each))
    rtypes = {"sinkbasin", "microwave", "fridge", *(each.lower() for each in kinds.values())}
    otypes = {"knife", "butterknife", *(each.lower() for each in lying)}
    objects |= {f"{each}type": "rtype" for each in sorted(rtypes)}
    objects |= {f"{each}type": "otype" for each in sorted(otypes)}
    facts += [
        ("cancontain", f"{place}type".lower(), f"{thing}type".lower())
        for place in sorted(set(kinds.values()))
        for thing in lying
        if thing in fits.get(place, ())
    ]
    _, place, thing = rng.choice([f for f in facts if f[0] == "cancontain"])
    wanted = (thing.removesuffix("type"), place.removesuffix("type"))
    goal = formula("pick_and_place_simple", *wanted)
    task = sentence("pick_and_place_simple", *wanted)
    return Problem(name, objects, tuple(dict.fromkeys(facts)), goal), task


def test_the_furniture_of_alfreds_own_floor_plans(alfworld: dict[str, Any], tmp_path: Path) -> None:
    paths: list[Path] = []
    for name in SCENES:
        problem, task = scene(name, alfworld)
        paths.append(tmp_path / f"{name}.tw-pddl")
        write_game(paths[-1], problem, task, alfworld["domain"], alfworld["grammar"])
    compare(paths, tmp_path)


def test_genuine_games(alfworld: dict[str, Any], tmp_path: Path) -> None:
    folder = os.environ.get("FOLDGYM_ALFRED")
    if not folder:
        pytest.skip("FOLDGYM_ALFRED names no folder with games of ALFWorld")
    games = sorted(Path(folder).rglob("*.tw-pddl"))
    bare = sorted(Path(folder).rglob("initial_state.pddl"))
    rng = generator("genuine")
    chosen = rng.sample(games, min(20, len(games)))
    for number, path in enumerate(rng.sample(bare, min(10, len(bare)))):
        game = tmp_path / f"bare-{number}.tw-pddl"
        problem = read_problem(path.read_text())
        write_game(game, problem, read_game(path).task, alfworld["domain"], alfworld["grammar"])
        table = json.loads(game.read_text())
        table["pddl_problem"] = path.read_text()  # theirs reads the file as it is
        game.write_text(json.dumps(table))
        chosen.append(game)
    assert chosen
    compare(chosen, tmp_path)


def test_a_grammar_of_another_kind_is_refused(alfworld: dict[str, Any], tmp_path: Path) -> None:
    problem, task = house(0)
    for word, other, said in (
        ("You close the", "You shut the", "its rule 'CloseObject.feedback' is not as in"),
        ("You arrive at", "You get to", "its rule 'GotoLocation.feedback' says"),
        ('"use {o}"', '"switch {o}"', "its toggleobject is the command 'switch {o}'"),
        ('"move {o} to {r}"', '"move {o}"', "where {o} and {r} should occur once"),
        (
            "Your task is to: UNKNOWN GOAL.",
            "Your task is to: UNKNOWN GOAL. #list_empty#",
            "computes",
        ),
    ):
        path = tmp_path / "game.tw-pddl"
        grammar = alfworld["grammar"].replace(word, other)
        write_game(path, problem, task, alfworld["domain"], grammar)
        with pytest.raises(DataError) as caught:
            read_game(path)
        assert said in str(caught.value)
        assert "play it with foldgym.envs.textworld:TextWorldGame" in str(caught.value)
    write_game(
        path,
        problem,
        task,
        alfworld["domain"].replace("(not (opened ?r))", ""),
        alfworld["grammar"],
    )
    with pytest.raises(DataError, match="its action 'openobject' is not as in ALFWorld's domain"):
        read_game(path)
    first, second = "(cleanable ?o)", "(holds ?a ?o)\n            )\n    :effect (and\n"
    cost = "                (increase (total-cost) 5)\n                (isClean ?o)"
    assert second + cost in alfworld["domain"]
    reordered = alfworld["domain"].replace(second + cost, f"{first} {second} (isClean ?o)")
    reordered = reordered.replace(f"{first}\n            (or", "(or")
    write_game(path, problem, task, reordered, alfworld["grammar"])
    assert read_game(path).task == task  # the same conditions, in another order and without a cost
