"""Game files: `.tw-pddl` as ALFWorld ships them, bare `.pddl` problems, and how one is written."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from foldgym.envs.household.pddl import Problem, read_problem, write
from foldgym.envs.household.releases import check_domain, read_grammar
from foldgym.envs.household.tasks import described
from foldgym.envs.household.texts import DIALECTS, Dialect
from foldgym.envs.household.world import World, build
from foldgym.errors import DataError

_KEYS = ("pddl_domain", "grammar", "pddl_problem")
_NO_TASK = "Your task is to: UNKNOWN GOAL."
_FOLDERS = {"train": "train", "val": "valid_seen", "test": "valid_unseen"}
_UNSUPPORTED = ("movable", "Sliced")
"""Folders of ALFRED's tasks that ALFWorld leaves out."""


@dataclass(frozen=True, slots=True)
class Game:
    """A house to play in: `task` is the last line of the opening; `solvable` what the file says."""

    name: str
    world: World
    dialect: Dialect
    task: str
    solvable: bool = True


def read_game(path: str | Path, rng: random.Random | None = None) -> Game:
    """The game of a `.tw-pddl` file, or of a `.pddl` problem; `rng` shuffles its numbers.

    Raises `DataError` for a file that cannot be read, that is no such game, or whose own rules or
    wordings are not those of an ALFWorld release.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".pddl":
            problem = read_problem(text)
            return Game(path.name, build(problem, rng), DIALECTS["move"], described(problem.goal))
        return _read_json(text, path.name, rng)
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"cannot read the game {str(path)!r}: {problem}") from None
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None


def _read_json(text: str, name: str, rng: random.Random | None) -> Game:
    try:
        table: Any = json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise DataError(f"no JSON ({problem})") from None
    if not isinstance(table, dict):
        raise DataError("a game must be a JSON object")
    table = cast("dict[str, Any]", table)
    domain, grammar, problem = (_text(table, key) for key in _KEYS)
    dialect, task = read_grammar(grammar, check_domain(domain))
    solvable = table.get("solvable") is not False
    return Game(name, build(read_problem(problem), rng), dialect, task, solvable)


def _text(table: Mapping[str, Any], key: str) -> str:
    if not isinstance(table.get(key), str):
        raise DataError(f"the game has no text under {key!r}")
    return table[key]


@lru_cache
def find_games(where: Path, split: str = "train") -> tuple[Path, ...]:
    """The games under a path, in the order of their paths: a file itself, or a folder's `.tw-pddl`.

    A folder with ALFWorld's `train`, `valid_seen` and `valid_unseen` gives those of the split
    (train, val, test). Left out, as by ALFWorld: games of movable receptacles and of slices. Looked
    up once per process. Raises `DataError` if there is nothing to play.
    """
    if where.is_file():
        return (where,)
    folder = where / _FOLDERS[split]
    if not folder.is_dir():
        if split != "train":
            raise DataError(f"{where} has no folder {_FOLDERS[split]!r} of the split {split!r}")
        folder = where
    found = tuple(
        each
        for each in sorted(folder.rglob("*.tw-pddl"))
        if not any(word in str(each.relative_to(folder).parent) for word in _UNSUPPORTED)
    )
    if not found:
        raise DataError(f"there is no .tw-pddl game to play in {str(folder)!r}")
    return found


def write_problem(problem: Problem) -> str:
    """The PDDL text of a problem, which `read_problem` reads back as the same."""

    def lines() -> Iterator[str]:
        yield f"(define (problem {problem.name})"
        yield "(:domain alfred)"
        yield "(:objects"
        yield from (f"    {name} - {kind}" for name, kind in problem.objects.items())
        yield ")\n(:init"
        yield from (f"    {write(fact)}" for fact in problem.facts)
        yield f")\n(:goal {write(problem.goal)}))\n"

    return "\n".join(lines())


def write_game(
    path: str | Path,
    problem: Problem,
    task: str,
    domain: str,
    grammar: str,
    walkthrough: Sequence[str] = (),
) -> None:
    """Write a `.tw-pddl` game that TextWorld's engine plays, too.

    `domain` and `grammar` are the texts of ALFWorld's `alfred.pddl` and `alfred.twl2`, which are
    not ours to ship; `task` is the last line of the opening.
    """
    if _NO_TASK not in grammar:
        raise DataError(f"the grammar has no line {_NO_TASK!r} for the task to take the place of")
    said = json.dumps(task)[1:-1]
    game = {
        "pddl_domain": domain,
        "grammar": grammar.replace(_NO_TASK, said),
        "pddl_problem": write_problem(problem),
        "walkthrough": list(walkthrough),
        "solvable": True,
    }
    Path(path).write_text(json.dumps(game), encoding="utf-8")
