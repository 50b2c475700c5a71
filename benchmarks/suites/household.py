"""Steps per CPU second of the household and of ALFWorld on TextWorld's engine, in the same games.

The engine is asked in the oracles' Python (`make oracles`; `FOLDGYM_ORACLES` names another one).
Without it only our own figures are taken.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from foldgym.envs.household.env import Household
from foldgym.envs.household.games import read_game, write_game
from foldgym.envs.household.houses import errands, furnish
from foldgym.envs.household.rules import after
from foldgym.envs.household.tasks import KINDS, sentence
from foldgym.envs.household.texts import admissible, feedback
from foldgym.seeding import generator

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "support" / "alfworld_replay.py"
GAMES, STEPS, ROUNDS = 6, 40, 20


def ask(question: dict[str, Any], folder: Path) -> Any:
    python = Path(os.environ.get("FOLDGYM_ORACLES", ROOT / ".oracles")) / "bin" / "python"
    answer = folder / "answer.json"
    command = [str(python), str(SCRIPT), str(answer)]
    subprocess.run(command, input=json.dumps(question), text=True, check=True, capture_output=True)
    return json.loads(answer.read_text())


def commands_of(path: Path) -> list[str]:
    """A random walk; whoever wins goes on, as the engine does."""
    game, rng = read_game(path), generator(path.name)
    state, said = game.world.start, list[str]()
    for _ in range(STEPS):
        known = admissible(game.dialect, game.world, state)
        said.append(rng.choice(list(known)))
        state = after(game.world, state, known[said[-1]])
    return said


def rules_alone(path: Path, commands: list[str]) -> None:
    """What the engine does: act, say so, and list what can be done next."""
    game = read_game(path)
    state = game.world.start
    known = admissible(game.dialect, game.world, state)
    for command in commands:
        state = after(game.world, state, known[command])
        feedback(game.dialect, game.world, state, known[command])
        known = admissible(game.dialect, game.world, state)


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            texts: Any = ask({"scenes": []}, folder)
        except (OSError, subprocess.CalledProcessError):
            return {"steps_per_second": {"environment": round(environment())}}
        paths: list[Path] = []
        for seed, kind in enumerate(list(KINDS)[:GAMES]):
            rng = generator(seed, "benchmark")
            errand = rng.choice(errands((kind,), "train")[kind])
            paths.append(folder / f"{seed}.tw-pddl")
            task = sentence(kind, errand.thing, errand.target)
            house = furnish(errand, 20, 30, rng)
            write_game(paths[-1], house, task, texts["domain"], texts["grammar"])
        walks = [commands_of(path) for path in paths]
        games = [{"path": str(p), "commands": c} for p, c in zip(paths, walks, strict=True)]
        theirs = ask({"games": games}, folder)
        loading = time.process_time()
        for _ in range(ROUNDS):
            for path in paths:
                read_game(path)
        acting = time.process_time()
        for _ in range(ROUNDS):
            for path, commands in zip(paths, walks, strict=True):
                rules_alone(path, commands)
        ended = time.process_time()
    played, steps = len(paths) * ROUNDS, len(paths) * STEPS
    load = (acting - loading) / played
    ours = ROUNDS * steps / (ended - acting - (acting - loading))
    engine = steps / sum(each["step_seconds"] for each in theirs)
    return {
        "steps_per_second": {
            "TextWorld's engine": round(engine, 1),
            "our rules, words and admissible commands": round(ours),
            "our environment, messages and measures included": round(environment()),
        },
        "load_seconds": {
            "TextWorld's engine": round(sum(x["load_seconds"] for x in theirs) / len(theirs), 3),
            "ours": round(load, 4),
        },
        "times_faster": {"steps": round(ours / engine)},
    }


def environment(seconds: float = 1.5) -> float:
    """Steps per second of random admissible commands, new houses not counted."""
    env, rng = Household(receptacles=20, things=30), generator(1)
    steps, spent = 0, 0.0
    while spent < seconds:
        env.reset(seed=steps)
        started = time.process_time()
        for _ in range(env.limit):
            step = env.step(rng.choice(list(env.commands)))
            steps += 1
            if step.terminated or step.truncated:
                break
        spent += time.process_time() - started
    return steps / spent
